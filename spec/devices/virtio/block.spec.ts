import { describe, expect, it } from "vitest";
import { DISK_DISCARD, DISK_FLUSH, DISK_WRITE_ZEROES } from "../../../src/devices/backend.js";
import { type BlockOptions, VirtioBlock } from "../../../src/devices/virtio/block.js";
import * as regs from "../../../src/devices/virtio/block.regs.js";
import { featureBits, hasFeature, RING_FEATURES } from "../../../src/devices/virtio/features.js";
import * as transport from "../../../src/devices/virtio/mmio-transport.regs.js";
import { GIB, KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import { MemoryDisk, type MemoryDiskOptions } from "../../support/memory-disk.js";
import type { RingDriver, Segment } from "../../support/ring-driver.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const DISK_BYTES = 64 * KIB;
const DATA = 256 * KIB;
const EIO = -5;

/** A started block device on an in-memory disk, and its driver. */
class BlockMachine extends VirtioMachine<VirtioBlock> {
  readonly disk: MemoryDisk;
  ring!: RingDriver;
  #next = 128 * KIB;

  constructor(disk: MemoryDiskOptions = {}, options: Partial<BlockOptions> = {}) {
    const memory = createMemory(MIB);
    const backend = new MemoryDisk(memory, DISK_BYTES, disk);
    super(memory, (host) => new VirtioBlock(host, { backend, cacheType: "Writeback", ...options }));
    this.disk = backend;
  }

  static started(disk: MemoryDiskOptions = {}, options: Partial<BlockOptions> = {}): BlockMachine {
    const m = new BlockMachine(disk, options);
    m.ring = m.start();
    return m;
  }

  /** Offers a request in one header, the data as given and one status descriptor. */
  request(type: number, sector: number, ...data: Segment[]): { head: number; status: number } {
    const header = this.#next;
    const status = header + regs.HEADER_BYTES;
    this.#next += 32;
    this.memory.writeU32(header, type);
    this.memory.writeU64(header + 8, sector);
    this.memory.writeU8(status, 0xaa);
    const framed = [
      { address: header, length: regs.HEADER_BYTES },
      ...data,
      { address: status, length: 1, writable: true },
    ];
    return { head: this.ring.add(...framed), status };
  }

  /** Offers, rings, and returns what came back. */
  run(type: number, sector: number, ...data: Segment[]): { status: number; length: number } {
    const { status } = this.request(type, sector, ...data);
    this.kick();
    const [used] = this.ring.takeUsed();
    return { status: this.memory.readU8(status), length: used.length };
  }

  /** Lays ranges of a DISCARD or WRITE_ZEROES into memory. */
  ranges(...ranges: [sector: number, sectors: number, flags: number][]): Segment {
    for (const [index, [sector, sectors, flags]] of ranges.entries()) {
      const at = DATA + index * regs.RANGE_BYTES;
      this.memory.writeU64(at, sector);
      this.memory.writeU32(at + 8, sectors);
      this.memory.writeU32(at + 12, flags);
    }
    return { address: DATA, length: ranges.length * regs.RANGE_BYTES };
  }
}

const out = (length: number, address = DATA): Segment => ({ address, length });
const into = (length: number, address = DATA): Segment => ({ address, length, writable: true });
const pattern = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (index * 7 + seed) % 256);

describe("VirtioBlock offers", () => {
  it.each([
    ["a disk", {}, { cacheType: "Writeback" }, [2, 9, 13, 14]],
    ["an unsafe disk", {}, { cacheType: "Unsafe" }, [2, 13, 14]],
    ["a disk without discard", { supportsDiscard: false }, { cacheType: "Unsafe" }, [2]],
    ["a read-only file", { readOnly: true }, { cacheType: "Unsafe" }, [2, 5]],
    ["a disk shown read-only", {}, { cacheType: "Unsafe", readOnly: true }, [2, 5]],
  ] as [string, MemoryDiskOptions, Partial<BlockOptions>, number[]][])(
    "%s's features",
    (_name, disk, options, bits) => {
      const m = new BlockMachine(disk, options);
      expect(m.offered()).toEqual(featureBits([...RING_FEATURES, ...bits]));
    },
  );

  it("capacity in sectors, segment limit and discard limits", () => {
    const m = new BlockMachine();
    const config = (offset: number): number => m.read(transport.CONFIG_OFFSET + offset);
    expect([config(0), config(4)]).toEqual([128, 0]);
    expect(config(regs.CONFIG_SEG_MAX_OFFSET)).toBe(254);
    expect(config(regs.CONFIG_MAX_DISCARD_SECTORS_OFFSET)).toBe(4_194_303);
    expect(config(regs.CONFIG_MAX_DISCARD_SEG_OFFSET)).toBe(16);
    expect(config(regs.CONFIG_MAX_WRITE_ZEROES_SEG_OFFSET)).toBe(16);
    expect(m.fake.read8(transport.CONFIG_OFFSET + regs.CONFIG_WRITE_ZEROES_MAY_UNMAP_OFFSET)).toBe(
      1,
    );
  });
});

describe("VirtioBlock reading and writing", () => {
  it("writes several segments and reads them back in others", () => {
    const m = BlockMachine.started();
    const bytes = pattern(2048);
    m.memory.write(DATA, bytes);
    expect(m.run(regs.TYPE_OUT, 3, out(512), out(1000, DATA + 512), out(536, DATA + 1512))).toEqual(
      { status: regs.STATUS_OK, length: 1 },
    );
    expect(m.disk.bytes.slice(3 * 512, 7 * 512)).toEqual(bytes);
    const back = DATA + 8192;
    expect(m.run(regs.TYPE_IN, 3, into(1, back), into(2047, back + 1))).toEqual({
      status: regs.STATUS_OK,
      length: 2049,
    });
    expect(m.memory.read(back, 2048)).toEqual(bytes);
    expect(m.device.metrics).toMatchObject({ read_count: 1, write_count: 1, write_bytes: 2048 });
  });

  it("understands any framing: header in pieces, data in the header's and the status' segments", () => {
    const m = BlockMachine.started();
    const header = 200 * KIB;
    m.memory.writeU32(header, regs.TYPE_OUT);
    m.memory.writeU64(header + 8, 2);
    m.memory.write(header + 16, pattern(512));
    m.ring.add(out(3, header), out(10, header + 3), out(515, header + 13), into(1));
    m.kick();
    expect(m.memory.readU8(DATA)).toBe(regs.STATUS_OK);
    expect(m.disk.bytes.slice(1024, 1536)).toEqual(pattern(512));
    m.memory.writeU32(header, regs.TYPE_IN);
    m.ring.add(out(16, header), into(100), into(413, DATA + 100));
    m.kick();
    expect(m.memory.read(DATA, 512)).toEqual(pattern(512));
    expect(m.memory.readU8(DATA + 512)).toBe(regs.STATUS_OK);
    expect(m.ring.takeUsed().map((used) => used.length)).toEqual([1, 513]);
  });

  it("takes requests through indirect tables", () => {
    const m = BlockMachine.started();
    m.disk.bytes.set(pattern(512), 512);
    const header = 200 * KIB;
    m.memory.writeU32(header, regs.TYPE_IN);
    m.memory.writeU64(header + 8, 1);
    m.ring.offer(
      m.ring.writeIndirect(220 * KIB, [out(16, header), into(512), into(1, DATA + 512)]),
    );
    m.kick();
    expect(m.memory.read(DATA, 512)).toEqual(pattern(512));
  });

  it.each([
    ["a read past the end", regs.TYPE_IN, 127, into(1024)],
    ["a read far past the end", regs.TYPE_IN, 2 ** 63, into(512)],
    ["a sector that wraps", regs.TYPE_IN, 2 ** 55 - 1, into(512)],
    ["a read of no whole sectors", regs.TYPE_IN, 0, into(513)],
    ["a write past the end", regs.TYPE_OUT, 128, out(512)],
    ["a write of no whole sectors", regs.TYPE_OUT, 0, out(511)],
  ])("answers IOERR to %s", (_name, type, sector, data) => {
    const m = BlockMachine.started();
    expect(m.run(type, sector, data).status).toBe(regs.STATUS_IOERR);
    expect(m.disk.log).toEqual([]);
    expect(m.device.metrics.invalid_reqs_count).toBe(1);
  });

  it.each([
    ["file", { readOnly: true }, {}],
    ["device", {}, { readOnly: true }],
  ])("answers IOERR to writes to a read-only %s", (_name, disk, options) => {
    const m = BlockMachine.started(disk, options);
    expect(m.run(regs.TYPE_OUT, 0, out(512)).status).toBe(regs.STATUS_IOERR);
    expect(m.disk.log).toEqual([]);
  });

  it("answers OK to a transfer of nothing", () => {
    const m = BlockMachine.started();
    expect(m.run(regs.TYPE_IN, 0)).toEqual({ status: regs.STATUS_OK, length: 1 });
    expect(m.disk.log).toEqual([]);
  });

  it("answers IOERR when the backend fails, and claims no data", () => {
    const m = BlockMachine.started();
    m.disk.failures.push(EIO, EIO);
    expect(m.run(regs.TYPE_IN, 0, into(512))).toEqual({ status: regs.STATUS_IOERR, length: 0 });
    expect(m.run(regs.TYPE_OUT, 0, out(512))).toEqual({ status: regs.STATUS_IOERR, length: 1 });
    expect(m.device.metrics.execute_fails).toBe(2);
  });

  it("needs a reset after a request without room for header or status", () => {
    const m = BlockMachine.started();
    m.ring.add(out(15), into(1));
    m.kick();
    expect(m.faults).toHaveLength(1);
    m.reset();
    m.ring = m.start();
    expect(m.status & transport.STATUS_NEEDS_RESET_MASK).toBe(0);
  });
});

describe("VirtioBlock's other requests", () => {
  it("flushes in write-back mode", () => {
    const m = BlockMachine.started();
    expect(m.run(regs.TYPE_FLUSH, 0)).toEqual({ status: regs.STATUS_OK, length: 1 });
    expect(m.disk.log.map((request) => request.operation)).toEqual([DISK_FLUSH]);
    expect(m.device.metrics.flush_count).toBe(1);
  });

  it("answers UNSUPP to FLUSH in unsafe mode", () => {
    const m = BlockMachine.started({}, { cacheType: "Unsafe" });
    expect(m.run(regs.TYPE_FLUSH, 0).status).toBe(regs.STATUS_UNSUPP);
  });

  it("flushes after each write for a driver that knows no FLUSH", () => {
    const m = new BlockMachine();
    m.ring = m.start(featureBits(RING_FEATURES));
    expect(m.run(regs.TYPE_OUT, 0, out(512)).status).toBe(regs.STATUS_OK);
    expect(m.disk.log.map((request) => request.operation)).toEqual([1, DISK_FLUSH]);
    expect(m.device.metrics.write_count).toBe(1);
    m.disk.failures.push(0, EIO);
    expect(m.run(regs.TYPE_OUT, 0, out(512)).status).toBe(regs.STATUS_IOERR);
  });

  it("gives its identity in 20 bytes, padded with zeros", () => {
    const m = BlockMachine.started({ serial: "vol-0123456789" });
    m.memory.fill(DATA, 32, 0xff);
    expect(m.run(regs.TYPE_GET_ID, 0, into(7), into(13, DATA + 7))).toEqual({
      status: regs.STATUS_OK,
      length: 21,
    });
    const id = new TextDecoder().decode(m.memory.read(DATA, 20));
    expect(id).toBe(`vol-0123456789${"\0".repeat(6)}`);
    expect(m.memory.readU8(DATA + 20)).toBe(0xff);
  });

  it.each([2, 3, 5, 7, 9, 14, 0xffff_ffff])("answers UNSUPP to type %i", (type) => {
    const m = BlockMachine.started();
    expect(m.run(type, 0).status).toBe(regs.STATUS_UNSUPP);
  });
});

describe("VirtioBlock discarding and zeroing", () => {
  it("carries out several ranges, one after the other, empty ones left out", () => {
    const m = BlockMachine.started();
    m.disk.bytes.fill(0xff);
    const ranges = m.ranges([0, 1, 0], [5, 0, 0], [8, 8, 1]);
    expect(m.run(regs.TYPE_WRITE_ZEROES, 0, ranges)).toEqual({ status: 0, length: 1 });
    expect(m.disk.log.map((r) => [r.operation, r.offsetBytes, r.lengthBytes, r.unmap])).toEqual([
      [DISK_WRITE_ZEROES, 0, 512, false],
      [DISK_WRITE_ZEROES, 4096, 4096, true],
    ]);
    expect(m.disk.bytes.indexOf(0xff)).toBe(512);
  });

  it("discards", () => {
    const m = BlockMachine.started();
    expect(m.run(regs.TYPE_DISCARD, 0, m.ranges([16, 16, 0])).status).toBe(regs.STATUS_OK);
    expect(m.disk.log).toMatchObject([{ operation: DISK_DISCARD, offsetBytes: 8192 }]);
  });

  it.each([
    ["a range past the end", regs.TYPE_DISCARD, [127, 2, 0], regs.STATUS_IOERR],
    ["a range beyond 2^53", regs.TYPE_DISCARD, [2 ** 63, 1, 0], regs.STATUS_IOERR],
    ["more sectors than allowed", regs.TYPE_DISCARD, [0, 4_194_304, 0], regs.STATUS_IOERR],
    ["unmap with a discard", regs.TYPE_DISCARD, [0, 1, 1], regs.STATUS_UNSUPP],
    ["unknown flags", regs.TYPE_WRITE_ZEROES, [0, 1, 2], regs.STATUS_UNSUPP],
  ] as [string, number, [number, number, number], number][])(
    "refuses %s, and then does none of the ranges",
    (_name, type, range, status) => {
      const m = BlockMachine.started();
      expect(m.run(type, 0, m.ranges([0, 1, 0], range)).status).toBe(status);
      expect(m.disk.log).toEqual([]);
    },
  );

  it("refuses no range, half a range and too many ranges", () => {
    const m = BlockMachine.started();
    const answers = [[], [out(24)], [out(17 * regs.RANGE_BYTES)]].map(
      (data) => m.run(regs.TYPE_DISCARD, 0, ...data).status,
    );
    expect(answers).toEqual([regs.STATUS_IOERR, regs.STATUS_IOERR, regs.STATUS_IOERR]);
  });

  it("stops at the range that fails", () => {
    const m = BlockMachine.started();
    m.disk.failures.push(0, EIO);
    const ranges = m.ranges([0, 1, 0], [2, 1, 0], [4, 1, 0]);
    expect(m.run(regs.TYPE_DISCARD, 0, ranges).status).toBe(regs.STATUS_IOERR);
    expect(m.disk.log).toHaveLength(2);
  });

  it("answers UNSUPP where not offered, and when the file system cannot", () => {
    const without = BlockMachine.started({ supportsDiscard: false });
    expect(without.run(regs.TYPE_DISCARD, 0, without.ranges([0, 1, 0])).status).toBe(2);
    const cannot = BlockMachine.started();
    cannot.disk.failures.push(-regs.ERRNO_EOPNOTSUPP);
    expect(cannot.run(regs.TYPE_DISCARD, 0, cannot.ranges([0, 1, 0])).status).toBe(2);
  });
});

describe("VirtioBlock batching", () => {
  it("submits a batch once and interrupts once for it", () => {
    const m = BlockMachine.started();
    m.ring.setUsedEvent(0);
    for (let sector = 0; sector < 20; sector++) m.request(regs.TYPE_IN, sector, into(512));
    m.kick();
    expect(m.disk.submitCount).toBe(1);
    expect(m.ring.takeUsed()).toHaveLength(20);
    expect(m.fake.irq.take()).toBe(1);
  });

  it("keeps as many in flight as the backend takes, and takes the rest as they end", () => {
    const m = BlockMachine.started({ depth: 4, deferred: true });
    for (let sector = 0; sector < 10; sector++) m.request(regs.TYPE_IN, sector, into(512));
    m.kick();
    expect(m.disk.inFlight).toBe(4);
    m.disk.finish(2);
    expect(m.disk.inFlight).toBe(4);
    expect(m.ring.takeUsed()).toHaveLength(2);
    for (let round = 0; round < 5; round++) m.disk.finish();
    expect(m.ring.takeUsed()).toHaveLength(8);
    expect(m.device.metrics.io_engine_throttled_events).toBeGreaterThan(0);
  });

  it("completes in the order of the backend, each to its own status byte", () => {
    const m = BlockMachine.started({ deferred: true });
    const first = m.request(regs.TYPE_IN, 0, into(512));
    const second = m.request(regs.TYPE_IN, 200, into(512));
    m.kick();
    expect(m.ring.takeUsed().map((used) => used.head)).toEqual([second.head]);
    expect(m.memory.readU8(first.status)).toBe(0xaa);
    m.disk.finish();
    expect(m.ring.takeUsed().map((used) => used.head)).toEqual([first.head]);
    expect(m.memory.readU8(first.status)).toBe(regs.STATUS_OK);
  });

  it("gives other devices their turn after a queue's worth of requests", () => {
    const m = BlockMachine.started();
    const { head } = m.request(99, 0);
    for (let index = 1; index < 256; index++) m.ring.offer(head);
    m.kick();
    expect(m.deferred).toHaveLength(1);
    m.runDeferred();
    expect(m.deferred).toHaveLength(0);
  });

  it("carries out what was taken before a fault", () => {
    const m = BlockMachine.started();
    const { status } = m.request(regs.TYPE_IN, 0, into(512));
    m.ring.offer(300);
    m.kick();
    expect(m.faults).toHaveLength(1);
    expect(m.memory.readU8(status)).toBe(regs.STATUS_OK);
    expect(m.ring.takeUsed()).toHaveLength(1);
  });

  it("keeps latencies by the clock it is given", () => {
    let nowUs = 1000;
    const m = BlockMachine.started({ deferred: true }, { nowUs: () => nowUs });
    m.request(regs.TYPE_IN, 0, into(512));
    m.kick();
    nowUs += 250;
    m.disk.finish();
    expect(m.device.metrics.read_agg).toEqual({ min_us: 250, max_us: 250, sum_us: 250 });
  });
});

describe("VirtioBlock at reset and pause", () => {
  it("acknowledges a reset when its transfers have ended", async () => {
    const m = BlockMachine.started({ deferred: true });
    m.request(regs.TYPE_IN, 0, into(512));
    m.kick();
    m.reset();
    expect(m.transport.active).toBe(false);
    expect(m.fake.read32(transport.STATUS_OFFSET)).toBe(0);
    m.disk.finish();
    await new Promise((resolve) => setImmediate(resolve));
    m.ring = m.start();
    expect(m.status & transport.STATUS_DRIVER_OK_MASK).not.toBe(0);
    const { status } = m.request(regs.TYPE_IN, 0, into(512));
    m.kick();
    m.disk.finish();
    expect(m.memory.readU8(status)).toBe(regs.STATUS_OK);
  });

  it("is quiet when what was in flight is published, and takes up again", async () => {
    const m = BlockMachine.started({ depth: 1, deferred: true });
    m.request(regs.TYPE_IN, 0, into(512));
    m.request(regs.TYPE_IN, 1, into(512));
    m.kick();
    const quiet = m.transport.quiesce();
    expect(quiet).toBeDefined();
    m.disk.finish();
    await quiet;
    expect(m.disk.inFlight).toBe(0);
    expect(m.ring.takeUsed()).toHaveLength(1);
    m.transport.resume();
    expect(m.disk.inFlight).toBe(1);
    m.disk.finish();
    expect(m.ring.takeUsed()).toHaveLength(1);
    expect(m.transport.quiesce()).toBeUndefined();
  });
});

describe("VirtioBlock changing its backend", () => {
  it("shows the new capacity and uses the new backend", () => {
    const m = BlockMachine.started();
    m.fake.irq.take();
    const larger = new MemoryDisk(m.memory, 2 * DISK_BYTES);
    expect(m.device.setBackend(larger)).toBeUndefined();
    expect(m.read(transport.CONFIG_OFFSET)).toBe(256);
    expect(m.fake.irq.take()).toBe(1);
    expect(m.run(regs.TYPE_OUT, 255, out(512)).status).toBe(regs.STATUS_OK);
    expect(larger.log).toHaveLength(1);
    expect(m.device.metrics.update_count).toBe(1);
  });

  it("ends what is in flight on the old one first, and leaves the rest for the new one", async () => {
    const m = BlockMachine.started({ depth: 1, deferred: true });
    m.request(regs.TYPE_IN, 0, into(512));
    m.request(regs.TYPE_IN, 1, into(512));
    m.kick();
    const next = new MemoryDisk(m.memory, DISK_BYTES);
    const swapped = m.device.setBackend(next);
    m.kick();
    m.disk.finish();
    await swapped;
    expect(m.disk.log).toHaveLength(1);
    expect(next.log).toHaveLength(1);
    expect(m.ring.takeUsed()).toHaveLength(2);
  });

  it("shows disks beyond 2 TiB", () => {
    const m = new BlockMachine();
    const huge = new MemoryDisk(m.memory, 0);
    Object.defineProperty(huge, "sizeBytes", { value: 4096 * GIB + 511 });
    m.device.setBackend(huge);
    expect(m.read(transport.CONFIG_OFFSET)).toBe(0);
    expect(m.read(transport.CONFIG_OFFSET + 4)).toBe(2);
    expect(hasFeature(m.offered(), regs.FEATURE_RO_BIT)).toBe(false);
  });
});

describe("VirtioBlock in a snapshot", () => {
  it("records what it must offer again", () => {
    expect(new BlockMachine().device.save()).toEqual({
      version: 1,
      capacitySectors: 128,
      readOnly: false,
      cacheType: "Writeback",
      discard: true,
    });
  });
});
