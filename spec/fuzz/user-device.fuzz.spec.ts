/**
 * A user's virtio device between a driver that breaks rules and code that answers when it likes, twice, too
 * late or by a failure: nothing but handled outcomes, no answer that nobody asked for, and a good chain is
 * served after a reset.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChainDevice } from "../../src/devices/virtio/chain-device.js";
import type { DeviceChain } from "../../src/devices/virtio/device-chain.js";
import * as transport from "../../src/devices/virtio/mmio-transport.regs.js";
import { isEstaloError } from "../../src/errors.js";
import { KIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import type { RingDriver } from "../support/ring-driver.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const QUEUE_SIZE = 8;
const ARENA = 16 * KIB;
const MEMORY_BYTES = 64 * KIB;

const segment = fc.record({
  address: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: ARENA, max: MEMORY_BYTES - 4096 }) },
    { weight: 1, arbitrary: fc.constantFrom(0, MEMORY_BYTES - 1, 2 ** 32, 2 ** 53) },
  ),
  length: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: 1, max: 2000 }) },
    { weight: 1, arbitrary: fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1) },
  ),
  writable: fc.boolean(),
});
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant("offer" as const),
      chain: fc.array(segment, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("again" as const), head: fc.nat(QUEUE_SIZE) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("index" as const), index: fc.nat(65_535) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("kick" as const) }) },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("answer" as const),
      which: fc.nat(40),
      bytes: fc.nat(3000),
      offset: fc.oneof(fc.nat(3000), fc.constantFrom(-1, Number.NaN, 2 ** 40)),
      written: fc.oneof(fc.nat(3000), fc.constantFrom(-1, Number.NaN, 2 ** 40, undefined)),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("fail" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("pause" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("resume" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("reset" as const) }) },
);

class Player {
  readonly chains: DeviceChain[] = [];
  readonly m: VirtioMachine<ChainDevice>;
  ring: RingDriver;
  paused = false;

  constructor() {
    this.m = new VirtioMachine(
      createMemory(MEMORY_BYTES),
      (host) =>
        new ChainDevice(host, {
          id: "fuzzed",
          deviceType: 60,
          queues: [QUEUE_SIZE],
          readableBytesMax: 4096,
          onChain: (chain) => this.#take(chain),
        }),
    );
    this.ring = this.#start();
  }

  /** Some are answered at once, some throw, the rest are kept. */
  #take(chain: DeviceChain): number | undefined {
    expect(chain.read().length).toBe(chain.readableBytes);
    expect(chain.readableBytes).toBeLessThanOrEqual(4096);
    this.chains.push(chain);
    if (chain.readableBytes % 7 === 3) return chain.write(chain.read());
    if (chain.readableBytes === 13) throw new RangeError("unlucky");
    return undefined;
  }

  #start(): RingDriver {
    this.paused = false;
    return this.m.start(undefined, { size: QUEUE_SIZE });
  }

  play(one: typeof step extends fc.Arbitrary<infer T> ? T : never): void {
    const { m, ring } = this;
    if (one.do === "offer") ring.add(...one.chain);
    else if (one.do === "again") ring.offer(one.head);
    else if (one.do === "index") ring.showAvailIndex(one.index);
    else if (one.do === "kick") m.kick();
    else if (one.do === "answer") this.#answer(one);
    else if (one.do === "fail") void m.transport.fail("told to");
    else if (one.do === "pause") {
      this.paused = true;
      void m.transport.quiesce();
    } else if (one.do === "resume") {
      this.paused = false;
      m.transport.resume();
    } else this.reset();
    if (ring !== this.ring) return;
    for (const { head, length } of ring.takeUsed()) {
      expect(head).toBeLessThan(QUEUE_SIZE);
      expect(length === 0 || this.chains.some((chain) => chain.head === head)).toBe(true);
    }
  }

  #answer(one: { which: number; bytes: number; offset: number; written: number | undefined }) {
    const chain = this.chains.at(-1 - one.which);
    if (chain === undefined) return;
    const wasOpen = chain.isOpen;
    const before = this.paused || !wasOpen ? this.m.memory.read(0, MEMORY_BYTES) : undefined;
    const wrote = chain.write(new Uint8Array(one.bytes).fill(0xa5), one.offset);
    expect(wrote).toBeLessThanOrEqual(wasOpen ? chain.writableBytes : 0);
    expect(chain.complete(one.written)).toBe(wasOpen);
    expect(chain.complete(one.written)).toBe(false);
    // Nothing of the guest's is touched in a pause, or for a chain that is over.
    if (before !== undefined) expect(this.m.memory.read(0, MEMORY_BYTES)).toEqual(before);
  }

  reset(): void {
    if (this.paused) this.m.transport.resume();
    this.m.reset();
    expect(this.m.status).toBe(0);
    expect(this.chains.every(({ isOpen }) => !isOpen)).toBe(true);
    this.ring = this.#start();
  }
}

describe("a user's device under random drivers and answers", () => {
  it("answers what it was asked, at most once each, and serves again after a reset", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const player = new Player();
        for (const one of steps) {
          try {
            player.play(one);
          } catch (error) {
            if (!(error instanceof RangeError && error.message === "unlucky")) {
              if (!isEstaloError(error)) throw error;
            }
            void player.m.transport.fail("thrown");
          }
        }
        const { completed, refused, chains, dropped } = player.m.device.metrics;
        expect(completed + refused + dropped).toBeLessThanOrEqual(chains);
        player.reset();
        const { ring, m } = player;
        const head = ring.add(
          { address: ARENA, length: 3, writable: false },
          { address: ARENA + 64, length: 3, writable: true },
        );
        m.memory.write(ARENA, Uint8Array.of(1, 2, 3));
        m.kick();
        expect(ring.takeUsed()).toEqual([{ head, length: 3 }]);
        expect([...m.memory.read(ARENA + 64, 3)]).toEqual([1, 2, 3]);
        expect((m.status & transport.STATUS_NEEDS_RESET_MASK) === 0).toBe(true);
      }),
      { numRuns: 1500 },
    );
  });
});
