/** A microVM in a played cell: what is asked of it, what comes of it, and what a hostile cell cannot make of it. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkConfig, type MicroVmConfig } from "../../src/actors/config.js";
import { ExitBatch } from "../../src/actors/exit-batch.js";
import type { MicroVmEvent } from "../../src/actors/messages.js";
import type { DeviceRateLimitEvent } from "../../src/actors/rate-limits.js";
import { encodeExitFrame } from "../../src/api/exit-frames.js";
import { CellLink } from "../../src/isolation/cell-link.js";
import { FRAME } from "../../src/isolation/frames.js";
import { RemoteMicrovm } from "../../src/isolation/remote-microvm.js";
import { PlayedCell } from "../support/played-cell.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
const kernel = join(scratch.path, "kernel");
const disk = join(scratch.path, "disk");
const pmem = join(scratch.path, "pmem");
writeFileSync(kernel, "not looked at");
writeFileSync(disk, Buffer.alloc(2048));
writeFileSync(pmem, "not empty");

const turns = async (count = 20) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

async function make(more: Partial<MicroVmConfig> = {}) {
  const cell = new PlayedCell();
  const link = new CellLink(cell);
  cell.answer = ({ method }) =>
    method === "create" ? { value: { devices: ["serial"], hasRip: false } } : {};
  const config = checkConfig({ kernel, id: "one", ...more });
  const microvm = await RemoteMicrovm.create(link, 1, config);
  const events: MicroVmEvent[] = [];
  microvm.events.stream.subscribe((event) => events.push(event));
  return { cell, link, microvm, events };
}

const console1 = (cell: PlayedCell) => (cell.calls[0].args as { console: number }).console;

/** Those that every drive has. */
const DRIVE = { read_bytes: 0, write_bytes: 0, read_count: 3, write_count: 0, flush_count: 0 };

const lastStream = ({ calls }: PlayedCell) =>
  (calls[calls.length - 1].args as { stream: number }).stream;

describe("RemoteMicrovm", () => {
  it("is made of files that the server opened, and sent", async () => {
    const { cell, microvm } = await make({
      drives: [{ path: disk }, { id: "b", path: disk, readOnly: true }],
      pmem: [{ path: pmem }],
    });
    expect(cell.given).toEqual([kernel, disk, disk, pmem]);
    expect(cell.calls[0]).toMatchObject({
      method: "create",
      args: { files: ["kernel", "drive drive0", "drive b", "pmem pmem0"] },
    });
    expect(microvm.exits.devices).toEqual(["serial"]);
  });

  it.each([
    [{ kernel: "/nowhere" }, "ERR_ESTALO_KERNEL_FILE"],
    [{ initrd: "/nowhere" }, "ERR_ESTALO_INITRD_FILE"],
    [{ drives: [{ path: "/nowhere" }] }, "ERR_ESTALO_DRIVE_FILE"],
    [{ networkInterfaces: [{ tap: "nowhere0" }] }, "ERR_ESTALO_TAP"],
    [{ networkInterfaces: [{ tap: "nowhere0", queuePairs: 2 }], vcpuCount: 2 }, "ERR_ESTALO_TAP"],
    [{ pmem: [{ path: "/nowhere" }] }, "ERR_ESTALO_PMEM_FILE"],
    [
      { networkInterfaces: [{ tap: "t" }], mmds: { data: { a: "b" }, sizeLimitBytes: 1 } },
      "ERR_ESTALO_TOO_LARGE",
    ],
  ])("is not made of %j, and nothing is sent or stays", async (more, code) => {
    const cell = new PlayedCell();
    const config = checkConfig({ kernel, ...more });
    await expect(RemoteMicrovm.create(new CellLink(cell), 1, config)).rejects.toMatchObject({
      code,
    });
    await turns();
    expect([cell.given, cell.calls, cell.ends]).toEqual([[], [], [1]]);
  });

  it("carries the console both ways", async () => {
    const { cell, microvm } = await make();
    cell.send(FRAME.BYTES, console1(cell), Buffer.from("hello"));
    await turns();
    expect(Buffer.from(microvm.console.history()).toString()).toBe("hello");
    await microvm.console.send(Buffer.from("typed"));
  });

  it("tells its states, and ends once, whatever a cell says after it", async () => {
    const { cell, microvm, events } = await make();
    for (const state of ["starting", "running", "stopped"])
      cell.say({ vm: 1, event: { type: "state", state } });
    await turns();
    expect(microvm.state).toBe("running");
    const metrics = {
      vcpus: [],
      drives: { d: { ...DRIVE, read_agg: { min_us: 0, max_us: 1, sum_us: 1 } } },
      networkInterfaces: {},
      pmem: {},
      serial: { transmittedBytes: 5, receivedBytes: 0, droppedBytes: 0 },
      evil: 1,
    };
    cell.say({ vm: 1, exit: { reason: "poweroff", exitCode: 0 }, metrics });
    cell.say({ vm: 1, event: { type: "state", state: "running" } });
    expect(await microvm.exited).toMatchObject({ reason: "poweroff", exitCode: 0 });
    await turns();
    expect(microvm.state).toBe("stopped");
    expect(microvm.metrics).toEqual({ ...metrics, evil: undefined, entropy: undefined });
    expect(events.map(({ type }) => type)).toEqual(["state", "state", "state", "exited"]);
  });

  it("tells what a cell says of its guest so often, however often it says it", async () => {
    const { cell, microvm, events } = await make();
    for (let count = 0; count < 500; count++) {
      cell.say({ vm: 1, event: { type: "booted" } });
      cell.say({ vm: 1, event: { type: "device-needs-reset", device: `d${count}`, reason: "x" } });
    }
    const metrics = {
      ...{ vcpus: [], drives: {}, networkInterfaces: {}, pmem: {} },
      serial: { transmittedBytes: 0, receivedBytes: 0, droppedBytes: 0 },
    };
    cell.say({ vm: 1, exit: { reason: "poweroff", exitCode: 0 }, metrics });
    expect(await microvm.exited).toMatchObject({ reason: "poweroff" });
    const count = (wanted: string) => events.filter(({ type }) => type === wanted).length;
    expect([count("booted"), count("device-needs-reset")]).toEqual([1, 100]);
  });

  it.each([
    { type: "state", state: "paused" },
    { type: "drive-changed", drive: "d", sizeBytes: 512 },
  ])("gives up a cell that tells changes nobody asked for: %j", async (event) => {
    const { cell, microvm } = await make();
    for (let count = 0; count < 20; count++) {
      await microvm.pause();
      cell.say({ vm: 1, event });
    }
    await turns();
    expect(microvm.state).not.toBe("failed");
    for (let count = 0; count < 50; count++) cell.say({ vm: 1, event });
    expect(await microvm.exited).toMatchObject({
      reason: "failed",
      error: { code: "ERR_ESTALO_CELL" },
    });
  });

  it("keeps the metadata itself, and sends all of it", async () => {
    const { cell, microvm } = await make({
      networkInterfaces: [],
      balloon: { amountMib: 1 },
    });
    expect(microvm.devices.metadata).toBeUndefined();
    await microvm.devices.requireBalloon().setTarget(2);
    expect(cell.calls.at(-1)).toMatchObject({
      method: "balloon",
      args: { operation: "setTarget", value: 2 },
    });
    expect(() => microvm.devices.requireBalloon().setTarget(1e6)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });

  it("limits persistent memory, and plugs memory, in the cell", async () => {
    const { cell, microvm } = await make({ memoryHotplug: { totalSizeMib: 1024 } });
    const { devices } = microvm;
    await devices.pmem.limit("pmem0", { ops: { size: 1, refillTimeMs: 100 } });
    expect(cell.calls.at(-1)).toMatchObject({ method: "limitPmem", args: { id: "pmem0" } });
    await devices.requireMemoryHotplug().setRequestedSize(128);
    expect(cell.calls.at(-1)).toMatchObject({
      method: "plugMemory",
      args: { requestedSizeMib: 128 },
    });
    const sizes = { totalSizeMib: 1024, blockSizeMib: 2, slotSizeMib: 128 };
    const report = { ...sizes, pluggedSizeMib: 0, requestedSizeMib: 128 };
    cell.answer = () => ({ value: report });
    expect(await devices.requireMemoryHotplug().report()).toEqual(report);
    const { microvm: without } = await make();
    expect(() => without.devices.requireMemoryHotplug()).toThrow("no more memory");
  });

  it("changes limits in the cell, and tells what it says of them", async () => {
    const { cell, link, microvm } = await make();
    const { devices } = microvm;
    await devices.limitEntropy({ ops: { size: 1, refillTimeMs: 100 } });
    expect(cell.calls.at(-1)).toMatchObject({ method: "limitEntropy" });
    await devices.limitSerial({ size: 1, refillTimeMs: 100 });
    expect(cell.calls.at(-1)).toMatchObject({
      method: "limitSerial",
      args: { bucket: { size: 1 } },
    });
    const events: DeviceRateLimitEvent[] = [];
    let isComplete = false;
    devices.rateLimits$.subscribe({
      next: (event) => events.push(event),
      complete: () => {
        isComplete = true;
      },
    });
    await turns();
    const stream = lastStream(cell);
    const throttled = { type: "throttled", device: "drive d", waitMs: 5, dropped: 2 };
    cell.send(FRAME.BYTES, stream, Buffer.from(JSON.stringify(throttled)));
    await turns();
    expect(events).toEqual([throttled]);
    cell.send(FRAME.BYTES, stream, Buffer.from(JSON.stringify({ ...throttled, waitMs: "5" })));
    await turns();
    expect(link.lost).toMatchObject({ code: "ERR_ESTALO_CELL" });
    expect([isComplete, events.length]).toEqual([true, 1]);
  });

  it("opens a drive's new file here, and remembers it", async () => {
    const { cell, microvm } = await make({ drives: [{ path: disk }] });
    const other = join(scratch.path, "other");
    writeFileSync(other, Buffer.alloc(4096));
    await microvm.updateDrive("drive0", { path: other });
    expect(cell.calls.at(-1)).toMatchObject({
      args: { drive: "drive0", files: ["drive drive0"] },
    });
    await microvm.updateDrive("drive0", {});
    expect(cell.calls.at(-1)).toMatchObject({ args: { files: ["drive drive0"] } });
    expect(cell.given.slice(-2)).toEqual([other, other]);
    await microvm.updateDrive("drive0", { rateLimiter: {} });
    expect(cell.calls.at(-1)).toMatchObject({ args: { files: [] } });
    await expect(microvm.updateDrive("drive0", { path: "/nowhere" })).rejects.toMatchObject({
      code: "ERR_ESTALO_DRIVE_FILE",
    });
  });

  it("brings exits, and counts what a reader was not ready for", async () => {
    const { cell, microvm } = await make();
    let isReady = false;
    const got: ExitBatch[] = [];
    microvm.exits.batches({ isReady: () => isReady }).subscribe((batch) => got.push(batch));
    await turns();
    const stream = lastStream(cell);
    const batch = new ExitBatch({ length: 2, hasRip: false }, [], { lost: 1, dropped: 3 });
    cell.send(FRAME.BYTES, stream, encodeExitFrame(batch));
    await turns();
    isReady = true;
    cell.send(FRAME.BYTES, stream, encodeExitFrame(batch));
    await turns();
    expect(got.map(({ length, lost, dropped }) => [length, lost, dropped])).toEqual([[2, 1, 5]]);
    expect(() => microvm.exits.batches({ devices: ["nothing"] })).toThrow("devices");
    expect(() => microvm.exits.batches({ rip: true })).toThrow("KVM_CAP_SYNC_REGS");
  });

  it.each([
    ["no frame", Buffer.from("EXIT")],
    ["times that are no numbers", encodeExitFrame(withTime(Number.NaN))],
    ["times without end", encodeExitFrame(withTime(Number.POSITIVE_INFINITY))],
  ])("drops a cell whose exits are %s", async (_what, bytes) => {
    const { cell, link, microvm } = await make();
    let isComplete = false;
    microvm.exits.batches().subscribe({
      complete: () => {
        isComplete = true;
      },
    });
    await turns();
    const stream = lastStream(cell);
    cell.send(FRAME.BYTES, stream, bytes);
    await turns();
    expect(link.lost).toMatchObject({ code: "ERR_ESTALO_CELL" });
    expect(isComplete).toBe(true);
    expect(await microvm.exited).toMatchObject({ reason: "failed" });
  });

  it("keeps the last counters when a cell tells none", async () => {
    const { cell, microvm } = await make();
    cell.answer = () => ({ error: { code: "ERR_ESTALO_STATE", message: "it has ended" } });
    await microvm.refreshMetrics();
    expect(microvm.metrics.vcpus).toEqual([]);
    expect(microvm.vcpuThreads).toEqual([]);
  });
});

function withTime(atNs: number): ExitBatch {
  const batch = new ExitBatch({ length: 1, hasRip: false }, [], { lost: 0, dropped: 0 });
  batch.atNs[0] = atNs;
  return batch;
}
