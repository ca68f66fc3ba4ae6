import { afterEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { type DriveRequest, FilteredDisk, Patience } from "../../src/actors/block-middleware.js";
import { type Middleware, MiddlewareChain } from "../../src/actors/middleware.js";
import { VirtioBlock } from "../../src/devices/virtio/block.js";
import { KIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { MemoryDisk } from "../support/memory-disk.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const [HEADER, DATA, STATUS] = [64 * KIB, 65 * KIB, 80 * KIB];
const [IN, OUT] = [0, 1];
const turn = () => new Promise((resolve) => setImmediate(resolve));
afterEach(() => void vi.useRealTimers());

function started(...functions: Middleware<DriveRequest>[]) {
  const memory = createMemory(128 * KIB);
  const disk = new MemoryDisk(memory, 64 * KIB, { deferred: true });
  const reports: string[] = [];
  const chain = new MiddlewareChain<DriveRequest>("drives", 1000, (where) => reports.push(where));
  for (const run of functions) chain.use(run);
  const patience = new Patience();
  const filtered = new FilteredDisk(disk, "data", memory, chain, patience);
  const m = new VirtioMachine(
    memory,
    (host) => new VirtioBlock(host, { backend: filtered, cacheType: "Unsafe" }),
  );
  const ring = m.start(undefined, { size: 8 });
  /** One request of a sector; its status when it is done. */
  const request = async (type: number, sector: number) => {
    memory.writeU32(HEADER, type);
    memory.writeU64(HEADER + 8, sector);
    memory.writeU8(STATUS, 0xee);
    const data = { address: DATA, length: 512, writable: type === IN };
    ring.add({ address: HEADER, length: 16 }, data, { address: STATUS, length: 1, writable: true });
    m.kick();
    for (let wait = 0; wait < 20 && memory.readU8(STATUS) === 0xee; wait++) {
      await turn();
      disk.finish();
    }
    ring.takeUsed();
    return memory.readU8(STATUS);
  };
  return { m, memory, disk, reports, request, patience };
}

describe("FilteredDisk", () => {
  it("shows requests with their data, and passes them to the disk", async () => {
    const seen: unknown[] = [];
    const { memory, request } = started(async (item, next) => {
      const { drive, operation, offsetBytes, lengthBytes } = item;
      const written = operation === "write" ? item.data()[0] : undefined;
      await next();
      seen.push([drive, operation, offsetBytes, lengthBytes, written ?? item.data()[0]]);
    });
    memory.fill(DATA, 512, 7);
    expect(await request(OUT, 3)).toBe(0);
    memory.fill(DATA, 512, 0);
    expect(await request(IN, 3)).toBe(0);
    expect(memory.readU8(DATA + 511)).toBe(7);
    expect(seen).toEqual([
      ["data", "write", 1536, 512, 7],
      ["data", "read", 1536, 512, 7],
    ]);
  });

  it("lets a function answer instead of the disk, and refuse by throwing", async () => {
    const { memory, disk, reports, request } = started((item, next) => {
      if (item.operation === "write") throw new Error("read-only today");
      if (item.offsetBytes !== 0) return next();
      item.fill(new Uint8Array(512).fill(3));
      item.fill(Uint8Array.of(4, 4), 510);
      return undefined;
    });
    const before = Buffer.from(disk.bytes);
    expect(await request(IN, 0)).toBe(0);
    expect([memory.readU8(DATA), memory.readU8(DATA + 510)]).toEqual([3, 4]);
    memory.fill(DATA, 512, 9);
    expect(await request(OUT, 1)).toBe(1);
    expect(Buffer.from(disk.bytes)).toEqual(before);
    expect(reports).toEqual(["drives middleware"]);
    expect(await request(IN, 1)).toBe(0);
  });

  it("throws nothing at who uses buffers that the guest has unplugged", async () => {
    const seen: unknown[] = [];
    let unplug = () => {};
    const { memory, request } = started(async (item, next) => {
      if (item.operation === "read") await next();
      unplug();
      // As from anywhere, a file's callback for example.
      await new Promise((resolve) => setImmediate(resolve));
      item.fill(new Uint8Array(512).fill(3));
      seen.push(item.operation, item.data().length, item.data()[0]);
    });
    memory.fill(DATA, 512, 7);
    const contains = memory.contains.bind(memory);
    unplug = () => {
      vi.spyOn(memory, "contains").mockImplementation(
        (gpa, sizeBytes) => contains(gpa, sizeBytes) && (gpa < DATA || gpa >= DATA + 512),
      );
    };
    onTestFinished(() => void vi.restoreAllMocks());
    expect(await request(OUT, 0)).toBe(0);
    vi.restoreAllMocks();
    expect(await request(IN, 0)).toBe(0);
    expect(seen).toEqual(["write", 512, 0, "read", 512, 0]);
  });

  it("waits for no function any more when its microVM ends", async () => {
    const { m, memory, patience, request } = started(() => new Promise<void>(() => {}));
    const first = request(IN, 0);
    await turn();
    patience.end();
    expect(await first).toBe(1);
    const second = request(IN, 1);
    await m.device.quiesce();
    expect(await second).toBe(1);
    expect(memory.readU8(STATUS)).toBe(1);
  });

  it("tells the guest of the disk's error, and nobody else, when a function does not wait for it", async () => {
    const unhandled = vi.fn();
    process.on("unhandledRejection", unhandled);
    onTestFinished(() => void process.off("unhandledRejection", unhandled));
    const { disk, request } = started((_item, next) => void next());
    disk.failures.push(-28);
    expect(await request(OUT, 1)).toBe(1);
    expect(await request(OUT, 1)).toBe(0);
    expect(unhandled).not.toHaveBeenCalled();
  });

  it("tells the guest of an error when a function throws that nobody before it waits for", async () => {
    const { disk, request } = started(
      (_item, next) => void next(),
      () => {
        throw new Error("not today");
      },
    );
    const before = Buffer.from(disk.bytes);
    expect(await request(OUT, 1)).toBe(1);
    expect(Buffer.from(disk.bytes)).toEqual(before);
  });

  it("ends a request whose function is never settled, and keeps its memory from it", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    let late: DriveRequest | undefined;
    let lateNext: () => Promise<void> = () => Promise.resolve();
    const { memory, request } = started((item, next) => {
      late = item;
      lateNext = next;
      return new Promise<void>(() => {});
    });
    const status = request(IN, 0);
    await turn();
    vi.advanceTimersByTime(30_000);
    expect(await status).toBe(1);
    memory.fill(DATA, 512, 0);
    late?.fill(new Uint8Array(512).fill(5));
    expect(late?.data().length).toBe(0);
    await expect(lateNext()).rejects.toThrow("has ended");
    expect(memory.readU8(DATA)).toBe(0);
  });
});
