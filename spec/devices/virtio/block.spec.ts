import { describe, expect, it } from "vitest";
import { DISK_DISCARD, DISK_FLUSH, DISK_WRITE_ZEROES } from "../../../src/devices/backend.js";

import { RateLimiter, type RateLimiterConfig } from "../../../src/devices/rate-limiter.js";
import * as regs from "../../../src/devices/virtio/block.regs.js";
import type { BlockOptions } from "../../../src/devices/virtio/block-config.js";
import { featureBits, RING_FEATURES } from "../../../src/devices/virtio/features.js";
import * as transport from "../../../src/devices/virtio/mmio-transport.regs.js";
import { GuestMemory } from "../../../src/native/guest-memory.js";
import { KIB, MIB } from "../../../src/units.js";
import { BlockMachine, DATA, into, out } from "../../support/block-machine.js";
import type { MemoryDiskOptions } from "../../support/memory-disk.js";

const EIO = -5;
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

  it("understands any framing: header in pieces, data beside header and status", () => {
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

describe("VirtioBlock with a rate limiter", () => {
  function limited(config: RateLimiterConfig) {
    const clock = { us: 0 };
    const limiter = new RateLimiter(config, () => clock.us);
    return { m: BlockMachine.started({}, { limiter }), clock, limiter };
  }

  it("leaves in the queue what is beyond its limit, in order, until it is told to go on", () => {
    const { m, clock, limiter } = limited({ bandwidth: { size: 1024, refillTimeMs: 1000 } });
    const requests = [0, 1, 2, 3].map((sector) =>
      m.request(regs.TYPE_IN, sector, into(512, DATA + sector * 512)),
    );
    m.kick();
    expect(m.ring.takeUsed().map(({ head }) => head)).toEqual([requests[0].head, requests[1].head]);
    // A driver that rings again changes nothing.
    m.kick();
    expect(m.ring.takeUsed()).toEqual([]);
    expect(m.device.metrics.rate_limiter_throttled_events).toBeGreaterThanOrEqual(1);
    clock.us = 500_000;
    limiter.reopen();
    m.device.resumeThrottled();
    expect(m.ring.takeUsed().map(({ head }) => head)).toEqual([requests[2].head]);
    clock.us = 1_000_000;
    limiter.reopen();
    m.device.resumeThrottled();
    expect(m.ring.takeUsed().map(({ head }) => head)).toEqual([requests[3].head]);
    expect(m.device.metrics.rate_limiter_event_count).toBe(2);
    expect(m.faults).toEqual([]);
  });

  it("counts operations of every kind, and bytes of reads and writes only", () => {
    const { m } = limited({
      bandwidth: { size: 512, refillTimeMs: 1000 },
      ops: { size: 4, refillTimeMs: 1000 },
    });
    m.request(regs.TYPE_FLUSH, 0);
    m.request(regs.TYPE_GET_ID, 0, into(20));
    m.request(regs.TYPE_OUT, 0, out(512));
    m.request(regs.TYPE_FLUSH, 0);
    m.request(regs.TYPE_FLUSH, 0);
    m.kick();
    expect(m.ring.takeUsed()).toHaveLength(4);
  });

  it("forgets what waited when its driver resets it", () => {
    const { m, clock, limiter } = limited({ ops: { size: 1, refillTimeMs: 1000 } });
    m.request(regs.TYPE_FLUSH, 0);
    m.request(regs.TYPE_FLUSH, 0);
    m.kick();
    m.reset();
    clock.us = 1_000_000;
    limiter.reopen();
    m.device.resumeThrottled();
    expect(m.faults).toEqual([]);
    expect(m.status).toBe(0);
  });
});

describe("VirtioBlock with memory that is unplugged meanwhile", () => {
  it("ends a request whose status has no place any more, and goes on", () => {
    const pluggable = { start: MIB, sizeBytes: MIB, blockBytes: MIB };
    const memory = new GuestMemory(
      new SharedArrayBuffer(2 * MIB),
      [{ start: 0, sizeBytes: MIB }],
      pluggable,
    );
    memory.setPlugged(MIB, MIB, true);
    const m = new BlockMachine({ deferred: true }, {}, memory);
    m.ring = m.start();
    m.disk.bytes.set(pattern(512));
    const header = 200 * KIB;
    m.memory.writeU32(header, regs.TYPE_IN);
    m.memory.writeU64(header + 8, 0);
    const head = m.ring.add(out(16, header), into(512), into(1, MIB));
    const other = m.request(regs.TYPE_IN, 0, into(512, DATA + 512));
    m.kick();
    memory.setPlugged(MIB, MIB, false);
    m.disk.finish();
    expect(m.ring.takeUsed().map((used) => used.head)).toEqual([head, other.head]);
    expect(m.memory.readU8(other.status)).toBe(regs.STATUS_OK);
    expect(m.faults).toEqual([]);
    expect(m.device.reset()).toBeUndefined();
  });
});
