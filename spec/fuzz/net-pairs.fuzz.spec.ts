/**
 * Random commands, chains and frames against a network device with several pairs of queues: its control queue
 * answers or is reset, no frame comes through a pair that is not used, and a reset brings all back.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as transport from "../../src/devices/virtio/mmio-transport.regs.js";
import { VirtioNet } from "../../src/devices/virtio/net.js";
import * as net from "../../src/devices/virtio/net.regs.js";
import { KIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { FakeNetBackend } from "../support/fake-net-backend.js";
import { RingDriver } from "../support/ring-driver.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const MEMORY_BYTES = 128 * KIB;
const QUEUE_SIZE = 16;
const PAIRS = 3;
const CONTROL = 2 * PAIRS;
/** Behind the rings of all queues, 8 KiB each. */
const ARENA = 64 * KIB;

const command = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.nat(PAIRS + 1).map((pairs) => [4, 0, pairs, 0]),
  },
  { weight: 1, arbitrary: fc.array(fc.nat(255), { minLength: 1, maxLength: 8 }) },
);
const action = fc.oneof(
  fc.record({
    kind: fc.constant("command" as const),
    bytes: command,
    cut: fc.nat(8),
    answerBytes: fc.nat(2),
  }),
  fc.record({ kind: fc.constant("send" as const), pair: fc.nat(PAIRS - 1) }),
  fc.record({ kind: fc.constant("buffer" as const), pair: fc.nat(PAIRS - 1) }),
  fc.record({ kind: fc.constant("arrive" as const), pair: fc.nat(PAIRS - 1) }),
  fc.record({
    kind: fc.constant("noise" as const),
    queue: fc.nat(CONTROL),
    address: fc.nat(MEMORY_BYTES + 64),
    length: fc.oneof(fc.nat(64), fc.constant(2 ** 32 - 1)),
    flags: fc.nat(7),
    next: fc.nat(QUEUE_SIZE + 1),
  }),
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

class Fuzzed {
  readonly memory = createMemory(MEMORY_BYTES);
  readonly backends = Array.from({ length: PAIRS }, (_, index) => {
    const backend = new FakeNetBackend(this.memory);
    backend.isAttached = index === 0;
    return backend;
  });
  readonly m = new VirtioMachine(
    this.memory,
    (host) => new VirtioNet(host, { backends: this.backends, mac: new Uint8Array(6) }),
  );
  rings: RingDriver[] = [];

  bringUp(): void {
    this.m.negotiate();
    this.rings = this.m.device.queueSizes.map(
      (_, index) =>
        new RingDriver(this.memory, { size: QUEUE_SIZE, eventIdx: true, start: index * 8 * KIB }),
    );
    for (const [index, ring] of this.rings.entries()) this.m.setUpQueue(index, ring);
    this.m.driverOk();
  }

  play(one: Action): void {
    const { m, memory, rings } = this;
    if (one.kind === "command") {
      memory.write(ARENA, Uint8Array.from(one.bytes));
      const cut = Math.min(one.cut, one.bytes.length);
      const chain = [
        { address: ARENA, length: cut },
        { address: ARENA + cut, length: one.bytes.length - cut },
        { address: ARENA + 64, length: one.answerBytes, writable: true },
      ].filter(({ length }) => length > 0);
      rings[CONTROL].add(...chain);
    } else if (one.kind === "send") {
      rings[2 * one.pair + 1].add({ address: ARENA + KIB, length: 60 });
    } else if (one.kind === "buffer") {
      rings[2 * one.pair].add({ address: ARENA + 2 * KIB, length: 1526, writable: true });
    } else if (one.kind === "arrive") {
      this.backends[one.pair].arrive(new Uint8Array(60).fill(7));
    } else {
      const ring = rings[one.queue];
      ring.writeDescriptor(ring.descriptorTable, 0, one, one.flags, one.next);
      ring.offer(0);
    }
    for (let queue = 0; queue <= CONTROL; queue++) m.kick(queue);
    m.deliver();
    m.runDeferred();
  }
}

describe("VirtioNet with several pairs under random commands", () => {
  it("attaches the pairs that are used, and serves all of them after a reset", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const fuzzed = new Fuzzed();
        const { m, backends } = fuzzed;
        fuzzed.bringUp();
        for (const one of actions) {
          fuzzed.play(one);
          const { activePairs } = m.device.save();
          const attached = backends.map(({ isAttached }) => isAttached);
          expect(attached).toEqual(backends.map((_, index) => index < activePairs));
          if ((m.status & transport.STATUS_NEEDS_RESET_MASK) === 0) continue;
          m.reset();
          expect(m.device.save().activePairs).toBe(1);
          fuzzed.bringUp();
        }
        m.reset();
        fuzzed.bringUp();
        for (const backend of backends) backend.waiting.length = backend.sent.length = 0;
        fuzzed.play({ kind: "command", bytes: [4, 0, PAIRS, 0], cut: 2, answerBytes: 1 });
        expect(fuzzed.memory.readU8(ARENA + 64)).toBe(net.CONTROL_OK);
        for (let pair = 0; pair < PAIRS; pair++) {
          fuzzed.play({ kind: "send", pair });
          expect(backends[pair].sent).toHaveLength(1);
          fuzzed.play({ kind: "buffer", pair });
          fuzzed.play({ kind: "arrive", pair });
          expect(fuzzed.rings[2 * pair].takeUsed()).toHaveLength(1);
        }
      }),
      { numRuns: 200 },
    );
  });
});
