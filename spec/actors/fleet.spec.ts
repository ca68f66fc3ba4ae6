/**
 * The fleet with played supervisors and a real state folder: what a caller sees of creation, lists, names,
 * keys, restarts, and of a server that died. fleet-member.spec.ts has the calls of one microVM in every order.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { Fleet, type FleetOptions } from "../../src/actors/fleet.js";
import type { FleetEvent, FleetSpec } from "../../src/actors/fleet-messages.js";
import { EstaloError } from "../../src/errors.js";
import { Stage } from "../support/played-supervisor.js";
import { smallFileSystem } from "../support/small-file-system.js";

const folders: string[] = [];
const fleets: Fleet[] = [];

function stateDir(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-fleet-"));
  folders.push(folder);
  return folder;
}

async function open(stage: Stage, options: Partial<FleetOptions> = {}): Promise<Fleet> {
  const fleet = await Fleet.open({
    stateDir: options.stateDir ?? stateDir(),
    makeSupervisor: stage.make,
    ...options,
  });
  fleets.push(fleet);
  return fleet;
}

afterEach(async () => {
  for (const fleet of fleets.splice(0)) await fleet.close({ timeoutMs: 0 });
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const KERNEL = { kernel: "vmlinux" };
const spec = (more: Partial<FleetSpec> = {}): FleetSpec => ({ config: KERNEL, ...more });
const code = (name: string) => expect.objectContaining({ code: name });

async function codeOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return (error as EstaloError).code;
  }
}

/** All events from the first kept one on, as their types with states. */
function told(fleet: Fleet): string[] {
  const events = fleet.events.since(fleet.events.oldest - 1) as FleetEvent[];
  return events.map((event) => (event.type === "state" ? `state ${event.state}` : event.type));
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("Fleet.create", () => {
  it("starts a microVM and gives its record", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const { record, isNew } = await fleet.create(spec({ name: "web", labels: { tier: "front" } }));
    expect(isNew).toBe(true);
    expect(record).toMatchObject({ name: "web", state: "running", labels: { tier: "front" } });
    expect(record.startedAtMs).toBeGreaterThanOrEqual(record.createdAtMs);
    expect(stage.last.config.id).toBe(record.id);
    expect(fleet.get("web")).toBe(fleet.get(record.id));
    expect(fleet.counts()).toMatchObject({ running: 1, configured: 0 });
  });

  it("makes nothing when it is not to start, but checks what it is given", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const { record } = await fleet.create(spec({ start: false }));
    expect(record).toMatchObject({ state: "configured", name: record.id });
    expect(stage.made).toEqual([]);
    expect(await codeOf(() => fleet.create({ config: { memoryMib: 1 }, start: false }))).toBe(
      "ERR_ESTALO_MEMORY_TOO_SMALL",
    );
    expect(fleet.list().items).toHaveLength(1);
  });

  it.each(["make", "start"] as const)(
    "leaves nothing of a microVM whose %s fails, and says why",
    async (step) => {
      const stage = new Stage();
      const fleet = await open(stage);
      stage.failing.set(step, new EstaloError("ERR_ESTALO_KERNEL_FILE", "no kernel"));
      const always = spec({ name: "web", restart: { policy: "always" } });
      const create = () => fleet.create(always, { idempotencyKey: "k" });
      expect(await codeOf(create)).toBe("ERR_ESTALO_KERNEL_FILE");
      expect(fleet.list().items).toEqual([]);
      expect(stage.living.size).toBe(0);
      expect(fleet.counters).toMatchObject({ created: 1, removed: 1, starts: 1, failures: 1 });
      await turn();
      expect(told(fleet).slice(-3)).toEqual(["state failed", "exited", "deleted"]);
      stage.failing.clear();
      expect((await create()).isNew).toBe(true);
    },
  );

  it("makes one anew of the key of a creation that failed, also in the same turn", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    stage.failing.set("start", new EstaloError("ERR_ESTALO_KERNEL_FILE", "no kernel"));
    const create = () => fleet.create(spec({ name: "web" }), { idempotencyKey: "k" });
    for (let attempt = 0; attempt < 3; attempt += 1) {
      expect(await codeOf(create)).toBe("ERR_ESTALO_KERNEL_FILE");
    }
    stage.failing.clear();
    const made = await create();
    expect(made).toMatchObject({ isNew: true, record: { state: "running" } });
    await turn();
    expect(await create()).toMatchObject({ isNew: false, record: { id: made.record.id } });
  });

  it("refuses names and ids that others have, as names and as ids", async () => {
    const fleet = await open(new Stage());
    await fleet.create(spec({ name: "web", config: { ...KERNEL, id: "id-1" } }));
    const taken = [
      spec({ name: "web" }),
      spec({ name: "id-1" }),
      spec({ config: { ...KERNEL, id: "id-1" } }),
      spec({ config: { ...KERNEL, id: "web" } }),
    ];
    for (const other of taken) {
      expect(await codeOf(() => fleet.create(other))).toBe("ERR_ESTALO_NAME_TAKEN");
    }
    await fleet.remove("web", { force: true });
    for (const other of taken.slice(2)) expect((await fleet.create(other)).isNew).toBe(true);
  });

  it("makes one microVM of a key, also when asked again at once, after its end, and by the next server", async () => {
    const stage = new Stage();
    const dir = stateDir();
    const fleet = await open(stage, { stateDir: dir });
    const create = (on: Fleet) =>
      on.create(spec({ name: "job", autoRemove: true }), { idempotencyKey: "k" });
    const [first, second] = await Promise.all([create(fleet), create(fleet)]);
    expect([first.isNew, second.isNew]).toEqual([true, false]);
    expect(second.record).toEqual(first.record);
    expect(await codeOf(() => fleet.create(spec({ name: "x" }), { idempotencyKey: "k" }))).toBe(
      "ERR_ESTALO_IDEMPOTENCY",
    );
    await stage.last.end("poweroff", 3);
    expect(fleet.list().items).toEqual([]);
    // In the same turn, before that is stored, and after.
    for (const wait of [() => {}, turn]) {
      await wait();
      const again = await create(fleet);
      expect(again).toMatchObject({ isNew: false, record: { id: first.record.id } });
      expect(again.record.exit?.exitCode).toBe(3);
    }
    await fleet.close();
    const next = await open(stage, { stateDir: dir });
    expect(await create(next)).toMatchObject({ isNew: false, record: { name: "job" } });
    expect(stage.made).toHaveLength(1);
  });

  it("forgets a key after a day", async () => {
    vi.useFakeTimers({ toFake: ["Date"] });
    try {
      const fleet = await open(new Stage());
      const create = () => fleet.create(spec(), { idempotencyKey: "k" });
      await create();
      vi.setSystemTime(Date.now() + 24 * 3_600_000 - 1);
      expect((await create()).isNew).toBe(false);
      vi.setSystemTime(Date.now() + 1);
      expect((await create()).isNew).toBe(true);
      expect((await create()).isNew).toBe(false);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("Fleet.list", () => {
  it("filters by state, name and labels", async () => {
    const fleet = await open(new Stage());
    await fleet.create(spec({ name: "a", labels: { tier: "x", zone: "1" } }));
    await fleet.create(spec({ name: "b", labels: { tier: "x" }, start: false }));
    const names = (query: object) => fleet.list(query).items.map(({ name }) => name);
    expect(names({})).toEqual(["a", "b"]);
    expect(names({ states: ["running"] })).toEqual(["a"]);
    expect(names({ states: ["running", "configured"] })).toEqual(["a", "b"]);
    expect(names({ name: "b" })).toEqual(["b"]);
    expect(names({ labels: { tier: "x" } })).toEqual(["a", "b"]);
    expect(names({ labels: { tier: "x", zone: "1" } })).toEqual(["a"]);
    expect(names({ labels: { toString: "x" } })).toEqual([]);
  });

  it("pages without repeating or leaving out, while others come and go", async () => {
    const fleet = await open(new Stage());
    const make = (name: string) => fleet.create(spec({ name, start: false }));
    for (let index = 0; index < 10; index += 1) await make(`old-${index}`);
    const seen: string[] = [];
    let after: string | undefined;
    let page = 0;
    do {
      const { items, next } = fleet.list({ limit: 3, ...(after === undefined ? {} : { after }) });
      seen.push(...items.map(({ name }) => name));
      after = next;
      // The one the cursor points at, one seen before it, and one to come.
      for (const name of [items.at(-1)?.name, items[0].name, `old-${9 - page}`]) {
        if (fleet.list({ name: name as string }).items.length > 0)
          await fleet.remove(name as string);
      }
      await make(`new-${page}`);
      page += 1;
    } while (after !== undefined);
    expect(new Set(seen).size).toBe(seen.length);
    for (let index = 0; index < 5; index += 1) expect(seen).toContain(`old-${index}`);
  });

  it("has no next page after the last, also when it is full", async () => {
    const fleet = await open(new Stage());
    for (const name of ["a", "b"]) await fleet.create(spec({ name, start: false }));
    expect(fleet.list({ limit: 2 }).next).toBeUndefined();
  });
});

describe("Fleet.update and configure", () => {
  it("rename, label and set the policy; the old name is free then", async () => {
    const fleet = await open(new Stage());
    const { id } = (await fleet.create(spec({ name: "a", labels: { x: "1" } }))).record;
    await fleet.create(spec({ name: "b", start: false }));
    expect(await codeOf(() => fleet.update("a", { name: "b" }))).toBe("ERR_ESTALO_NAME_TAKEN");
    fleet.update("a", { name: "a" });
    fleet.update("a", { name: "c", labels: {}, restart: { policy: "always" } });
    expect(fleet.get("c")).toMatchObject({ id, labels: {}, restart: { policy: "always" } });
    expect(await codeOf(() => fleet.get("a"))).toBe("ERR_ESTALO_NOT_FOUND");
    fleet.update("c", { name: id });
    expect(fleet.get(id).name).toBe(id);
    await fleet.create(spec({ name: "c", start: false }));
  });

  it("change the configuration of what does not live, for its next run", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const { id } = (await fleet.create(spec({ start: false }))).record;
    fleet.configure(id, (config) => ({ ...config, memoryMib: 256 }));
    expect(await codeOf(() => fleet.configure(id, (c) => ({ ...c, id: "other" })))).toBe(
      "ERR_ESTALO_CONFIG_INVALID",
    );
    expect(await codeOf(() => fleet.configure(id, (c) => ({ ...c, vcpuCount: 0 })))).toBe(
      "ERR_ESTALO_CONFIG_INVALID",
    );
    await fleet.start(id);
    expect(stage.last.config).toMatchObject({ memoryMib: 256, vcpuCount: 1, id });
    expect(await codeOf(() => fleet.configure(id, (c) => c))).toBe("ERR_ESTALO_STATE");
  });
});

describe("the end of a microVM", () => {
  it("keeps exit, console and counters, and touches no other one", async () => {
    const stage = new Stage();
    const dir = stateDir();
    const fleet = await open(stage, { stateDir: dir });
    await fleet.create(spec({ name: "a" }));
    await fleet.create(spec({ name: "b" }));
    const [a] = stage.made;
    a.output = "last words";
    expect(Buffer.from(fleet.consoleLog("a")).toString()).toBe("last words");
    const error = new EstaloError("ERR_ESTALO_VCPU_STOPPED", "no way on", { data: { vcpu: 0 } });
    await a.end("failed", undefined, error);
    const check = (on: Fleet) => {
      expect(on.get("a")).toMatchObject({
        state: "failed",
        exit: { reason: "failed", exitCode: 125, error: error.toRecord() },
      });
      expect(on.supervisor("a")).toBeUndefined();
      expect(Buffer.from(on.consoleLog("a")).toString()).toBe("last words");
      expect(on.metrics("a")).toMatchObject({ vcpus: [{ exitIoOut: 10 }] });
    };
    check(fleet);
    await turn();
    check(fleet);
    expect(fleet.get("b").state).toBe("running");
    expect(fleet.counters.failures).toBe(1);
    await fleet.close({ timeoutMs: 0 });
    check(await open(stage, { stateDir: dir }));
  });

  it("is waited for by all who ask, and at once when it is over", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    await fleet.create(spec({ name: "a" }));
    const waits = [fleet.wait("a"), fleet.wait("a")];
    const gone = new AbortController();
    const aborted = fleet.wait("a", { signal: gone.signal });
    gone.abort();
    await expect(aborted).rejects.toEqual(code("ERR_ESTALO_ABORTED"));
    await stage.last.end("reboot");
    for (const wait of [...waits, fleet.wait("a")]) {
      expect((await wait).exit?.reason).toBe("reboot");
    }
  });

  it("removes the record when that was wished, after telling who waits", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const { record } = await fleet.create(spec({ autoRemove: true }));
    const waited = fleet.wait(record.id);
    await stage.last.end("poweroff", 7);
    expect((await waited).exit?.exitCode).toBe(7);
    expect(await codeOf(() => fleet.get(record.id))).toBe("ERR_ESTALO_NOT_FOUND");
    expect(await codeOf(() => fleet.consoleLog(record.id))).toBe("ERR_ESTALO_NOT_FOUND");
    await turn();
    expect(told(fleet)).toEqual([
      "created",
      "state starting",
      "state running",
      "state stopping",
      "state stopped",
      "exited",
      "deleted",
    ]);
  });
});

describe("a closed fleet", () => {
  it("answers with an error of the catalogue, whatever it is asked, and closes but once", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    await fleet.create(spec({ name: "a" }));
    const waited = fleet.wait("a");
    await Promise.all([fleet.close({ timeoutMs: 0 }), fleet.close()]);
    expect((await waited).state).toBe("stopped");
    expect(stage.living.size).toBe(0);
    const calls = [
      () => fleet.create(spec()),
      () => fleet.start("a"),
      () => fleet.update("a", {}),
      () => fleet.configure("a", (config) => config),
      () => fleet.remove("a"),
      () => fleet.consoleLog("a"),
      () => fleet.events.since(0),
    ];
    for (const call of calls) expect(await codeOf(call)).toBe("ERR_ESTALO_STATE");
    expect(fleet.get("a").exit?.reason).toBe("killed");
  });
});

describe("restarts", () => {
  it("follow the policy, say so, and are waited through", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const restart = { policy: "on-failure", maxRetries: 2 } as const;
    const { id } = (await fleet.create(spec({ restart }))).record;
    const waited = fleet.wait(id);
    for (let run = 1; run <= 2; run += 1) {
      await stage.last.end("panic");
      expect(fleet.get(id)).toMatchObject({ state: "stopped", restartCount: run - 1 });
      expect(fleet.get(id).restartAtMs).toBeGreaterThan(0);
      await vi.waitFor(() => expect(fleet.get(id).state).toBe("running"), 20_000);
      expect(fleet.get(id)).toMatchObject({ restartCount: run, restartAtMs: undefined });
    }
    await stage.last.end("panic");
    expect(await waited).toMatchObject({ state: "stopped", restartCount: 2 });
    expect(fleet.counters).toMatchObject({ starts: 3, restarts: 2 });
    await turn();
    const events = fleet.events.since(0) as FleetEvent[];
    expect(events.filter(({ type }) => type === "restarting")).toMatchObject([
      { delayMs: 100, restartCount: 1 },
      { delayMs: 200, restartCount: 2 },
    ]);
  });

  it("go on when a restart cannot even begin", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const { id } = (await fleet.create(spec({ restart: { policy: "always" } }))).record;
    stage.failing.set("make", new EstaloError("ERR_ESTALO_DRIVE_FILE", "gone"));
    await stage.last.end("poweroff");
    await vi.waitFor(() => expect(fleet.get(id).state).toBe("failed"), 20_000);
    expect(fleet.get(id).exit?.error?.code).toBe("ERR_ESTALO_DRIVE_FILE");
    stage.failing.clear();
    await vi.waitFor(() => expect(fleet.get(id).state).toBe("running"), 20_000);
    expect(fleet.get(id)).toMatchObject({ restartCount: 2, exit: undefined });
  });

  it.each([
    ["stop", (fleet: Fleet) => fleet.stop("a")],
    ["kill", (fleet: Fleet) => fleet.kill("a")],
    ["the policy no", async (fleet: Fleet) => fleet.update("a", { restart: { policy: "no" } })],
  ] as const)("that are due are given up by %s", async (_name, giveUp) => {
    const stage = new Stage();
    const fleet = await open(stage);
    await fleet.create(spec({ name: "a", restart: { policy: "always" } }));
    const waited = fleet.wait("a");
    await stage.last.end("poweroff");
    expect(fleet.get("a").restartAtMs).toBeDefined();
    await giveUp(fleet);
    expect((await waited).state).toBe("stopped");
    expect(fleet.get("a").restartAtMs).toBeUndefined();
    expect(fleet.counters.restarts).toBe(0);
  });

  it("do not come after stop, kill and remove", async () => {
    const stage = new Stage();
    const fleet = await open(stage);
    const restart = { policy: "always" } as const;
    for (const name of ["a", "b", "c"]) await fleet.create(spec({ name, restart }));
    await fleet.stop("a", { timeoutMs: 0 });
    await fleet.kill("b");
    await fleet.remove("c", { force: true });
    expect(fleet.list().items.map(({ restartAtMs }) => restartAtMs)).toEqual([
      undefined,
      undefined,
    ]);
    expect(fleet.counts().stopped).toBe(2);
  });
});

const small = smallFileSystem(600 * 1024);

describe.skipIf(small === undefined)(
  "without room for its state (needs a file system of its own)",
  () => {
    it("a fleet refuses what it could not keep, and its microVMs go on", async () => {
      const dir = join(small as string, "state");
      const ballast = join(small as string, "ballast");
      const stage = new Stage();
      const fleet = await open(stage, { stateDir: dir });
      for (const name of ["a", "b", "c"]) await fleet.create(spec({ name }));
      await fleet.create(spec({ name: "idle", start: false }));
      try {
        writeFileSync(ballast, Buffer.alloc(1 << 20));
      } catch {
        // ENOSPC: it is full now.
      }
      const heard: FleetEvent[] = [];
      fleet.events.subscribe((event) => heard.push(event));
      const before = fleet.list().items;
      const large = { labels: { x: "y".repeat(256) } };
      // What is left in the last blocks is used up first.
      while (fleet.storeError === undefined) await codeOf(() => fleet.update("idle", large));
      const writes = [
        () => fleet.create(spec({ name: "d" })),
        () => fleet.update("a", { name: "e" }),
        () => fleet.configure("idle", (config) => ({ ...config, memoryMib: 64 })),
        () => fleet.start("idle"),
        () => fleet.remove("idle"),
      ];
      for (const write of writes) expect(await codeOf(write)).toBe("ERR_ESTALO_STATE_WRITE");
      expect(fleet.storeError?.data).toMatchObject({ errno: "ENOSPC" });
      const kept = (items: typeof before) =>
        items.map(({ name, state, config }) => [name, state, config]);
      expect(kept(fleet.list().items)).toEqual(kept(before));
      expect(stage.made).toHaveLength(3);

      // What happens anyway happens.
      await fleet.pause("a");
      expect((await fleet.kill("b")).state).toBe("stopped");
      await stage.made[2].end("panic");
      expect(fleet.get("c").exit?.reason).toBe("panic");
      await turn();
      const { newest } = fleet.events;
      expect(heard.every(({ sequence }) => sequence <= newest)).toBe(true);
      expect(heard.some(({ name }) => name === "b")).toBe(false);

      rmSync(ballast);
      await vi.waitFor(() => expect(fleet.storeError).toBeUndefined(), 20_000);
      await turn();
      expect(heard.map(({ sequence }) => sequence)).toEqual(
        Array.from({ length: heard.length }, (_, index) => heard[0].sequence + index),
      );
      expect(heard.filter(({ type }) => type === "exited").map(({ name }) => name)).toEqual([
        "b",
        "c",
      ]);
      expect(fleet.counters.storeErrors).toBeGreaterThan(writes.length);
      expect((await fleet.start("idle")).state).toBe("running");
      await fleet.close({ timeoutMs: 0 });
      const next = await open(new Stage(), { stateDir: dir });
      expect(next.get("c")).toMatchObject({ state: "stopped", exit: { reason: "panic" } });
      expect(next.counts()).toMatchObject({ stopped: 4 });
      await next.close();
    });
  },
);
