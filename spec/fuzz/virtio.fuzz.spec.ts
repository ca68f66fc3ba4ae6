/**
 * Random rings, chains and indirect tables against the queue, the block device, the entropy device
 * and the network device: nothing but handled outcomes. `MemoryDisk` throws if a block device breaks its side of
 * the contract.
 */
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { VirtioBlock } from "../../src/devices/virtio/block.js";
import type { VirtioBack, VirtioHost } from "../../src/devices/virtio/device.js";
import * as transport from "../../src/devices/virtio/mmio-transport.regs.js";
import { VirtioNet } from "../../src/devices/virtio/net.js";
import * as net from "../../src/devices/virtio/net.regs.js";
import { DescriptorChain } from "../../src/devices/virtio/queue.js";
import { VirtioRng } from "../../src/devices/virtio/rng.js";
import { isEstaloError } from "../../src/errors.js";
import type { GuestMemory } from "../../src/native/guest-memory.js";
import { KIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { FakeNetBackend } from "../support/fake-net-backend.js";
import { MemoryDisk } from "../support/memory-disk.js";
import { RingDriver } from "../support/ring-driver.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const MEMORY_BYTES = 64 * KIB;
const QUEUE_SIZE = 16;
/** Where headers, tables and data of the random chains mostly are. */
const ARENA = 16 * KIB;

interface RawDescriptor {
  readonly table: number;
  readonly index: number;
  readonly address: number;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

const address = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 255 }).map((n) => ARENA + n * 16) },
  { weight: 3, arbitrary: fc.nat(MEMORY_BYTES + 64) },
  { weight: 1, arbitrary: fc.constantFrom(2 ** 32 - 1, 2 ** 32, 2 ** 53, 2 ** 63, 2 ** 64 - 4096) },
);
const length = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(1, 15, 16, 17, 32, 48, 512, 513, 1024) },
  { weight: 2, arbitrary: fc.nat(8192) },
  { weight: 1, arbitrary: fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1) },
);
// Plain buffers and links are likely, so that whole chains come about.
const flags = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(0, 1, 1, 2, 3) },
  { weight: 2, arbitrary: fc.constantFrom(4, 5, 6, 7) },
  { weight: 1, arbitrary: fc.nat(65_535) },
);
const descriptor: fc.Arbitrary<RawDescriptor> = fc.record({
  table: fc.integer({ min: 0, max: 4 }),
  index: fc.nat(QUEUE_SIZE - 1),
  address,
  length,
  flags,
  next: fc.oneof(fc.nat(QUEUE_SIZE - 1), fc.nat(65_535)),
});
const header = fc.record({
  at: fc.integer({ min: 0, max: 255 }).map((n) => ARENA + n * 16),
  type: fc.oneof(fc.constantFrom(0, 1, 4, 8, 11, 13), fc.nat(0xffff_ffff)),
  sector: fc.oneof(fc.nat(140), fc.constantFrom(2 ** 32, 2 ** 53, 2 ** 63)),
});
/** A request that is mostly right, so that the depths of a device are reached. */
const request = fc.record({
  type: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(0, 1, 4, 8, 11, 13) },
    { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
  ),
  sector: fc.oneof(
    { weight: 8, arbitrary: fc.nat(140) },
    { weight: 1, arbitrary: fc.constantFrom(2 ** 32, 2 ** 53, 2 ** 55 - 1, 2 ** 63) },
  ),
  data: fc.array(
    fc.oneof(
      { weight: 8, arbitrary: fc.constantFrom(16, 32, 256, 512, 1024) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 2048 }) },
    ),
    { maxLength: 6 },
  ),
  headerBytes: fc.oneof(fc.constant(16), fc.integer({ min: 1, max: 20 })),
  dataWritable: fc.boolean(),
  indirect: fc.boolean(),
});
const rarely = <T>(arbitrary: fc.Arbitrary<T[]>): fc.Arbitrary<T[]> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant([] as T[]) }, { weight: 1, arbitrary });
const step = fc.record({
  requests: fc.array(request, { maxLength: 5 }),
  descriptors: rarely(fc.array(descriptor, { maxLength: 24 })),
  headers: rarely(fc.array(header, { maxLength: 12 })),
  heads: rarely(
    fc.array(fc.oneof(fc.nat(QUEUE_SIZE - 1), fc.nat(65_535)), { maxLength: QUEUE_SIZE }),
  ),
  bogusIndex: fc.option(fc.nat(65_535), { freq: 12, nil: undefined }),
});
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Lays a request at its own place in the arena, and offers it. */
function offerRequest(memory: GuestMemory, ring: RingDriver, one: Request, slot: number): void {
  const base = ARENA + 8 * KIB + slot * 4 * KIB;
  const [headerAt, rangesAt, statusAt, tableAt] = [base, base + 512, base + 32, base + 64];
  memory.writeU32(headerAt, one.type);
  memory.writeU64(headerAt + 8, one.sector);
  // As ranges of a discard: sector, sectors, no flags.
  memory.writeU64(rangesAt, one.sector);
  memory.writeU64(rangesAt + 8, one.data.length);
  const rest = 16 - one.headerBytes;
  const readable = !one.dataWritable;
  const chain = [
    { address: headerAt, length: one.headerBytes },
    ...(rest > 0 ? [{ address: headerAt + one.headerBytes, length: rest }] : []),
    ...one.data.map((length) => ({ address: rangesAt, length, writable: !readable })),
    { address: statusAt, length: 1, writable: true },
  ];
  ring.offer(one.indirect ? ring.writeIndirect(tableAt, chain) : ring.writeChain(chain));
}

/** Plays a step: requests, then noise over descriptors, headers and the available ring. */
function play(memory: GuestMemory, ring: RingDriver, one: Step): void {
  for (const [slot, each] of one.requests.entries()) offerRequest(memory, ring, each, slot);
  for (const { at, type, sector } of one.headers) {
    memory.writeU32(at, type);
    memory.writeU64(at + 8, sector);
  }
  for (const { table, index, ...raw } of one.descriptors) {
    const start = table === 0 ? ring.descriptorTable : ARENA + table * 256;
    ring.writeDescriptor(start, index, raw, raw.flags, raw.next);
  }
  for (const head of one.heads) ring.offer(head);
  if (one.bogusIndex !== undefined) ring.showAvailIndex(one.bogusIndex);
}

describe("VirtQueue under random rings", () => {
  it("gives chains inside memory or a guest's fault, within its bounds", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 4 }), fc.boolean(), (steps, indirect) => {
        const memory = createMemory(MEMORY_BYTES);
        const ring = new RingDriver(memory, { size: QUEUE_SIZE });
        const queue = ring.createQueue({ indirect });
        const chain = new DescriptorChain(QUEUE_SIZE);
        for (const one of steps) {
          play(memory, ring, one);
          let taken = 0;
          try {
            while (queue.next(chain)) {
              taken++;
              expect(chain.count).toBeGreaterThan(0);
              expect(chain.count).toBeLessThanOrEqual(QUEUE_SIZE);
              for (let index = 0; index < chain.count; index++) {
                expect(memory.contains(chain.addresses[index], chain.lengths[index])).toBe(true);
              }
              queue.addUsed(chain.head, 0);
            }
          } catch (error) {
            if (!isEstaloError(error) || error.family !== "guest") throw error;
            // Its device is reset then, and the queue is no more.
            return;
          } finally {
            expect(taken).toBeLessThanOrEqual(QUEUE_SIZE);
          }
          queue.publish();
        }
      }),
      { numRuns: 2000 },
    );
  });
});

/**
 * Plays steps on a device, resetting it whenever it asks; then it must still serve a good request.
 */
function torture<Device extends VirtioBack>(
  createDevice: (host: VirtioHost, memory: GuestMemory) => Device,
  steps: readonly Step[],
  options: {
    readonly betweenSteps?: () => void;
    readonly serves: (m: VirtioMachine<Device>, ring: RingDriver) => void;
  },
): void {
  const memory = createMemory(MEMORY_BYTES);
  const m = new VirtioMachine(memory, (host) => createDevice(host, memory));
  let ring = m.start(undefined, { size: QUEUE_SIZE });
  for (const one of steps) {
    play(memory, ring, one);
    m.kick();
    options.betweenSteps?.();
    m.runDeferred();
    const needsReset = (m.status & transport.STATUS_NEEDS_RESET_MASK) !== 0;
    expect(needsReset).toBe(!m.transport.active);
    if (!needsReset) continue;
    m.reset();
    ring = m.start(undefined, { size: QUEUE_SIZE });
  }
  m.reset();
  expect(m.status).toBe(0);
  options.serves(m, m.start(undefined, { size: QUEUE_SIZE }));
}

describe("VirtioBlock under random rings", () => {
  it.each([false, true])(
    "breaks no contract and serves a good request after a reset, deferred %s",
    (deferred) => {
      fc.assert(
        fc.property(fc.array(step, { maxLength: 5 }), (steps) => {
          let disk: MemoryDisk | undefined;
          const createDevice = (host: VirtioHost, memory: GuestMemory): VirtioBlock => {
            disk = new MemoryDisk(memory, 64 * KIB, { depth: 3, deferred });
            return new VirtioBlock(host, { backend: disk, cacheType: "Writeback" });
          };
          const finish = (): void => {
            while ((disk?.inFlight ?? 0) > 0) disk?.finish(2);
          };
          torture(createDevice, steps, {
            betweenSteps: finish,
            serves: (m, ring) => {
              m.memory.fill(ARENA, 16, 0);
              ring.add(
                { address: ARENA, length: 16 },
                { address: ARENA + 512, length: 512, writable: true },
                { address: ARENA + 32, length: 1, writable: true },
              );
              m.kick();
              finish();
              expect(ring.takeUsed()).toEqual([{ head: 0, length: 513 }]);
            },
          });
        }),
        { numRuns: 1000 },
      );
    },
  );

  it("survives memory that changes while a request is in flight", () => {
    fc.assert(
      fc.property(step, fc.uint8Array({ minLength: 4096, maxLength: 4096 }), (one, noise) => {
        const memory = createMemory(MEMORY_BYTES);
        const disk = new MemoryDisk(memory, 64 * KIB, { deferred: true });
        const m = new VirtioMachine(
          memory,
          (host) => new VirtioBlock(host, { backend: disk, cacheType: "Unsafe" }),
        );
        const ring = m.start(undefined, { size: QUEUE_SIZE });
        play(memory, ring, one);
        m.kick();
        memory.write(
          ring.descriptorTable,
          noise.subarray(0, ring.endOfRings - ring.descriptorTable),
        );
        memory.write(ARENA, noise);
        while (disk.inFlight > 0) disk.finish(1);
        m.kick();
        while (disk.inFlight > 0) disk.finish(1);
        m.reset();
        expect(m.status).toBe(0);
      }),
      { numRuns: 1000 },
    );
  });
});

describe("VirtioRng under random rings", () => {
  it("serves a good request after a reset", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 5 }), (steps) => {
        const source = { fill: (bytes: Uint8Array) => bytes.fill(0x5a) };
        torture((host) => new VirtioRng(host, source), steps, {
          serves: (m, ring) => {
            ring.add({ address: ARENA, length: 32, writable: true });
            m.kick();
            expect(ring.takeUsed()).toEqual([{ head: 0, length: 32 }]);
            expect(m.memory.read(ARENA, 32).every((byte) => byte === 0x5a)).toBe(true);
          },
        });
      }),
      { numRuns: 1000 },
    );
  });
});

describe("VirtioNet under random rings", () => {
  const MAC = Uint8Array.of(6, 0, 1, 2, 3, 4);
  const frameBytes = fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 12, max: 1526 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 12 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1526, max: 65_562 }) },
  );

  interface Played {
    /** Rings of both queues; the transmit queue's lie behind the arena. */
    readonly receive: RingDriver;
    readonly transmit: RingDriver;
  }

  function bringUp(m: VirtioMachine<VirtioNet>, mergeable: boolean): Played {
    const offered = m.offered();
    const without = mergeable ? 0 : 2 ** net.FEATURE_MRG_RXBUF_BIT;
    m.negotiate({ low: offered.low - without, high: offered.high });
    const receive = new RingDriver(m.memory, { size: QUEUE_SIZE, eventIdx: true });
    const transmit = new RingDriver(m.memory, {
      size: QUEUE_SIZE,
      eventIdx: true,
      start: 56 * KIB,
    });
    m.setUpQueue(net.RECEIVE_QUEUE, receive);
    m.setUpQueue(net.TRANSMIT_QUEUE, transmit);
    m.driverOk();
    return { receive, transmit };
  }

  /** The end of every case: a good frame each way. */
  function servesBothWays(m: VirtioMachine<VirtioNet>, backend: FakeNetBackend, rings: Played) {
    backend.waiting.length = 0;
    backend.sent.length = 0;
    const frame = new Uint8Array(60).fill(7);
    m.memory.write(ARENA, frame);
    rings.transmit.add({ address: ARENA, length: 60 });
    m.kick(net.TRANSMIT_QUEUE);
    expect(backend.sent).toEqual([frame]);
    rings.receive.add({ address: ARENA + 1024, length: 1526, writable: true });
    backend.arrive(frame);
    m.deliver();
    m.runDeferred();
    expect(rings.receive.takeUsed()).toEqual([{ head: 0, length: 60 }]);
    // The header's last word says how many buffers it took.
    const got = m.memory.read(ARENA + 1024, 60);
    expect([...got].filter((_, index) => index < 10 || index > 11)).toEqual(Array(58).fill(7));
    expect([got[10], got[11]]).toEqual([1, 0]);
  }

  const round = fc.record({
    receive: step,
    transmit: step,
    frames: fc.array(frameBytes, { maxLength: 6 }),
    own: fc.array(frameBytes, { maxLength: 2 }),
    room: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.nat(3)),
    isLooked: fc.boolean(),
  });

  it.each([false, true])(
    "breaks no contract and carries a good frame each way after a reset, mergeable %s",
    (mergeable) => {
      fc.assert(
        fc.property(fc.array(round, { maxLength: 4 }), (rounds) => {
          const memory = createMemory(MEMORY_BYTES);
          const backend = new FakeNetBackend(memory);
          const m = new VirtioMachine(
            memory,
            (host) => new VirtioNet(host, { backends: [backend], mac: MAC }),
          );
          let rings = bringUp(m, mergeable);
          let endLook = () => {};
          for (const one of rounds) {
            backend.room = one.room;
            const look = (start: Uint8Array, bytes: number, copy: () => Uint8Array) => {
              expect(start.length).toBe(Math.min(bytes, 64));
              return copy().length !== bytes;
            };
            endLook();
            endLook = one.isLooked
              ? m.device.addDetour({ transmit: look, receive: look })
              : () => {};
            play(memory, rings.receive, one.receive);
            play(memory, rings.transmit, one.transmit);
            for (const bytes of one.own) m.device.sendToGuest(new Uint8Array(bytes));
            backend.arrive(...one.frames.map((bytes) => new Uint8Array(bytes)));
            m.kick(net.TRANSMIT_QUEUE);
            m.kick(net.RECEIVE_QUEUE);
            m.deliver();
            m.runDeferred();
            for (const frame of backend.sent) {
              expect(frame.length).toBeGreaterThanOrEqual(26);
              expect(frame.length).toBeLessThanOrEqual(net.FRAME_BYTES_MAX);
            }
            backend.sent.length = 0;
            if ((m.status & transport.STATUS_NEEDS_RESET_MASK) === 0) continue;
            m.reset();
            rings = bringUp(m, mergeable);
          }
          backend.room = Number.POSITIVE_INFINITY;
          endLook();
          m.reset();
          expect(m.status).toBe(0);
          servesBothWays(m, backend, bringUp(m, mergeable));
        }),
        { numRuns: 700 },
      );
    },
  );
});

describe("a whole device under random registers", () => {
  it("takes any queue set-up, active or not, and comes back by a reset", () => {
    const poke = fc.record({
      offset: fc.oneof(
        fc.constantFrom(0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x90, 0xa0),
        fc.integer({ min: 0, max: 1023 }).map((n) => n * 4),
      ),
      value: fc.oneof(
        fc.constantFrom(0, 1, 3, 11, 15, 16, 128, 255, 4096, 0x3000_0000),
        fc.nat(0xffff_ffff),
      ),
    });
    fc.assert(
      fc.property(fc.array(poke, { maxLength: 100 }), fc.boolean(), (pokes, negotiated) => {
        const memory = createMemory(MEMORY_BYTES);
        const disk = new MemoryDisk(memory, 64 * KIB);
        const m = new VirtioMachine(
          memory,
          (host) => new VirtioBlock(host, { backend: disk, cacheType: "Writeback" }),
        );
        if (negotiated) m.negotiate();
        for (const { offset, value } of pokes) m.write(offset, value);
        m.kick();
        m.reset();
        expect(m.status).toBe(0);
        const ring = m.start(undefined, { size: QUEUE_SIZE });
        m.memory.fill(ARENA, 16, 0);
        ring.add(
          { address: ARENA, length: 16 },
          { address: ARENA + 64, length: 513, writable: true },
        );
        m.kick();
        expect(ring.takeUsed()).toEqual([{ head: 0, length: 513 }]);
      }),
      { numRuns: 1000 },
    );
  });
});

// Another vCPU of a hostile guest: writes to the rings, the tables and the data as fast as it can.
const SCRIBBLER = `
  const { workerData, parentPort } = require("node:worker_threads");
  const { words, stop } = workerData;
  parentPort.postMessage("started");
  let seed = 1;
  while (Atomics.load(stop, 0) === 0) {
    for (let round = 0; round < 1000; round++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const at = seed % words.length;
      words[at] = (seed >>> 28) < 13 ? words[(at + 4) % words.length] : seed;
    }
  }
`;

describe("VirtioBlock beside a vCPU that rewrites everything", () => {
  it("breaks no contract and serves a good request once it is left alone", async () => {
    const memory = createMemory(MEMORY_BYTES);
    const disk = new MemoryDisk(memory, 64 * KIB, { depth: 8 });
    const m = new VirtioMachine(
      memory,
      (host) => new VirtioBlock(host, { backend: disk, cacheType: "Writeback" }),
    );
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const words = memory.ring32(4 * KIB, 60 * KIB);
    const worker = new Worker(SCRIBBLER, { eval: true, workerData: { words, stop } });
    const ended = new Promise((resolve) => worker.once("exit", resolve));
    await new Promise((resolve) => worker.once("message", resolve));
    const steps = fc.sample(step, { numRuns: 2000, seed: 7 });
    let ring = m.start(undefined, { size: QUEUE_SIZE });
    for (const one of steps) {
      play(memory, ring, one);
      m.kick();
      m.runDeferred();
      if ((m.status & transport.STATUS_NEEDS_RESET_MASK) === 0) continue;
      m.reset();
      ring = m.start(undefined, { size: QUEUE_SIZE });
    }
    Atomics.store(stop, 0, 1);
    await ended;
    expect(m.faults.length).toBeGreaterThan(0);
    expect(disk.log.length).toBeGreaterThan(0);
    m.reset();
    ring = m.start(undefined, { size: QUEUE_SIZE });
    memory.fill(ARENA, 16, 0);
    ring.add({ address: ARENA, length: 16 }, { address: ARENA + 64, length: 513, writable: true });
    m.kick();
    expect(ring.takeUsed()).toEqual([{ head: 0, length: 513 }]);
  });
});
