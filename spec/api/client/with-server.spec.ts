/** The client, and the verbs on it, with the server as it is: its door over a fleet that is played. */
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EstaloClient } from "../../../src/api/client/client.js";
import type { FleetEvent } from "../../../src/api/client/types.js";
import { complete } from "../../../src/cli/fleet/index.js";
import { DoorHost, until } from "../../support/door-host.js";
import { captured, fleetCommand } from "../../support/fleet-command.js";

let host: DoorHost;
let client: EstaloClient;

beforeEach(async () => {
  host = await DoorHost.open();
  client = new EstaloClient({ host: `unix://${host.path}`, timeoutMs: 20_000 });
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await host.close();
});

const POWEROFF = { reason: "poweroff", guestStatus: 7, error: undefined, exitCode: 7 } as const;

describe("the client and the server", () => {
  it("agree on a microVM's life", async () => {
    const { microvms } = client;
    const spec = { name: "web", labels: { team: "blue" }, config: { memoryMib: 64 }, start: false };
    const { id, state } = await microvms.create(spec, { idempotencyKey: "one" });
    expect(state).toBe("configured");
    expect((await microvms.create(spec, { idempotencyKey: "one" })).id).toBe(id);
    await expect(microvms.create({ name: "web" })).rejects.toMatchObject({
      code: "ERR_ESTALO_NAME_TAKEN",
    });
    expect((await microvms.start("web")).state).toBe("running");
    await expect(microvms.start(id)).rejects.toMatchObject({ code: "ERR_ESTALO_STATE" });
    expect((await microvms.pause(id)).state).toBe("paused");
    expect((await microvms.resume(id)).state).toBe("running");
    await microvms.ctrlAltDelete(id);
    const [vcpu] = (await microvms.metrics(id)).vcpus;
    expect(vcpu.cpuMs).toBeGreaterThan(0);
    const waiting = microvms.wait(id);
    await until(() => host.fleet.waiting === 1, "the client waits");
    host.fleet.machine(id).say("bye\n");
    host.fleet.machine(id).end(POWEROFF);
    expect((await waiting).exit).toEqual({ ...POWEROFF, error: null });
    expect(Buffer.from(await microvms.logs(id)).toString()).toBe("bye\n");
    expect(Buffer.from(await microvms.logs(id, { tailBytes: 2 })).toString()).toBe("e\n");
    expect((await microvms.update(id, { name: "old", labels: {} })).name).toBe("old");
    expect((await microvms.stop(id, { timeoutMs: 1 })).state).toBe("stopped");
    expect((await microvms.kill(id)).state).toBe("stopped");
    await microvms.delete(id);
    await expect(microvms.get(id)).rejects.toMatchObject({ code: "ERR_ESTALO_NOT_FOUND" });
    await expect(microvms.create({ config: { vcpuCount: 99 } })).rejects.toMatchObject({
      family: "config",
    });
  });

  it("agree on lists of any length", async () => {
    for (let count = 0; count < 25; count++) {
      const labels = { odd: String(count % 2) };
      await client.microvms.create({ name: `vm${count}`, labels, start: count < 5 });
    }
    const names: string[] = [];
    const query = { labels: { odd: "1" }, limit: 3 };
    for await (const { name } of client.microvms.all(query)) names.push(name);
    expect(names).toEqual(Array.from({ length: 12 }, (_, index) => `vm${2 * index + 1}`));
    const states = ["running", "paused"] as const;
    expect((await client.microvms.list({ states })).items.length).toBe(5);
    expect((await client.microvms.list({ name: "vm3" })).items.length).toBe(1);
  });

  it("agree on what the server says of itself", async () => {
    const info = await client.info();
    expect(info).toMatchObject({ version: "0.0.0", apiVersion: "v1", microvms: { running: 0 } });
    expect(info.guest?.bootArgs).toContain("root=");
    expect(await client.health()).toEqual({ status: "ok" });
    expect(await client.prometheus()).toContain("estalo_");
  });

  it("agree on events: filtered, resumed, once", async () => {
    const events = client.events({ since: 0 });
    const taken: FleetEvent[] = [];
    for (let count = 0; count < 50; count++) await client.microvms.create({ start: false });
    while (taken.length < 50) taken.push((await events.next()).value as FleetEvent);
    expect(taken.map(({ sequence }) => sequence)).toEqual(
      Array.from({ length: 50 }, (_, index) => index + 1),
    );
    await events.return?.();
    const { id } = await client.microvms.create({ name: "last", start: false });
    await client.microvms.start(id);
    const types: string[] = [];
    const options = {
      since: 10,
      microvms: [id],
      types: ["created", "state"],
      untilNewest: true,
    } as const;
    for await (const { type } of client.events(options)) types.push(type);
    expect(types).toEqual(["created", "state"]);
    await expect(client.events({ since: 10_000 }).next()).rejects.toMatchObject({
      code: "ERR_ESTALO_EVENTS_GAP",
    });
  });

  it("agree on consoles: history, typing, much of it, the end", async () => {
    const { id } = await client.microvms.create({});
    host.fleet.machine(id).say("before\n");
    const console = client.console(id);
    const shown = text(console);
    await once(console, "ready");
    console.resize(80, 24);
    const typed = "0123456789abcdef".repeat(50_000);
    console.write(typed);
    await until(() => host.fleet.machine(id).input.length === typed.length, "it is typed");
    expect(host.fleet.machine(id).input).toBe(typed);
    const machine = host.fleet.machine(id);
    machine.say("after\n");
    machine.end(POWEROFF);
    expect(await shown).toBe("before\nafter\n");
    expect(await text(client.console(id, { write: false }))).toBe("before\nafter\n");
    const [error] = await once(client.console("nobody").resume(), "error");
    expect(error).toMatchObject({ code: "ERR_ESTALO_NOT_FOUND" });
  });

  it("agree that a guest which does not read makes its writer wait", async () => {
    const { id } = await client.microvms.create({});
    host.fleet.machine(id).appetiteBytes = 1000;
    const console = client.console(id).resume();
    await once(console, "ready");
    let isWritten = false;
    console.write(Buffer.alloc(2 ** 20), () => {
      isWritten = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect([isWritten, console.destroyed]).toEqual([false, false]);
    console.destroy();
  });

  it("agree when the server goes: streams say so", async () => {
    const { id } = await client.microvms.create({});
    const console = client.console(id).resume();
    await once(console, "ready");
    const failed = once(console, "error");
    await host.door.close();
    expect((await failed)[0]).toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    await expect(client.info()).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
  });
});

describe("the verbs and the server", () => {
  const estalo = (...words: string[]) => fleetCommand(`unix://${host.path}`, ...words);

  it("agree from run -d to rm", async () => {
    const { stdout } = await estalo("run", "-d", "--name", "web", "--label", "a=b", "--", "true");
    const id = stdout.trim();
    expect(host.fleet.get("web")).toMatchObject({ id, labels: { a: "b" }, state: "running" });
    expect(host.fleet.get("web").config.bootArgs).toContain("estalo.cmd=true");
    expect((await estalo("ps", "-q", "--filter", "label=a=b")).stdout).toBe(`${id}\n`);
    expect(await estalo("pause", "web")).toEqual({ status: 0, stdout: "web\n", stderr: "" });
    expect((await estalo("ps", "--filter", "state=paused")).stdout).toContain("paused");
    await estalo("resume", "web");
    host.fleet.machine("web").say("one\ntwo\n");
    expect((await estalo("logs", "-n", "1", "web")).stdout).toBe("two\n");
    const followed = estalo("console", "--no-stdin", "web");
    const waited = client.microvms.wait("web");
    await until(() => host.fleet.waiting === 1, "the client waits");
    host.fleet.machine("web").end(POWEROFF);
    await waited;
    expect(await followed).toMatchObject({ status: 7, stdout: "one\ntwo\n" });
    expect(await estalo("wait", "web")).toMatchObject({ status: 7, stdout: "7\n" });
    expect((await estalo("ps", "-a")).stdout).toMatch(/web +stopped \(7\) less than a second ago/);
    expect(JSON.parse((await estalo("inspect", "web")).stdout)[0].exit.guestStatus).toBe(7);
    expect(
      (await captured(() => complete(["start", `--host=unix://${host.path}`], 20_000))).stdout,
    ).toBe("web\n");
    const events = (await estalo("events", "--since=0", "--no-follow", "--json")).stdout;
    expect(
      events
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line).type),
    ).toContain("created");
    expect(await estalo("rm", "web")).toMatchObject({ status: 0, stdout: "web\n" });
    expect((await estalo("ps", "-aq")).stdout).toBe("");
  });

  it("agree on what microVMs use", async () => {
    await estalo("run", "-d", "--name", "web");
    const { stdout } = await estalo("stats", "--no-stream", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ name: "web", cpuPercent: expect.any(Number) });
    expect((await estalo("top", "--no-stream", "web")).stdout).toContain("data");
  });
});
