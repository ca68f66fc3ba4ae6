import { describe, expect, it } from "vitest";
import {
  ChainDevice,
  type VirtioDeviceDefinition,
} from "../../../src/devices/virtio/chain-device.js";
import type { DeviceChain } from "../../../src/devices/virtio/device-chain.js";
import * as regs from "../../../src/devices/virtio/mmio-transport.regs.js";
import { GuestMemory } from "../../../src/native/guest-memory.js";
import { KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import type { RingDriver } from "../../support/ring-driver.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const DATA = 64 * KIB;

interface Bench {
  readonly m: VirtioMachine<ChainDevice>;
  readonly ring: RingDriver;
  readonly chains: DeviceChain[];
  readonly log: string[];
}

/** A device that keeps its chains, unless told what to do with them. */
function started(
  definition: Partial<VirtioDeviceDefinition> = {},
  size = 8,
  memory = createMemory(),
): Bench {
  const chains: DeviceChain[] = [];
  const log: string[] = [];
  const m = new VirtioMachine(
    memory,
    (host) =>
      new ChainDevice(host, {
        id: "own",
        deviceType: 42,
        queues: [64],
        onChain: (chain) => void chains.push(chain),
        onActivate: (device) => log.push(`active ${device.isActive}`),
        onReset: (device) => log.push(`reset ${device.isActive}`),
        ...definition,
      }),
  );
  return { m, ring: m.start(undefined, { size }), chains, log };
}

const readable = (length: number, at = DATA) => ({ address: at, length });
const writable = (length: number, at = DATA + 4096) => ({ address: at, length, writable: true });
const needsReset = ({ m }: Bench) => (m.status & regs.STATUS_NEEDS_RESET_MASK) !== 0;

/** Memory with 64 KiB at 1 MiB that can be unplugged. */
function withPluggedBlock(): GuestMemory {
  const plug = { start: MIB, sizeBytes: MIB, blockBytes: 64 * KIB };
  const region = { start: 0, sizeBytes: 512 * KIB };
  const memory = new GuestMemory(new SharedArrayBuffer(2 * MIB), [region], plug);
  memory.setPlugged(MIB, 64 * KIB, true);
  return memory;
}

describe("ChainDevice", () => {
  it("shows its type, features, queues and configuration", () => {
    const { m } = started({ features: [3, 50], config: Uint8Array.of(1, 2, 3), queues: [8, 16] });
    expect(m.read(regs.DEVICE_ID_OFFSET)).toBe(42);
    const { low, high } = m.offered();
    expect((low >>> 3) & 1).toBe(1);
    expect((high >>> 18) & 1).toBe(1);
    expect(m.fake.front.read(regs.CONFIG_OFFSET + 1, 1)).toBe(2);
    m.write(regs.QUEUE_SEL_OFFSET, 1);
    expect(m.read(regs.QUEUE_NUM_MAX_OFFSET)).toBe(16);
  });

  it("gives copies of what the driver sent and writes into its buffers, however they are split", () => {
    const bench = started();
    const { m, ring, chains } = bench;
    m.memory.write(DATA, Uint8Array.of(1, 2, 3, 4, 5));
    const head = ring.add(
      readable(2),
      readable(3, DATA + 2),
      writable(1),
      writable(4, DATA + 5000),
    );
    m.kick();
    const [chain] = chains;
    expect([chain.readableBytes, chain.writableBytes]).toEqual([5, 5]);
    expect([...chain.read()]).toEqual([1, 2, 3, 4, 5]);
    expect([...chain.read(1, 3)]).toEqual([2, 3, 4]);
    expect([...chain.read(4, 100)]).toEqual([5]);
    expect([...chain.read(9)]).toEqual([]);
    const copy = chain.read();
    m.memory.writeU8(DATA, 99);
    expect(copy[0]).toBe(1);
    expect(chain.write(Uint8Array.of(7, 8))).toBe(2);
    expect(chain.write(Uint8Array.of(9, 9, 9, 9))).toBe(3);
    expect(chain.write(Uint8Array.of(6), 1)).toBe(1);
    expect(chain.complete()).toBe(true);
    expect(ring.takeUsed()).toEqual([{ head, length: 5 }]);
    expect(m.memory.readU8(DATA + 4096)).toBe(7);
    expect([...m.memory.read(DATA + 5000, 4)]).toEqual([6, 9, 9, 9]);
  });

  it("answers by a number, by a promise of one, or by complete, each once", async () => {
    const answers = [3, Promise.resolve(4), undefined, Promise.resolve(undefined)];
    const kept: DeviceChain[] = [];
    const { m, ring } = started({
      onChain: (chain) => {
        kept.push(chain);
        return answers.shift();
      },
    });
    const heads = [1, 2, 3, 4].map(() => ring.add(writable(8)));
    m.kick();
    expect(ring.takeUsed()).toEqual([{ head: heads[0], length: 3 }]);
    await Promise.resolve();
    expect(ring.takeUsed()).toEqual([{ head: heads[1], length: 4 }]);
    expect(kept[2].complete(100)).toBe(true);
    expect(kept[3].complete(-1)).toBe(true);
    expect(ring.takeUsed()).toEqual([
      { head: heads[2], length: 8 },
      { head: heads[3], length: 0 },
    ]);
    for (const chain of kept) expect(chain.complete(1)).toBe(false);
    expect(ring.takeUsed()).toEqual([]);
    expect(m.device.metrics).toMatchObject({ chains: 4, completed: 4, failures: 0 });
  });

  it("interrupts once for the chains of one doorbell, and for each that is answered later", () => {
    const { m, ring, chains } = started({ onChain: (chain) => chain.writableBytes });
    for (let index = 0; index < 4; index++) ring.add(writable(1));
    m.kick();
    expect(m.fake.irq.take()).toBe(1);
    expect(chains).toEqual([]);
    const late = started();
    late.ring.add(writable(1));
    late.ring.add(writable(1));
    late.m.kick();
    expect(late.m.fake.irq.take()).toBe(0);
    late.ring.setUsedEvent(0);
    late.chains[1].complete();
    expect(late.m.fake.irq.take()).toBe(1);
    late.ring.setUsedEvent(1);
    late.chains[0].complete();
    expect(late.m.fake.irq.take()).toBe(1);
  });

  it("gives a chain back unread when the driver sends more than the device reads", () => {
    const { m, ring, chains } = started({ readableBytesMax: 16 });
    const head = ring.add(readable(17));
    ring.add(readable(16));
    m.kick();
    expect(ring.takeUsed()).toEqual([{ head, length: 0 }]);
    expect(chains.length).toBe(1);
    expect(m.device.metrics.refused).toBe(1);
  });

  it("keeps configuration space with what the driver writes, and tells of changes", () => {
    const writes: number[][] = [];
    const { m } = started({
      config: new Uint8Array(8),
      writableConfig: { start: 4, end: 8 },
      onConfigWrite: (...args) => writes.push(args.slice(0, 3) as number[]),
    });
    m.fake.front.write(regs.CONFIG_OFFSET + 4, 2, 0x1234);
    m.fake.front.write(regs.CONFIG_OFFSET, 4, 1);
    m.deliver();
    expect(writes).toEqual([[4, 2, 0x1234]]);
    expect([...m.device.handle.config]).toEqual([0, 0, 0, 0, 0x34, 0x12, 0, 0]);
    const before = m.read(regs.CONFIG_GENERATION_OFFSET);
    m.device.handle.setConfig(Uint8Array.of(9));
    expect(m.read(regs.CONFIG_GENERATION_OFFSET)).toBe(before + 1);
    expect(m.read(regs.CONFIG_OFFSET + 4)).toBe(0x1234);
    expect(m.fake.front.read(regs.CONFIG_OFFSET, 1)).toBe(9);
    expect(() => m.device.handle.setConfig(new Uint8Array(9))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });

  it("says which features its driver accepted, while there is one", () => {
    const { m, log } = started({ features: [5] });
    expect([m.device.handle.hasFeature(5), m.device.handle.hasFeature(6)]).toEqual([true, false]);
    m.reset();
    expect(m.device.handle.hasFeature(5)).toBe(false);
    expect(log).toEqual(["active true", "reset false"]);
  });
});

describe("ChainDevice that fails", () => {
  it("drops its chains when its function throws, and tells whoever runs it", () => {
    const bench = started({
      onChain: (chain) => {
        if (chain.readableBytes === 1) throw new RangeError("own bug");
      },
    });
    const { m, ring } = bench;
    const first = ring.add(writable(4));
    ring.add(readable(1));
    expect(() => m.kick()).toThrow("own bug");
    expect(m.device.metrics).toMatchObject({ chains: 2, failures: 1, dropped: 2 });
    expect(first).toBe(0);
    expect(ring.takeUsed()).toEqual([]);
  });

  it("tells of a promise that rejects, once: what fails after that was dropped", async () => {
    const { m, ring, log } = started({
      onChain: async () => Promise.reject(new Error("late bug")),
    });
    const failures: unknown[] = [];
    m.onFailed = (error) => failures.push(error);
    ring.add(writable(4));
    ring.add(writable(4));
    m.kick();
    await new Promise((resolve) => setImmediate(resolve));
    expect(failures).toEqual([expect.objectContaining({ message: "late bug" })]);
    expect(m.device.metrics.failures).toBe(2);
    await m.transport.fail("late bug");
    expect(log).toEqual(["active true", "reset false"]);
  });

  it("touches nothing for a chain whose driver is gone", () => {
    const { m, ring, chains, log } = started();
    ring.add(readable(4), writable(4));
    m.kick();
    m.memory.fill(DATA, 16, 1);
    m.reset();
    const [chain] = chains;
    expect(chain.isOpen).toBe(false);
    expect(chain.read().length).toBe(0);
    expect(chain.write(Uint8Array.of(5))).toBe(0);
    expect(chain.complete(1)).toBe(false);
    expect(m.memory.readU8(DATA + 4096)).toBe(0);
    expect(log).toEqual(["active true", "reset false"]);
    const again = m.start(undefined, { size: 8 });
    again.add(writable(1));
    m.kick();
    expect(chain.complete()).toBe(false);
    expect(again.takeUsed()).toEqual([]);
    chains[1].complete();
    expect(again.takeUsed().length).toBe(1);
  });

  it("asks for a reset itself, and answers nothing until there was one", () => {
    const bench = started({ onChain: (_chain, device) => device.needsReset("no such command") });
    bench.ring.add(writable(1));
    bench.ring.add(writable(1));
    bench.m.kick();
    expect(needsReset(bench)).toBe(true);
    expect(bench.m.faults).toEqual(["no such command"]);
    expect(bench.m.device.metrics.chains).toBe(1);
  });

  it.each([
    ["reads", (chain: DeviceChain) => chain.read().length],
    ["writes", (chain: DeviceChain) => chain.write(Uint8Array.of(1))],
  ])("asks for a reset when it %s what its driver has unplugged, and throws nothing", (_, use) => {
    const memory = withPluggedBlock();
    const bench = started({}, 8, memory);
    const { m, ring, chains } = bench;
    ring.add(readable(4, MIB), writable(4, MIB + 64));
    ring.add(writable(1));
    m.kick();
    memory.setPlugged(MIB, 64 * KIB, false);
    expect(use(chains[0])).toBe(0);
    expect(needsReset(bench)).toBe(true);
    expect(chains.map(({ isOpen }) => isOpen)).toEqual([false, false]);
    expect(ring.takeUsed()).toEqual([]);
    m.reset();
    expect(m.device.metrics).toMatchObject({ dropped: 2, failures: 0 });
  });

  it("refuses a driver that offers one descriptor again and again", () => {
    const bench = started();
    const { m, ring, chains } = bench;
    const head = ring.writeChain([writable(1)]);
    for (let index = 0; index < 8; index++) ring.offer(head);
    m.kick();
    expect(needsReset(bench)).toBe(false);
    ring.offer(head);
    m.kick();
    expect(needsReset(bench)).toBe(true);
    expect(chains.every(({ isOpen }) => !isOpen)).toBe(true);
  });
});

describe("ChainDevice in a pause", () => {
  it("lets a pause begin at once, and keeps answers for its end", () => {
    const { m, ring, chains } = started();
    const heads = [ring.add(writable(4)), ring.add(writable(4))];
    m.kick();
    expect(m.transport.quiesce()).toBeUndefined();
    expect(chains[0].write(Uint8Array.of(5, 6))).toBe(2);
    expect(chains[0].complete()).toBe(true);
    expect(chains[0].complete()).toBe(false);
    chains[1].write(Uint8Array.of(7), 3);
    expect([...m.memory.read(DATA + 4096, 4)]).toEqual([0, 0, 0, 0]);
    expect(ring.takeUsed()).toEqual([]);
    m.transport.resume();
    expect(ring.takeUsed()).toEqual([{ head: heads[0], length: 2 }]);
    expect([...m.memory.read(DATA + 4096, 4)]).toEqual([5, 6, 0, 7]);
    chains[1].complete();
    expect(ring.takeUsed()).toEqual([{ head: heads[1], length: 4 }]);
  });

  it("asks for a reset when what it kept was for memory that is gone at its end", () => {
    const memory = withPluggedBlock();
    const bench = started({}, 8, memory);
    const { m, ring, chains } = bench;
    ring.add(writable(4, MIB));
    ring.add(writable(4));
    m.kick();
    void m.transport.quiesce();
    for (const chain of chains) {
      chain.write(Uint8Array.of(1));
      chain.complete();
    }
    memory.setPlugged(MIB, 64 * KIB, false);
    m.transport.resume();
    expect(needsReset(bench)).toBe(true);
    expect(ring.takeUsed()).toEqual([]);
    expect(m.device.metrics).toMatchObject({ completed: 0, dropped: 2, failures: 0 });
  });

  it("touches nothing after the end", () => {
    const closed: string[] = [];
    const { m, ring, chains } = started({ onClose: ({ id }) => closed.push(id) });
    ring.add(readable(4), writable(4));
    m.kick();
    void m.transport.quiesce();
    m.device.close();
    m.device.close();
    expect(closed).toEqual(["own"]);
    expect(chains[0].complete()).toBe(false);
    expect(chains[0].read().length).toBe(0);
    m.device.handle.setConfig(new Uint8Array(0));
    expect(m.fake.irq.take()).toBe(0);
  });
});
