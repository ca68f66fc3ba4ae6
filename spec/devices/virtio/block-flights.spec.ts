import { describe, expect, it } from "vitest";
import * as regs from "../../../src/devices/virtio/block.regs.js";
import { BlockFlights } from "../../../src/devices/virtio/block-flights.js";
import * as transport from "../../../src/devices/virtio/mmio-transport.regs.js";
import { GIB, KIB, MIB } from "../../../src/units.js";
import { BlockMachine, DISK_BYTES, into, out } from "../../support/block-machine.js";
import { MemoryDisk } from "../../support/memory-disk.js";

describe("BlockFlights", () => {
  it("hands out each tag once until it is released", () => {
    const flights = new BlockFlights(3);
    const tags = [0, 1, 2].map((head) => flights.take(head, 0, 0, 0));
    expect(new Set(tags)).toEqual(new Set([0, 1, 2]));
    expect(flights.full).toBe(true);
    flights.release(tags[1]);
    expect(flights.count).toBe(2);
    expect(flights.take(9, 0, 0, 0)).toBe(tags[1]);
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

  it("gives them their turn after some megabytes, too", () => {
    const m = BlockMachine.started();
    const disk = new MemoryDisk(m.memory, 512 * KIB);
    void m.device.setBackend(disk);
    const { head } = m.request(regs.TYPE_IN, 0, into(512 * KIB));
    for (let index = 1; index < 256; index++) m.ring.offer(head);
    m.kick();
    let turn = 1;
    for (; m.deferred.length > 0; turn++) {
      expect(disk.log.length * 512 * KIB).toBeLessThanOrEqual(turn * 32 * MIB);
      m.runDeferred(1);
    }
    expect(turn).toBeGreaterThanOrEqual(4);
    expect(m.ring.takeUsed()).toHaveLength(256);
  });

  it("has no more than some megabytes in flight, but for a request that is larger", () => {
    const m = BlockMachine.started();
    const disk = new MemoryDisk(m.memory, 512 * KIB, { deferred: true, depth: 250 });
    void m.device.setBackend(disk);
    const { head } = m.request(regs.TYPE_IN, 0, into(512 * KIB));
    for (let index = 1; index < 240; index++) m.ring.offer(head);
    m.kick();
    m.runDeferred();
    expect(disk.inFlight * 512 * KIB).toBe(64 * MIB);
    disk.finish(10);
    m.runDeferred();
    expect(disk.inFlight * 512 * KIB).toBe(64 * MIB);
    while (disk.inFlight > 0) {
      disk.finish();
      m.runDeferred();
    }
    expect(m.ring.takeUsed()).toHaveLength(240);
    const flights = new BlockFlights(2);
    flights.release(flights.take(0, 0, 0, 3 * GIB));
    expect(flights.full).toBe(false);
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

  it("ends what is in flight on the old one, and leaves the rest for the new one", async () => {
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

  it("takes the last of several backends set meanwhile; no request goes astray", async () => {
    const m = BlockMachine.started({ depth: 1, deferred: true });
    m.request(regs.TYPE_IN, 0, into(512));
    m.request(regs.TYPE_IN, 1, into(512));
    m.kick();
    const second = new MemoryDisk(m.memory, DISK_BYTES);
    const third = new MemoryDisk(m.memory, DISK_BYTES);
    const swaps = [m.device.setBackend(second), m.device.setBackend(third)];
    m.disk.finish();
    await Promise.all(swaps);
    expect([m.disk.log.length, second.log.length, third.log.length]).toEqual([1, 0, 1]);
    expect(m.ring.takeUsed()).toHaveLength(2);
    expect(m.device.metrics.update_count).toBe(1);
  });

  it("refuses what the new backend cannot do, though its driver was offered it", () => {
    const m = BlockMachine.started();
    const next = new MemoryDisk(m.memory, DISK_BYTES, { supportsDiscard: false });
    void m.device.setBackend(next);
    const statuses = [regs.TYPE_DISCARD, regs.TYPE_WRITE_ZEROES].map(
      (type) => m.run(type, 0, m.ranges([0, 8, 0])).status,
    );
    expect(statuses).toEqual([regs.STATUS_UNSUPP, regs.STATUS_UNSUPP]);
    expect(next.log).toEqual([]);
    expect(m.run(regs.TYPE_OUT, 0, out(512)).status).toBe(regs.STATUS_OK);
  });

  it("shows disks beyond 2 TiB", () => {
    const m = new BlockMachine();
    const huge = new MemoryDisk(m.memory, 0);
    Object.defineProperty(huge, "sizeBytes", { value: 4096 * GIB + 511 });
    void m.device.setBackend(huge);
    expect(m.read(transport.CONFIG_OFFSET)).toBe(0);
    expect(m.read(transport.CONFIG_OFFSET + 4)).toBe(2);
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
