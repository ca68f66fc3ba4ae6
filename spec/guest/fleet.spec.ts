/**
 * A fleet of real microVMs with guests of a few instructions: many beside each other, one server that is
 * killed, and what is left after many lives.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Fleet, type FleetEvent, type FleetSpec } from "estalo";
import { afterAll, afterEach, describe, expect, it, onTestFinished } from "vitest";
import { holdings } from "../support/guest-host.js";
import { GUEST_PATIENCE_MS } from "../support/guest-report.js";
import { print, Scratch, TINY_GUESTS } from "../support/tiny-guest.js";

const scratch = new Scratch();
const fleets: Fleet[] = [];
let folders = 0;

afterEach(async () => {
  for (const fleet of fleets.splice(0)) await fleet.close({ timeoutMs: 0 });
});
afterAll(() => scratch[Symbol.dispose]());

const newFolder = () => join(scratch.path, `state-${folders++}`);

async function open(stateDir = newFolder()): Promise<Fleet> {
  const fleet = await Fleet.open({ stateDir });
  fleets.push(fleet);
  return fleet;
}

function guest(program: readonly number[], more: Omit<FleetSpec, "config"> = {}): FleetSpec {
  const kernel = scratch.guest(`guest-${folders++}`, program);
  return { config: { kernel, bootArgs: "", memoryMib: 32 }, ...more };
}

const patience = () => ({ signal: AbortSignal.timeout(GUEST_PATIENCE_MS) });

async function until(condition: () => boolean): Promise<void> {
  const { signal } = patience();
  while (!condition()) {
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("five microVMs in one fleet", () => {
  it("live and end for themselves", async () => {
    const fleet = await open();
    const toNowhere = [...print("x", []), 0xb8, 0, 0, 0, 0x30, 0xff, 0xe0];
    await fleet.create(guest(TINY_GUESTS.spin, { name: "spins" }));
    await fleet.create(guest(TINY_GUESTS.halt, { name: "sleeps" }));
    await fleet.create(guest(print("bye", TINY_GUESTS.poweroff), { name: "ends" }));
    await fleet.create(guest(toNowhere, { name: "fails" }));
    await fleet.create(guest(TINY_GUESTS.tripleFault, { name: "faults" }));
    expect((await fleet.wait("ends", patience())).exit?.reason).toBe("poweroff");
    expect((await fleet.wait("faults", patience())).exit?.reason).toBe("triple-fault");
    expect(await fleet.wait("fails", patience())).toMatchObject({
      state: "failed",
      exit: { error: { code: "ERR_ESTALO_VCPU_STOPPED" } },
    });
    expect(fleet.counts()).toMatchObject({ running: 2, stopped: 2, failed: 1 });
    expect(Buffer.from(fleet.consoleLog("ends")).toString()).toBe("bye");
    expect(fleet.metrics("ends")?.vcpus[0].exitIoOut).toBeGreaterThanOrEqual(4);

    await fleet.pause("spins");
    expect((await fleet.kill("sleeps")).exit?.reason).toBe("killed");
    expect((await fleet.resume("spins")).state).toBe("running");
    expect((await fleet.stop("spins", { timeoutMs: 50 })).exit?.reason).toBe("killed");
    expect((await fleet.start("ends")).restartCount).toBe(0);
    expect((await fleet.wait("ends", patience())).exit?.reason).toBe("poweroff");
    expect(fleet.counters).toMatchObject({ starts: 6, failures: 1, storeErrors: 0 });
  });
});

describe("a microVM that ends by itself", () => {
  it("is restarted by its policy, and not any more when its tries are over", async () => {
    const fleet = await open();
    const restart = { policy: "on-failure", maxRetries: 2 } as const;
    const { record } = await fleet.create(guest(TINY_GUESTS.panic, { name: "panics", restart }));
    expect(record.state).not.toBe("configured");
    const ended = await fleet.wait("panics", patience());
    expect(ended).toMatchObject({ restartCount: 2, exit: { reason: "panic" } });
    await new Promise((resolve) => setImmediate(resolve));
    const events = fleet.events.since(0) as FleetEvent[];
    expect(events.filter(({ type }) => type === "exited")).toHaveLength(3);
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
  });
});

describe("a server that is killed", () => {
  it("leaves what ran lost, its policy honoured, and no event lost or told twice", async () => {
    const stateDir = newFolder();
    const specs = [
      guest(TINY_GUESTS.spin, { name: "ran" }),
      guest(TINY_GUESTS.halt, { name: "always", restart: { policy: "always" } }),
      guest(TINY_GUESTS.poweroff, { name: "ended" }),
    ];
    const script = `
      import { Fleet } from "estalo";
      const fleet = await Fleet.open({ stateDir: ${JSON.stringify(stateDir)} });
      fleet.events.subscribe((event) => console.log(JSON.stringify(event)));
      for (const spec of ${JSON.stringify(specs)}) await fleet.create(spec);
      await fleet.wait("ended");
      setInterval(() => {}, 1000);
      setImmediate(() => console.log("ready"));`;
    const server = spawn(process.execPath, ["--input-type=module", "-e", script]);
    onTestFinished(() => void server.kill("SIGKILL"));
    let output = "";
    server.stdout.setEncoding("utf8").on("data", (chunk) => {
      output += chunk;
    });
    await until(() => output.includes("ready\n"));
    await expect(Fleet.open({ stateDir })).rejects.toMatchObject({
      code: "ERR_ESTALO_STATE_LOCKED",
      data: { folder: stateDir, pid: server.pid },
    });
    server.kill("SIGKILL");
    await once(server, "close");

    const told = output
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as FleetEvent);
    const fleet = await open(stateDir);
    const reason = `its server, process ${server.pid}, died while it ran`;
    expect(fleet.get("ran")).toMatchObject({ state: "lost", lostReason: reason });
    expect(fleet.get("ended")).toMatchObject({ state: "stopped", exit: { reason: "poweroff" } });
    await until(() => fleet.get("always").state === "running");
    const all = JSON.parse(JSON.stringify(fleet.events.since(0))) as FleetEvent[];
    expect(all.slice(0, told.length)).toEqual(told);
    expect(all.map(({ sequence }) => sequence)).toEqual(all.map((_, index) => index + 1));
    expect(all.filter(({ type }) => type === "lost").map(({ name }) => name)).toEqual([
      "ran",
      "always",
    ]);
    expect((await fleet.start("ran")).state).toBe("running");
  });
});

describe("fifty microVMs made, run and removed in one fleet", () => {
  it("leave descriptors and threads as they were", async () => {
    const fleet = await open();
    const spec = guest(print("hello", TINY_GUESTS.poweroff), { name: "one" });
    const life = async () => {
      await fleet.create(spec);
      expect((await fleet.wait("one", patience())).exit?.reason).toBe("poweroff");
      await fleet.remove("one");
    };
    // Until its kernel is old enough that the process keeps an image of it.
    const warmUntilMs = Date.now() + 3000;
    let lives = 0;
    while (lives < 10 || Date.now() < warmUntilMs) {
      await life();
      lives += 1;
    }
    const before = holdings();
    for (let index = 0; index < 50; index += 1) await life();
    const after = holdings();
    expect(after.descriptors).toBeLessThanOrEqual(before.descriptors);
    expect(after.threads).toBeLessThanOrEqual(before.threads);
    expect(fleet.list().items).toEqual([]);
    expect(fleet.counters).toMatchObject({
      created: lives + 50,
      removed: lives + 50,
      failures: 0,
      storeErrors: 0,
    });
  });
});
