import { describe, expect, it } from "vitest";
import {
  DescriptorChain,
  type QueueLayout,
  type VirtQueue,
} from "../../../src/devices/virtio/queue.js";
import * as regs from "../../../src/devices/virtio/queue.regs.js";
import { isEstaloError } from "../../../src/errors.js";
import { GIB, KIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import { RingDriver, type RingDriverOptions } from "../../support/ring-driver.js";

function ringOf(options: RingDriverOptions = {}, overrides: Partial<QueueLayout> = {}) {
  const memory = createMemory();
  const ring = new RingDriver(memory, { size: 8, ...options });
  const queue = ring.createQueue(overrides);
  return { memory, ring, queue, chain: new DescriptorChain(8), data: ring.endOfRings };
}

const segmentsOf = (chain: DescriptorChain): number[][] =>
  Array.from({ length: chain.count }, (_, i) => [chain.addresses[i], chain.lengths[i]]);

/** The guest's fault that `action` raises. */
function guestFault(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (isEstaloError(error) && error.code === "ERR_ESTALO_GUEST_FAULT") return error.message;
    throw error;
  }
  throw new Error("no fault was raised");
}

describe("VirtQueue taking chains", () => {
  it("gives segments in order, readable ones first, with their sums", () => {
    const { ring, queue, chain, data } = ringOf();
    const head = ring.add(
      { address: data, length: 16 },
      { address: data + 16, length: 100 },
      { address: data + 512, length: 7, writable: true },
    );
    expect(queue.next(chain)).toBe(true);
    expect(chain.head).toBe(head);
    expect(segmentsOf(chain)).toEqual([
      [data, 16],
      [data + 16, 100],
      [data + 512, 7],
    ]);
    expect(chain.firstWritable).toBe(2);
    expect([chain.readableBytes, chain.writableBytes]).toEqual([116, 7]);
    expect(queue.next(chain)).toBe(false);
  });

  it("takes all that is available, also across the ring's end and the index's wrap", () => {
    const { ring, queue, chain, data } = ringOf();
    ring.startAt(65_533);
    queue.restore({ version: 1, nextAvail: 65_533, nextUsed: 65_533 });
    const heads = [1, 2, 3, 4, 5].map((n) => ring.add({ address: data, length: n }));
    const taken: number[] = [];
    while (queue.next(chain)) taken.push(chain.head);
    expect(taken).toEqual(heads);
    expect(queue.save()).toMatchObject({ nextAvail: 2, nextUsed: 65_533 });
  });

  it("follows an indirect table, alone or after direct descriptors", () => {
    const { ring, queue, chain, data } = ringOf();
    ring.offer(
      ring.writeIndirect(data, [
        { address: data + 1024, length: 16 },
        { address: data + 2048, length: 1, writable: true },
      ]),
    );
    const table = { address: data, length: 32 };
    ring.writeDescriptor(ring.descriptorTable, 4, { address: data, length: 9 }, 1, 5);
    ring.writeDescriptor(ring.descriptorTable, 5, table, regs.DESC_INDIRECT_MASK, 0);
    ring.offer(4);
    expect(queue.next(chain)).toBe(true);
    expect([chain.head, chain.count, chain.firstWritable]).toEqual([0, 2, 1]);
    expect(queue.next(chain)).toBe(true);
    expect(segmentsOf(chain)).toEqual([
      [data, 9],
      [data + 1024, 16],
      [data + 2048, 1],
    ]);
  });

  it("follows an indirect table that is not aligned", () => {
    const { memory, ring, queue, chain, data } = ringOf();
    ring.writeIndirect(data, [{ address: data + 1024, length: 33 }]);
    memory.write(data + 4097, memory.read(data, 16));
    const named = { address: data + 4097, length: 16 };
    ring.writeDescriptor(ring.descriptorTable, 0, named, regs.DESC_INDIRECT_MASK, 0);
    ring.offer(0);
    expect(queue.next(chain)).toBe(true);
    expect(segmentsOf(chain)).toEqual([[data + 1024, 33]]);
  });

  it("gives a chain again after undoNext", () => {
    const { ring, queue, chain, data } = ringOf();
    ring.add({ address: data, length: 1 });
    queue.next(chain);
    queue.undoNext();
    expect(queue.hasAvailable()).toBe(true);
    expect(queue.next(chain)).toBe(true);
    expect(queue.next(chain)).toBe(false);
  });
});

describe("VirtQueue facing a driver that breaks rules", () => {
  const faults: [string, RegExp, (r: ReturnType<typeof ringOf>) => void][] = [
    ["a head outside the table", /head 8/, ({ ring }) => ring.offer(8)],
    [
      "a next outside the table",
      /next descriptor 8/,
      ({ ring, data }) => {
        ring.writeDescriptor(ring.descriptorTable, 0, { address: data, length: 1 }, 1, 8);
        ring.offer(0);
      },
    ],
    [
      "a loop",
      /longer than the queue/,
      ({ ring, data }) => {
        ring.writeDescriptor(ring.descriptorTable, 0, { address: data, length: 1 }, 1, 0);
        ring.offer(0);
      },
    ],
    ["an empty descriptor", /no bytes/, ({ ring, data }) => ring.add({ address: data, length: 0 })],
    [
      "memory that is not there",
      /no guest memory/,
      ({ ring }) => ring.add({ address: 256 * KIB - 1, length: 2 }),
    ],
    [
      "an address beyond 2^53",
      /no guest memory/,
      ({ ring }) => ring.add({ address: 2 ** 63, length: 2 }),
    ],
    [
      "a length that runs past the end",
      /no guest memory/,
      ({ ring, data }) => ring.add({ address: data, length: 4 * GIB - 1 }),
    ],
    [
      "readable after writable",
      /device-readable/,
      ({ ring, data }) =>
        ring.add({ address: data, length: 1, writable: true }, { address: data, length: 1 }),
    ],
    ["an impossible index", /9 entries/, ({ ring }) => ring.showAvailIndex(9)],
    ["an index that went back", /65535 entries/, ({ ring }) => ring.showAvailIndex(-1)],
    [
      "an indirect table inside another",
      /inside an indirect/,
      ({ ring, data }) => {
        const inner = { address: data, length: 16 };
        ring.writeDescriptor(data, 0, inner, regs.DESC_INDIRECT_MASK, 0);
        ring.writeDescriptor(ring.descriptorTable, 0, inner, regs.DESC_INDIRECT_MASK, 0);
        ring.offer(0);
      },
    ],
    [
      "an indirect table longer than the queue",
      /table of 144/,
      ({ ring, data }) => {
        const named = { address: data, length: 9 * 16 };
        ring.writeDescriptor(ring.descriptorTable, 0, named, regs.DESC_INDIRECT_MASK, 0);
        ring.offer(0);
      },
    ],
    [
      "an indirect table of no whole descriptors",
      /table of 17/,
      ({ ring, data }) => {
        const named = { address: data, length: 17 };
        ring.writeDescriptor(ring.descriptorTable, 0, named, regs.DESC_INDIRECT_MASK, 0);
        ring.offer(0);
      },
    ],
    [
      "an indirect table outside memory",
      /no guest memory/,
      ({ ring }) => {
        const named = { address: 256 * KIB, length: 16 };
        ring.writeDescriptor(ring.descriptorTable, 0, named, regs.DESC_INDIRECT_MASK, 0);
        ring.offer(0);
      },
    ],
    [
      "a next beside an indirect table",
      /has a next/,
      ({ ring, data }) => {
        const named = { address: data, length: 16 };
        ring.writeDescriptor(ring.descriptorTable, 0, named, regs.DESC_INDIRECT_MASK | 1, 1);
        ring.offer(0);
      },
    ],
    [
      "a loop inside an indirect table",
      /longer than the queue/,
      ({ ring, data }) => {
        ring.writeDescriptor(data, 0, { address: data, length: 1 }, 1, 0);
        const named = { address: data, length: 16 };
        ring.writeDescriptor(ring.descriptorTable, 0, named, regs.DESC_INDIRECT_MASK, 0);
        ring.offer(0);
      },
    ],
  ];

  it.each(faults)("refuses %s", (_name, message, breakRule) => {
    const setup = ringOf();
    breakRule(setup);
    expect(guestFault(() => setup.queue.next(setup.chain))).toMatch(message);
  });

  it("refuses an indirect descriptor that was not negotiated", () => {
    const { ring, queue, chain, data } = ringOf({}, { indirect: false });
    ring.offer(ring.writeIndirect(data, [{ address: data, length: 1 }]));
    expect(guestFault(() => queue.next(chain))).toMatch(/not negotiated/);
  });

  it.each([
    ["a size of 0", { size: 0 }],
    ["a size that is no power of two", { size: 6 }],
    ["a size beyond the maximum", { size: 16 }],
    ["an unaligned descriptor table", { descriptorTable: 8 }],
    ["an unaligned available ring", { availRing: 4097 }],
    ["an unaligned used ring", { usedRing: 4098 }],
    ["a descriptor table outside memory", { descriptorTable: 256 * KIB - 16 }],
    ["an available ring outside memory", { availRing: 256 * KIB - 2 }],
    ["a used ring far outside memory", { usedRing: 2 ** 62 }],
  ] as [string, Partial<QueueLayout>][])("cannot be made with %s", (_name, overrides) => {
    const { ring } = ringOf();
    expect(guestFault(() => ring.createQueue(overrides))).not.toBe("");
  });
});

describe("VirtQueue giving back", () => {
  it("shows entries at publish, not before", () => {
    const { ring, queue, chain, data } = ringOf();
    const first = ring.add({ address: data, length: 4, writable: true });
    const second = ring.add({ address: data, length: 4, writable: true });
    queue.next(chain);
    queue.next(chain);
    queue.addUsed(second, 4);
    queue.addUsed(first, 3);
    expect(ring.takeUsed()).toEqual([]);
    queue.publish();
    expect(ring.takeUsed()).toEqual([
      { head: second, length: 4 },
      { head: first, length: 3 },
    ]);
  });

  it("wants no interrupt when there was nothing to publish", () => {
    expect(ringOf().queue.publish()).toBe(false);
    expect(ringOf({ eventIdx: false }, { eventIdx: false }).queue.publish()).toBe(false);
  });

  it("obeys NO_INTERRUPT without EVENT_IDX", () => {
    const { ring, queue } = ringOf({ eventIdx: false });
    queue.addUsed(0, 0);
    expect(queue.publish()).toBe(true);
    ring.setNoInterrupt(true);
    queue.addUsed(0, 0);
    expect(queue.publish()).toBe(false);
  });

  it.each([
    { published: 0, batch: 1, usedEvent: 0, interrupt: true },
    { published: 0, batch: 1, usedEvent: 1, interrupt: false },
    { published: 5, batch: 3, usedEvent: 4, interrupt: false },
    { published: 5, batch: 3, usedEvent: 5, interrupt: true },
    { published: 5, batch: 3, usedEvent: 7, interrupt: true },
    { published: 5, batch: 3, usedEvent: 8, interrupt: false },
    { published: 65_535, batch: 2, usedEvent: 65_535, interrupt: true },
    { published: 65_535, batch: 2, usedEvent: 0, interrupt: true },
    { published: 65_535, batch: 2, usedEvent: 1, interrupt: false },
    { published: 65_534, batch: 1, usedEvent: 65_535, interrupt: false },
  ])(
    "with EVENT_IDX interrupts: $interrupt for $batch after $published, event at $usedEvent",
    ({ published, batch, usedEvent, interrupt }) => {
      const { ring, queue } = ringOf();
      queue.restore({ version: 1, nextAvail: published, nextUsed: published });
      ring.setUsedEvent(usedEvent);
      for (let entry = 0; entry < batch; entry++) queue.addUsed(0, 0);
      expect(queue.publish()).toBe(interrupt);
    },
  );
});

describe("VirtQueue asking for notifications", () => {
  it.each([true, false])("suppresses them while working, EVENT_IDX %s", (eventIdx) => {
    const { ring, queue, chain, data } = ringOf({ eventIdx });
    ring.add({ address: data, length: 1 });
    expect(ring.needsKick()).toBe(true);
    queue.disableNotifications();
    queue.next(chain);
    ring.add({ address: data, length: 1 });
    expect(ring.needsKick()).toBe(false);
  });

  it.each([true, false])(
    "closes the race with a driver that just added, EVENT_IDX %s",
    (eventIdx) => {
      const { ring, queue, chain, data } = ringOf({ eventIdx });
      ring.add({ address: data, length: 1 });
      queue.disableNotifications();
      while (queue.next(chain));
      ring.add({ address: data, length: 1 });
      expect(queue.enableNotifications()).toBe(true);
      expect(queue.next(chain)).toBe(true);
      expect(queue.enableNotifications()).toBe(false);
      ring.needsKick();
      ring.add({ address: data, length: 1 });
      expect(ring.needsKick()).toBe(true);
    },
  );
});

describe("VirtQueue in high memory", () => {
  it("lies across a multiple of 4 GiB and names buffers above it", {
    timeout: 20_000,
  }, async () => {
    const { createMemoryOf } = await import("../../support/fake-memory.js");
    const memory = createMemoryOf([
      { start: 0, sizeBytes: 64 * KIB },
      { start: 4 * GIB, sizeBytes: 4 * GIB + 64 * KIB },
    ]);
    const ring = new RingDriver(memory, { size: 8, start: 8 * GIB - 128 });
    const chain = new DescriptorChain(8);
    const queue: VirtQueue = ring.createQueue();
    const table = 8 * GIB - 4096 - 16;
    const segments = [1, 2, 3].map((n) => ({ address: 8 * GIB - 1, length: n }));
    ring.offer(ring.writeIndirect(table, segments));
    expect(queue.next(chain)).toBe(true);
    expect(segmentsOf(chain)).toEqual([
      [8 * GIB - 1, 1],
      [8 * GIB - 1, 2],
      [8 * GIB - 1, 3],
    ]);
    queue.addUsed(chain.head, 0);
    expect(queue.publish()).toBe(true);
    expect(ring.takeUsed()).toEqual([{ head: chain.head, length: 0 }]);
  });
});
