import { describe, expect, it } from "vitest";
import { featureBits } from "../../../src/devices/virtio/features.js";
import * as transport from "../../../src/devices/virtio/mmio-transport.regs.js";
import { VirtioNet } from "../../../src/devices/virtio/net.js";
import * as regs from "../../../src/devices/virtio/net.regs.js";
import { KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import { FakeNetBackend } from "../../support/fake-net-backend.js";
import { RingDriver } from "../../support/ring-driver.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const MAC = Uint8Array.of(6, 0, 1, 2, 3, 4);
const DATA = 512 * KIB;
const FRAME = new Uint8Array(60).fill(7);

/** A device with so many pairs; every queue's rings lie in 16 KiB of their own. */
class PairsMachine extends VirtioMachine<VirtioNet> {
  readonly backends: readonly FakeNetBackend[];
  readonly rings: readonly RingDriver[];
  readonly control: number;

  constructor(pairs: number, without: readonly number[] = []) {
    const memory = createMemory(MIB);
    const backends = Array.from({ length: pairs }, (_, index) => {
      const backend = new FakeNetBackend(memory);
      backend.isAttached = index === 0;
      return backend;
    });
    super(memory, (host) => new VirtioNet(host, { backends, mac: MAC }));
    this.backends = backends;
    const offered = this.offered();
    this.negotiate({
      low: (offered.low & ~featureBits(without).low) >>> 0,
      high: offered.high,
    });
    this.control = without.includes(regs.FEATURE_MQ_BIT) ? 2 : 2 * pairs;
    this.rings = this.device.queueSizes.map(
      (size, index) =>
        new RingDriver(memory, {
          size: Math.min(size, 64),
          eventIdx: true,
          start: (index + 1) * 16 * KIB,
        }),
    );
    for (const [index, ring] of this.rings.entries()) this.setUpQueue(index, ring);
    this.driverOk();
  }

  /** Gives a command, cut where asked; the device's answer, 255 where it gave none. */
  command(bytes: readonly number[], { cut = 0, answerBytes = 1 } = {}): number {
    this.memory.write(DATA, Uint8Array.from(bytes));
    this.memory.write(DATA + 4096, Uint8Array.of(255));
    const parts = [
      { address: DATA, length: cut },
      { address: DATA + cut, length: bytes.length - cut },
      { address: DATA + 4096, length: answerBytes, writable: true },
    ];
    this.rings[this.control].add(...parts.filter(({ length }) => length > 0));
    this.kick(this.control);
    this.runDeferred();
    expect(this.rings[this.control].takeUsed()).toHaveLength(1);
    return this.memory.readU8(DATA + 4096);
  }

  usePairs(pairs: number): number {
    return this.command([4, 0, pairs % 256, Math.floor(pairs / 256)]);
  }

  /** A buffer on this pair's receive queue. */
  buffer(pair: number): void {
    this.rings[2 * pair].add({ address: DATA + 8192 * (pair + 1), length: 1526, writable: true });
    this.kick(2 * pair);
  }

  send(pair: number): void {
    this.memory.write(DATA, FRAME);
    this.rings[2 * pair + 1].add({ address: DATA, length: FRAME.length });
    this.kick(2 * pair + 1);
  }
}

const attached = ({ backends }: PairsMachine) => backends.map(({ isAttached }) => isAttached);
const received = (m: PairsMachine, pair: number) => m.rings[2 * pair].takeUsed().length;

describe("VirtioNet with several pairs of queues", () => {
  it("offers them and a control queue, and neither with one pair", () => {
    const several = new PairsMachine(3);
    const bits = featureBits([regs.FEATURE_MQ_BIT, regs.FEATURE_CTRL_VQ_BIT]).low;
    expect(several.offered().low & bits).toBe(bits);
    expect(several.rings).toHaveLength(7);
    const pairs = transport.CONFIG_OFFSET + regs.CONFIG_MAX_PAIRS_OFFSET;
    expect(several.fake.read8(pairs)).toBe(3);
    const one = new VirtioMachine(
      several.memory,
      (host) => new VirtioNet(host, { backends: several.backends.slice(0, 1), mac: MAC }),
    );
    expect(one.offered().low & bits).toBe(0);
    expect(one.device.queueSizes).toHaveLength(2);
  });

  it("has room for eight", () => {
    const m = new PairsMachine(regs.PAIRS_MAX);
    expect(m.usePairs(8)).toBe(regs.CONTROL_OK);
    m.buffer(7);
    m.backends[7].arrive(FRAME);
    expect(received(m, 7)).toBe(1);
  });

  it("uses the first alone until the driver says more, then each over its own backend", () => {
    const m = new PairsMachine(2);
    m.buffer(1);
    m.backends[1].arrive(FRAME);
    expect(received(m, 1)).toBe(0);
    expect(attached(m)).toEqual([true, false]);
    expect(m.usePairs(2)).toBe(regs.CONTROL_OK);
    expect(attached(m)).toEqual([true, true]);
    // What was offered before is looked at now.
    expect(received(m, 1)).toBe(1);
    m.send(0);
    m.send(1);
    expect(m.backends.map(({ sent }) => sent.length)).toEqual([1, 1]);
    expect(m.device.save()).toMatchObject({ pairs: 2, activePairs: 2 });
  });

  it("receives nothing on a pair that is not used any more, and loses nothing that it sends", () => {
    const m = new PairsMachine(2);
    m.usePairs(2);
    m.backends[1].room = 0;
    m.send(1);
    expect(m.backends[1].sent).toHaveLength(0);
    m.buffer(1);
    m.usePairs(1);
    expect(attached(m)).toEqual([true, false]);
    m.backends[1].arrive(FRAME);
    expect(received(m, 1)).toBe(0);
    m.send(1);
    expect(m.backends[0].sent).toHaveLength(2);
    // The buffer that had been taken is used when the pair is.
    m.usePairs(2);
    expect(received(m, 1)).toBe(1);
  });

  it("takes a command however it is cut, and refuses every other", () => {
    const m = new PairsMachine(2);
    for (const cut of [1, 2, 3]) expect(m.command([4, 0, 2, 0], { cut })).toBe(regs.CONTROL_OK);
    const wrong = [
      [4, 0, 0, 0],
      [4, 0, 3, 0],
      [4, 0, 1, 1],
      [4, 1, 2, 0],
      [0, 0, 1, 0],
      [4, 0, 2],
    ];
    for (const bytes of [...wrong, [4], [4, 0, 2, 0, 0]]) {
      expect(m.command(bytes)).toBe(regs.CONTROL_ERROR);
    }
    expect(m.command([4, 0, 1, 0], { answerBytes: 0 })).toBe(255);
    expect(m.device.metrics).toMatchObject({ control_count: 12, control_fails: 9 });
    expect(attached(m)).toEqual([true, true]);
    expect(m.faults).toEqual([]);
  });

  it("has its control queue after the first pair for a driver without MQ, and one pair", () => {
    const m = new PairsMachine(2, [regs.FEATURE_MQ_BIT]);
    expect(m.usePairs(2)).toBe(regs.CONTROL_ERROR);
    expect(m.usePairs(1)).toBe(regs.CONTROL_OK);
    m.send(0);
    m.kick(3);
    m.kick(4);
    expect(m.backends[0].sent).toHaveLength(1);
    expect(attached(m)).toEqual([true, false]);
  });

  it("forgets the pairs at a reset", () => {
    const m = new PairsMachine(2);
    m.usePairs(2);
    m.reset();
    expect(attached(m)).toEqual([true, false]);
  });

  it("obeys one command in a turn: who gives thousands waits like others", () => {
    const m = new PairsMachine(2);
    m.memory.write(DATA, Uint8Array.of(4, 0, 2, 0));
    const ring = m.rings[m.control];
    for (let count = 0; count < 10; count++) {
      ring.add({ address: DATA, length: 4 }, { address: DATA + 4096, length: 1, writable: true });
    }
    m.kick(m.control);
    expect(ring.takeUsed()).toHaveLength(1);
    m.runDeferred(3);
    expect(ring.takeUsed()).toHaveLength(3);
    m.runDeferred();
    expect(ring.takeUsed()).toHaveLength(6);
  });
});
