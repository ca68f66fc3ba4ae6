import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { type BalloonOptions, VirtioBalloon } from "../../../src/devices/virtio/balloon.js";
import * as regs from "../../../src/devices/virtio/balloon.regs.js";
import { featureBits, RING_FEATURES } from "../../../src/devices/virtio/features.js";
import * as transport from "../../../src/devices/virtio/mmio-transport.regs.js";
import { KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import { RingDriver } from "../../support/ring-driver.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const PAGE = regs.PAGE_BYTES;
const DATA = 512 * KIB;
/** As the device has it: what it does in one turn. */
const TURN_WORK = 1024;

class BalloonMachine extends VirtioMachine<VirtioBalloon> {
  readonly reclaimed: [start: number, bytes: number][];
  readonly rings: RingDriver[] = [];

  constructor(
    options: Partial<BalloonOptions> = {},
    refused: readonly number[] = [],
    memoryBytes = MIB,
  ) {
    const reclaimed: [number, number][] = [];
    const reclaim = (starts: Float64Array, lengths: Float64Array, count: number): number => {
      let freed = 0;
      for (let range = 0; range < count; range++) {
        reclaimed.push([starts[range], lengths[range]]);
        if (!refused.includes(starts[range])) freed += lengths[range];
      }
      return freed;
    };
    super(
      createMemory(memoryBytes),
      (host) =>
        new VirtioBalloon(host, {
          reclaimer: { reclaim },
          targetPages: 0,
          deflateOnOom: true,
          hasStatistics: true,
          hasHinting: true,
          hasReporting: true,
          ...options,
        }),
    );
    this.reclaimed = reclaimed;
    this.negotiate();
    for (let index = 0; index < this.device.queueSizes.length; index++) {
      const start = 4096 + index * 32 * KIB;
      const ring = new RingDriver(this.memory, { eventIdx: true, start });
      this.rings.push(ring);
      this.setUpQueue(index, ring);
    }
    this.driverOk();
  }

  /** Offers page numbers on a queue. */
  give(queue: number, ...pages: number[]): void {
    for (const [index, page] of pages.entries()) this.memory.writeU32(DATA + 4 * index, page);
    this.rings[queue].add({ address: DATA, length: 4 * pages.length });
    this.kick(queue);
  }

  config(offset: number): number {
    return this.read(transport.CONFIG_OFFSET + offset);
  }
}

describe("VirtioBalloon", () => {
  it("offers what it is made with, and numbers its queues without gaps", () => {
    const all = new BalloonMachine();
    expect(all.offered()).toEqual(featureBits([...RING_FEATURES, 1, 2, 3, 5]));
    expect(all.device.queueSizes).toHaveLength(5);
    const one = new BalloonMachine({
      hasStatistics: false,
      hasHinting: false,
      deflateOnOom: false,
    });
    expect(one.offered()).toEqual(featureBits([...RING_FEATURES, 5]));
    one.rings[2].add({ address: 640 * KIB, length: 8 * KIB, writable: true });
    one.kick(2);
    expect(one.device.metrics.free_page_report_freed).toBe(8 * KIB);
  });

  it("tells its target, hears what the driver has given, and changes its mind", () => {
    const m = new BalloonMachine({ targetPages: 100 });
    expect(m.config(regs.CONFIG_TARGET_OFFSET)).toBe(100);
    m.write(transport.CONFIG_OFFSET + regs.CONFIG_ACTUAL_OFFSET, 60);
    expect(m.device.actualPages).toBe(60);
    // Only that field is the driver's.
    m.write(transport.CONFIG_OFFSET + regs.CONFIG_TARGET_OFFSET, 7);
    m.device.setTarget(40);
    expect(m.config(regs.CONFIG_TARGET_OFFSET)).toBe(40);
    expect(m.config(regs.CONFIG_ACTUAL_OFFSET)).toBe(60);
    expect(m.read(transport.INTERRUPT_STATUS_OFFSET) & 2).toBe(2);
  });

  it("reclaims pages that the driver gives, in as few ranges as they make", () => {
    const m = new BalloonMachine();
    m.give(0, 200, 201, 202, 210, 209, 208);
    expect(m.reclaimed).toEqual([
      [200 * PAGE, 3 * PAGE],
      [208 * PAGE, 3 * PAGE],
    ]);
    expect(m.rings[0].takeUsed()).toHaveLength(1);
    m.give(1, 200, 201);
    expect(m.reclaimed).toHaveLength(2);
    expect(m.device.metrics).toMatchObject({ inflate_count: 1, deflate_count: 1, event_fails: 0 });
  });

  it("leaves alone and counts what lies in no memory, and half a page number", () => {
    const m = new BalloonMachine();
    m.give(0, 255, 256, 0xffff_ffff);
    expect(m.reclaimed).toEqual([[255 * PAGE, PAGE]]);
    expect(m.device.metrics.event_fails).toBe(2);
    m.rings[0].add({ address: DATA, length: 6 });
    m.kick(0);
    expect(m.device.metrics.event_fails).toBe(3);
    expect(m.faults).toEqual([]);
  });

  it("counts what the host refuses", () => {
    const m = new BalloonMachine({}, [640 * KIB]);
    m.rings[4].add({ address: 640 * KIB, length: 64 * KIB, writable: true });
    m.kick(4);
    expect(m.device.metrics).toMatchObject({
      free_page_report_count: 1,
      free_page_report_freed: 0,
      free_page_report_fails: 1,
    });
  });

  it("keeps a buffer for statistics, and gives it back to have it filled", () => {
    const m = new BalloonMachine();
    const put = (value: number) => {
      const bytes = new DataView(new ArrayBuffer(2 * regs.STATISTIC_BYTES));
      bytes.setUint16(0, 4, true);
      bytes.setBigUint64(2, BigInt(value), true);
      bytes.setUint16(10, 999, true);
      m.memory.write(DATA, new Uint8Array(bytes.buffer));
      m.rings[2].add({ address: DATA, length: bytes.byteLength });
      m.kick(2);
    };
    put(1000);
    expect(m.device.statistics).toEqual({ free_memory: 1000 });
    expect(m.rings[2].takeUsed()).toEqual([]);
    m.device.requestStatistics();
    expect(m.rings[2].takeUsed()).toHaveLength(1);
    // The driver owes us an answer: nothing to give back.
    m.device.requestStatistics();
    expect(m.rings[2].takeUsed()).toEqual([]);
    put(2000);
    expect(m.device.statistics).toEqual({ free_memory: 2000 });
    expect(m.device.metrics.stats_updates_count).toBe(2);
  });

  it("asks for statistics when a pause has ended, and never a device that is broken", () => {
    const m = new BalloonMachine();
    const offer = () => {
      m.rings[2].add({ address: DATA, length: regs.STATISTIC_BYTES });
      m.kick(2);
    };
    offer();
    void m.transport.quiesce();
    m.device.requestStatistics();
    expect(m.rings[2].takeUsed()).toEqual([]);
    m.transport.resume();
    expect(m.rings[2].takeUsed()).toHaveLength(1);
    offer();
    m.transport.needsReset("its queue");
    m.device.requestStatistics();
    expect(m.rings[2].takeUsed()).toEqual([]);
  });

  it("takes no more statistics in one turn than its queue has entries", () => {
    const m = new BalloonMachine();
    const ring = m.rings[2];
    const read = m.memory.read.bind(m.memory);
    let offers = 4 * ring.size;
    const offer = () => ring.add({ address: DATA, length: regs.STATISTIC_BYTES });
    // While one is read, the driver offers the next.
    vi.spyOn(m.memory, "read").mockImplementation((gpa, bytes) => {
      if (offers-- > 0) offer();
      return read(gpa, bytes);
    });
    offer();
    m.kick(2);
    // One is kept.
    expect(ring.takeUsed()).toHaveLength(ring.size - 1);
    expect(m.device.metrics.stats_updates_count).toBe(ring.size);
    m.runDeferred();
    expect(m.device.metrics.stats_updates_count).toBe(4 * ring.size + 1);
    expect(m.faults).toEqual([]);
  });

  it("takes free pages of the run it asked for only, and ends the run when the driver is through", () => {
    const m = new BalloonMachine();
    const hint = (command: number) => {
      m.memory.writeU32(DATA, command);
      m.rings[3].add({ address: DATA, length: 4 });
      m.kick(3);
    };
    const lend = (address: number) => {
      m.rings[3].add({ address, length: 16 * KIB, writable: true });
      m.kick(3);
    };
    m.device.startHinting(true);
    const command = m.config(regs.CONFIG_HINT_COMMAND_OFFSET);
    expect(command).toBe(regs.HINT_FIRST);
    lend(640 * KIB);
    expect(m.reclaimed).toEqual([]);
    hint(command);
    lend(640 * KIB);
    expect(m.reclaimed).toEqual([[640 * KIB, 16 * KIB]]);
    hint(regs.HINT_STOP);
    expect(m.config(regs.CONFIG_HINT_COMMAND_OFFSET)).toBe(regs.HINT_DONE);
    expect(m.device.hinting).toEqual({ hostCommand: 1, guestCommand: 0 });
    m.device.startHinting(false);
    hint(m.config(regs.CONFIG_HINT_COMMAND_OFFSET));
    hint(regs.HINT_STOP);
    expect(m.config(regs.CONFIG_HINT_COMMAND_OFFSET)).toBe(3);
    m.device.stopHinting();
    expect(m.device.hinting.hostCommand).toBe(regs.HINT_DONE);
  });

  it("has taken the pages of a run before it tells the driver that it may use them again", () => {
    const m = new BalloonMachine();
    m.device.startHinting(true);
    const takenWhenTold: number[] = [];
    const updateConfig = m.transport.updateConfig.bind(m.transport);
    vi.spyOn(m.transport, "updateConfig").mockImplementation((bytes) => {
      takenWhenTold.push(m.reclaimed.length);
      updateConfig(bytes);
    });
    m.memory.writeU32(DATA, regs.HINT_FIRST);
    m.memory.writeU32(DATA + 4, regs.HINT_STOP);
    m.rings[3].add({ address: DATA, length: 4 });
    m.rings[3].add({ address: 640 * KIB, length: 16 * KIB, writable: true });
    m.rings[3].add({ address: DATA + 4, length: 4 });
    m.kick(3);
    expect(m.config(regs.CONFIG_HINT_COMMAND_OFFSET)).toBe(regs.HINT_DONE);
    expect(m.reclaimed).toEqual([[640 * KIB, 16 * KIB]]);
    expect(takenWhenTold).toEqual([1]);
    expect(m.device.metrics.free_page_hint_freed).toBe(16 * KIB);
  });

  it("takes a thousand pages in one turn, also of a large chain, and each page of all of them", () => {
    const m = new BalloonMachine();
    const pages = 5000;
    // No two of them make a range.
    m.give(0, ...Array.from({ length: pages }, (_, index) => 128 + 2 * (index % 64)));
    expect(m.reclaimed).toHaveLength(TURN_WORK - 1);
    expect(m.rings[0].takeUsed()).toEqual([]);
    m.runDeferred(1);
    void m.transport.quiesce();
    m.runDeferred();
    m.transport.resume();
    m.runDeferred();
    expect(m.rings[0].takeUsed()).toHaveLength(1);
    expect(m.reclaimed.map(([start]) => start / PAGE)).toEqual(
      Array.from({ length: pages }, (_, index) => 128 + 2 * (index % 64)),
    );
    expect(m.device.metrics).toMatchObject({ inflate_count: 1, event_fails: 0 });
    expect(m.faults).toEqual([]);
  });

  it("takes as many pages in one turn where many chains name them", () => {
    const m = new BalloonMachine();
    for (let index = 0; index < 64; index++) m.memory.writeU32(DATA + 4 * index, 128 + 2 * index);
    const chains = 200;
    for (let chain = 0; chain < chains; chain++) m.rings[0].add({ address: DATA, length: 4 * 64 });
    m.kick(0);
    expect(m.reclaimed.length).toBeLessThanOrEqual(TURN_WORK);
    m.runDeferred();
    expect(m.reclaimed).toHaveLength(chains * 64);
    expect(m.rings[0].takeUsed()).toHaveLength(chains);
    expect(m.device.metrics.inflate_count).toBe(chains);
  });

  it("takes every page of every chain once, however chains are cut and turns fall", () => {
    const chain = fc.record({
      pages: fc.array(fc.integer({ min: 128, max: 300 }), { minLength: 1, maxLength: 900 }),
      cuts: fc.array(fc.integer({ min: 1, max: 400 }), { maxLength: 5 }),
    });
    fc.assert(
      fc.property(
        fc.array(chain, { minLength: 1, maxLength: 8 }),
        fc.boolean(),
        (chains, pauses) => {
          const m = new BalloonMachine();
          let at = DATA;
          const heads = chains.map(({ pages, cuts }) => {
            for (const [index, page] of pages.entries()) m.memory.writeU32(at + 4 * index, page);
            const end = at + 4 * pages.length;
            const segments: { address: number; length: number }[] = [];
            for (const cut of [...cuts, Number.POSITIVE_INFINITY]) {
              const length = Math.min(cut, end - at);
              if (length > 0) segments.push({ address: at, length });
              at += length;
            }
            return m.rings[0].add(...segments);
          });
          m.kick(0);
          while (m.deferred.length > 0) {
            m.runDeferred(1);
            if (!pauses) continue;
            void m.transport.quiesce();
            m.transport.resume();
          }
          const given = m.reclaimed.flatMap(([start, bytes]) =>
            Array.from({ length: bytes / PAGE }, (_, index) => start / PAGE + index),
          );
          const sorted = (pages: number[]) => [...pages].sort((a, b) => a - b);
          const all = chains.flatMap(({ pages }) => pages).filter((page) => page < 256);
          expect(sorted(given)).toEqual(sorted(all));
          expect(m.rings[0].takeUsed().map(({ head }) => head)).toEqual(heads);
          expect(m.device.metrics.inflate_count).toBe(chains.length);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("takes some megabytes of free memory in one turn, without a cut through a huge page", () => {
    const m = new BalloonMachine({}, [], 256 * MIB);
    const all = { address: MIB, length: 255 * MIB, writable: true };
    m.rings[4].add(all, { address: 3 * MIB, length: 16 * KIB, writable: true });
    m.kick(4);
    for (let turn = 1; m.device.metrics.free_page_report_count === 0; turn++) {
      const taken = m.reclaimed.reduce((sum, [, bytes]) => sum + bytes, 0);
      expect(taken).toBeGreaterThan(0);
      expect(taken).toBeLessThanOrEqual(turn * 34 * MIB);
      expect(m.rings[4].takeUsed()).toEqual([]);
      m.runDeferred(1);
    }
    expect(m.rings[4].takeUsed()).toHaveLength(1);
    expect(m.reclaimed.length).toBeGreaterThan(4);
    expect(m.reclaimed.at(-1)).toEqual([3 * MIB, 16 * KIB]);
    let at = MIB;
    for (const [start, bytes] of m.reclaimed.slice(0, -1)) {
      expect(start).toBe(at);
      at += bytes;
      expect(at % (2 * MIB)).toBe(0);
    }
    expect(at).toBe(256 * MIB);
    expect(m.device.metrics).toMatchObject({
      free_page_report_count: 1,
      free_page_report_freed: 255 * MIB + 16 * KIB,
      free_page_report_fails: 0,
    });
  });

  it("takes no more of a run of hints that ends between two turns, and hears its command once", () => {
    const m = new BalloonMachine({}, [], 256 * MIB);
    m.device.startHinting(true);
    const command = m.config(regs.CONFIG_HINT_COMMAND_OFFSET);
    m.memory.writeU32(DATA, command);
    const lend = () =>
      m.rings[3].add(
        { address: DATA, length: 4 },
        { address: 2 * MIB, length: 254 * MIB, writable: true },
      );
    lend();
    m.kick(3);
    expect(m.rings[3].takeUsed()).toEqual([]);
    m.device.stopHinting();
    const before = m.reclaimed.length;
    m.runDeferred();
    expect(m.rings[3].takeUsed()).toHaveLength(1);
    expect(m.reclaimed).toHaveLength(before);
    expect(m.device.metrics.free_page_hint_count).toBe(1);
  });

  it("forgets its driver at a reset, a chain that was taken in part as well", () => {
    const m = new BalloonMachine();
    m.give(0, ...Array.from({ length: 5000 }, (_, index) => 128 + 2 * (index % 64)));
    m.reset();
    m.reclaimed.length = 0;
    m.negotiate();
    const ring = new RingDriver(m.memory, { eventIdx: true });
    m.setUpQueue(0, ring);
    m.driverOk();
    m.rings[0] = ring;
    m.give(0, 200, 201);
    expect(m.reclaimed).toEqual([[200 * PAGE, 2 * PAGE]]);
  });

  it("forgets what its driver told at a reset", () => {
    const m = new BalloonMachine();
    m.write(transport.CONFIG_OFFSET + regs.CONFIG_ACTUAL_OFFSET, 60);
    m.reset();
    expect(m.device.actualPages).toBe(0);
    m.device.requestStatistics();
    expect(m.faults).toEqual([]);
  });
});
