/**
 * Random requests, and chains of any shape, against the memory device over real guest memory, and against
 * persistent memory. A model says what is plugged; whatever the driver asks, memory is what the model has, KVM has
 * the slots of that, and no more than was ever asked for is within reach.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PluggedMemory } from "../../src/actors/backends/plugged-memory.js";
import { PLUGGED_SLOT_FIRST } from "../../src/boot/layout.js";
import { VirtioMem } from "../../src/devices/virtio/mem.js";
import * as transport from "../../src/devices/virtio/mmio-transport.regs.js";
import { VirtioPmem } from "../../src/devices/virtio/pmem.js";
import { native } from "../../src/native/binding.js";
import { GuestMemory } from "../../src/native/guest-memory.js";
import { GIB, KIB, MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import type { RingDriver, Segment } from "../support/ring-driver.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const REGIONS = [{ start: 0, sizeBytes: MIB }];
const LAYOUT = { start: 4 * GIB, sizeBytes: 64 * MIB, blockBytes: 2 * MIB, slotBytes: 8 * MIB };
const BLOCKS = LAYOUT.sizeBytes / LAYOUT.blockBytes;
const SLOT_BLOCKS = LAYOUT.slotBytes / LAYOUT.blockBytes;
const QUEUE_SIZE = 16;
const DATA = 64 * KIB;
const SPLITS = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });

const request = fc.record({
  type: fc.oneof({ weight: 9, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: fc.nat(65_535) }),
  block: fc.integer({ min: -1, max: BLOCKS }),
  count: fc.oneof({ weight: 9, arbitrary: fc.nat(10) }, { weight: 1, arbitrary: fc.nat(65_535) }),
  offset: fc.oneof(
    { weight: 12, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constantFrom(1, 4096, 2 ** 40, 2 ** 63) },
  ),
});
const action = fc.oneof(
  { weight: 10, arbitrary: request.map((one) => ({ kind: "request" as const, ...one })) },
  { weight: 3, arbitrary: fc.nat(BLOCKS).map((blocks) => ({ kind: "ask" as const, blocks })) },
  { weight: 1, arbitrary: fc.constant({ kind: "reset" as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("chain" as const),
      readable: SPLITS,
      writable: SPLITS,
    }),
  },
);
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

/** Cuts `bytes` from `at` on into segments of these lengths, the rest in the last. */
function cut(at: number, splits: readonly number[], writable: boolean): Segment[] {
  let next = at;
  return splits.map((length) => {
    const segment = { address: next, length, writable };
    next += length;
    return segment;
  });
}

/** What the device is to do, in the fewest words. */
class Model {
  readonly plugged = new Array<boolean>(BLOCKS).fill(false);
  requested = 0;
  usable = 0;

  get count(): number {
    return this.plugged.filter(Boolean).length;
  }

  ask(blocks: number): void {
    this.requested = blocks;
    this.usable = Math.max(this.usable, Math.ceil(blocks / SLOT_BLOCKS) * SLOT_BLOCKS);
  }

  answer({ type, block, count, offset }: Request): number {
    if (type === 2) {
      this.plugged.fill(false);
      this.usable = Math.ceil(this.requested / SLOT_BLOCKS) * SLOT_BLOCKS;
      return 0;
    }
    if (type > 3 || offset !== 0 || block < 0 || count === 0 || block + count > this.usable)
      return 3;
    const range = this.plugged.slice(block, block + count);
    if (type === 3) return 0;
    if (range.includes(type === 0)) return 3;
    if (type === 0 && this.count + count > this.requested) return 1;
    this.plugged.fill(type === 0, block, block + count);
    return 0;
  }
}

describe("VirtioMem under random requests", () => {
  it("does what the model does, and nothing else is memory", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const mapping = new (native().GuestMapping)([...REGIONS, LAYOUT]);
        try {
          playMem(mapping, actions);
        } finally {
          mapping.close();
        }
      }),
      { numRuns: 300 },
    );
  });

  function playMem(
    mapping: InstanceType<ReturnType<typeof native>["GuestMapping"]>,
    actions: readonly (typeof action extends fc.Arbitrary<infer T> ? T : never)[],
  ): void {
    const memory = new GuestMemory(mapping.buffer, REGIONS, LAYOUT);
    const slots = new Set<number>();
    const vm = {
      setMemorySlot: (slot: number) => expect(slots.size).toBeLessThan(slots.add(slot).size),
      removeMemorySlot: (slot: number) => expect(slots.delete(slot)).toBe(true),
    };
    const plugger = new PluggedMemory(vm, mapping, memory, LAYOUT);
    const m = new VirtioMachine(
      memory,
      (host) => new VirtioMem(host, { ...LAYOUT, plugger, nowUs: () => 0 }),
    );
    let ring: RingDriver = m.start(undefined, { size: QUEUE_SIZE });
    const model = new Model();
    for (const one of actions) {
      if (one.kind === "ask") {
        model.ask(one.blocks);
        m.device.setRequested(one.blocks * LAYOUT.blockBytes);
      } else if (one.kind === "reset") {
        m.reset();
        ring = m.start(undefined, { size: QUEUE_SIZE });
      } else if (one.kind === "chain") {
        // Of a type that there is not, whole or cut short.
        memory.fill(DATA, 64, 0xff);
        ring.add(...cut(DATA, one.readable, false), ...cut(DATA + 64, one.writable, true));
        m.kick();
        m.runDeferred();
        expect(ring.takeUsed()).toHaveLength(1);
      } else {
        expect(ask(m, ring, one)).toBe(model.answer(one));
      }
      expect(m.faults).toEqual([]);
      expect(m.device.pluggedBytes).toBe(model.count * LAYOUT.blockBytes);
      for (let block = 0; block < BLOCKS; block++) {
        const gpa = LAYOUT.start + block * LAYOUT.blockBytes;
        expect(memory.contains(gpa, LAYOUT.blockBytes)).toBe(model.plugged[block]);
        if (model.plugged[block]) {
          expect(slots.has(PLUGGED_SLOT_FIRST + Math.floor(block / SLOT_BLOCKS))).toBe(true);
        }
      }
      const used = new Set(
        model.plugged.flatMap((is, block) => (is ? [Math.floor(block / SLOT_BLOCKS)] : [])),
      );
      expect(slots.size).toBe(used.size);
    }
  }

  function ask(m: VirtioMachine<VirtioMem>, ring: RingDriver, one: Request): number {
    const { memory } = m;
    memory.fill(DATA, 64, 0);
    memory.writeU16(DATA, one.type);
    memory.writeU64(DATA + 8, LAYOUT.start + one.block * LAYOUT.blockBytes + one.offset);
    memory.writeU16(DATA + 16, one.count);
    ring.add({ address: DATA, length: 24 }, { address: DATA + 32, length: 10, writable: true });
    m.kick();
    m.runDeferred();
    expect(ring.takeUsed()).toHaveLength(1);
    return memory.readU16(DATA + 32);
  }
});

describe("VirtioPmem under random chains", () => {
  const chain = fc.record({
    type: fc.oneof(fc.constant(0), fc.nat(0xffff_ffff)),
    readable: SPLITS,
    writable: fc.option(SPLITS, { nil: [] as number[] }),
  });
  const round = fc.record({
    chains: fc.array(chain, { maxLength: 3 }),
    heads: fc.oneof(
      { weight: 6, arbitrary: fc.constant([] as number[]) },
      { weight: 1, arbitrary: fc.array(fc.nat(65_535), { maxLength: 2 }) },
    ),
    isReset: fc.boolean(),
    isDone: fc.boolean(),
  });

  it("answers each once, syncs one at a time, and serves a good request after a reset", () => {
    fc.assert(
      fc.property(fc.array(round, { maxLength: 12 }), (rounds) => {
        const waiting: ((isDone: boolean) => void)[] = [];
        const backend = {
          sizeBytes: 1,
          sync: (done: (isDone: boolean) => void) => {
            expect(waiting).toHaveLength(0);
            waiting.push(done);
          },
        };
        const m = new VirtioMachine(
          createMemory(MIB),
          (host) => new VirtioPmem(host, { start: 4 * GIB, sizeBytes: 2 * MIB, backend }),
        );
        let ring = m.start(undefined, { size: QUEUE_SIZE });
        const restart = () => {
          m.reset();
          ring = m.start(undefined, { size: QUEUE_SIZE });
        };
        for (const { chains, heads, isReset, isDone } of rounds) {
          for (const { type, readable, writable } of chains) {
            m.memory.writeU32(DATA, type);
            ring.add(...cut(DATA, readable, false), ...cut(DATA + 64, writable, true));
          }
          for (const head of heads) ring.offer(head);
          m.kick();
          if (isReset) restart();
          while (waiting.length > 0) waiting.shift()?.(isDone);
          m.runDeferred();
          expect(ring.takeUsed().length).toBeLessThanOrEqual(QUEUE_SIZE);
          if ((m.status & transport.STATUS_NEEDS_RESET_MASK) !== 0) restart();
        }
        restart();
        m.memory.writeU32(DATA, 0);
        ring.add({ address: DATA, length: 4 }, { address: DATA + 64, length: 4, writable: true });
        m.kick();
        while (waiting.length > 0) waiting.shift()?.(true);
        expect(ring.takeUsed()).toEqual([{ head: 0, length: 4 }]);
        expect(m.memory.readU32(DATA + 64)).toBe(0);
      }),
      { numRuns: 1000 },
    );
  });
});
