import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import {
  EXIT_RING_BYTES,
  EXIT_RING_ENTRIES,
  ExitRingConsumer,
  ExitRingProducer,
} from "../../src/native/exit-ring.js";
import { workerFrom } from "../support/threads.js";

const HEAD = 0;
const TAIL = 16;

function createWords(startAt = 0): Int32Array {
  const words = new Int32Array(new SharedArrayBuffer(EXIT_RING_BYTES));
  words[HEAD] = words[TAIL] = startAt | 0;
  return words;
}

/** A ring with both ends on this thread. */
function createRing(startAt = 0) {
  const words = createWords(startAt);
  const ring = { wakes: 0, deserted: false };
  const consumer = new ExitRingConsumer(words);
  const producer = new ExitRingProducer(
    words,
    () => {
      ring.wakes += 1;
    },
    () => ring.deserted,
  );
  const drain = () => {
    const taken: number[][] = [];
    const count = consumer.drain((...entry) => taken.push(entry));
    expect(count).toBe(taken.length);
    return taken;
  };
  return Object.assign(ring, { words, consumer, producer, drain });
}

describe("the exit ring", () => {
  it("gives entries back in the order of the posts, every bit of them", () => {
    const ring = createRing();
    const entries = [
      [0, 0, 0],
      [65_535, 65_535, 2 ** 32 - 1],
      [32_768, 1024, 2 ** 31],
    ];
    for (const [device, event, value] of entries) ring.producer.post(device, event, value);
    expect(ring.drain()).toEqual(entries);
    expect(ring.drain()).toEqual([]);
  });

  it.each([
    ["2^31", 2 ** 31 - EXIT_RING_ENTRIES / 2],
    ["2^32", 2 ** 32 - EXIT_RING_ENTRIES / 2],
  ])("goes on where its counters pass %s", (_, startAt) => {
    const ring = createRing(startAt);
    for (let round = 0; round < 3; round++) {
      const values = Array.from({ length: EXIT_RING_ENTRIES }, (_, i) => round * 1000 + i);
      for (const value of values) ring.producer.post(1, 2, value);
      expect(ring.drain().map(([, , value]) => value)).toEqual(values);
    }
  });

  it("behaves as a queue for every sequence of posts and drains", () => {
    const step = fc.oneof(fc.nat({ max: EXIT_RING_ENTRIES }), fc.constant("drain" as const));
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.array(step), (startAt, steps) => {
        const ring = createRing(startAt);
        let posted: number[] = [];
        let next = 0;
        for (const step of steps) {
          if (step === "drain") {
            expect(ring.drain().map(([, , value]) => value)).toEqual(posted);
            posted = [];
          } else {
            const room = Math.min(step, EXIT_RING_ENTRIES - posted.length);
            for (let i = 0; i < room; i++) {
              ring.producer.post(3, 4, next);
              posted.push(next++);
            }
          }
        }
      }),
    );
  });

  it("wakes its consumer for the first post of each burst, and only for that", () => {
    const ring = createRing();
    ring.producer.post(1, 1, 1);
    ring.producer.post(1, 1, 2);
    expect(ring.wakes).toBe(1);
    ring.drain();
    ring.producer.post(1, 1, 3);
    expect(ring.wakes).toBe(2);
  });

  it("hands over what is posted while it is drained, without a wake-up", () => {
    const ring = createRing();
    ring.producer.post(1, 1, 0);
    const taken: number[] = [];
    ring.consumer.drain((_device, _event, value) => {
      taken.push(value);
      if (value < 5) ring.producer.post(1, 1, value + 1);
    });
    expect(taken).toEqual([0, 1, 2, 3, 4, 5]);
    expect(ring.wakes).toBe(1);
  });

  it("takes no more in one call than it has entries, and is told of the next post", () => {
    const ring = createRing();
    ring.producer.post(1, 1, 0);
    let posts = 3 * EXIT_RING_ENTRIES;
    const take = () => {
      if (posts-- > 0) ring.producer.post(1, 1, 0);
    };
    expect(ring.consumer.drain(take)).toBe(EXIT_RING_ENTRIES);
    expect(ring.consumer.drain(take)).toBe(EXIT_RING_ENTRIES);
    expect(ring.wakes).toBe(1);
    ring.producer.post(1, 1, 0);
    expect(ring.wakes).toBe(2);
    expect(ring.consumer.drain(take)).toBe(EXIT_RING_ENTRIES);
    expect(ring.consumer.drain(take)).toBe(2);
  });

  it("keeps the order when a handler drains the ring itself", () => {
    const ring = createRing();
    for (let value = 0; value < 4; value++) ring.producer.post(1, 1, value);
    const taken: number[] = [];
    const take = (_device: number, _event: number, value: number) => {
      taken.push(value);
      if (value === 1) ring.consumer.drain(take);
    };
    ring.consumer.drain(take);
    expect(taken).toEqual([0, 1, 2, 3]);
  });

  it("still wakes its consumer after a handler that threw", () => {
    const ring = createRing();
    ring.producer.post(1, 1, 0);
    expect(() =>
      ring.consumer.drain(() => {
        throw new Error("handler");
      }),
    ).toThrow("handler");
    ring.producer.post(1, 1, 1);
    expect(ring.wakes).toBe(2);
    expect(ring.drain()).toEqual([[1, 1, 1]]);
  });

  it("drops what it is given while full when nobody drains it", () => {
    const ring = createRing();
    for (let i = 0; i < EXIT_RING_ENTRIES; i++) ring.producer.post(1, 1, i);
    ring.deserted = true;
    ring.producer.post(1, 1, 99_999);
    const values = ring.drain().map(([, , value]) => value);
    expect(values).toHaveLength(EXIT_RING_ENTRIES);
    expect(values).not.toContain(99_999);
  });

  it("keeps posting when nobody drains it, as long as there is room", () => {
    const ring = createRing();
    ring.deserted = true;
    ring.producer.post(1, 1, 7);
    expect(ring.drain()).toEqual([[1, 1, 7]]);
  });
});

// The consumer's thread: sleeps on a futex where the device host would sleep on its eventfd. `doorbell`
// counts signals, as an eventfd does; a lost wake-up shows as a sleep that runs into its timeout.
const CONSUMER = `
  import { workerData } from "node:worker_threads";
  import { EXIT_RING_ENTRIES, ExitRingConsumer } from "./src/native/exit-ring.js";
  const { words, doorbell, report, total, pauseMs } = workerData;
  const ring = new ExitRingConsumer(words);
  Atomics.store(report, 0, 1);
  Atomics.notify(report, 0);
  const nap = new Int32Array(new SharedArrayBuffer(4));
  let expected = 0;
  while (expected < total) {
    const rung = Atomics.load(doorbell, 0);
    const taken = ring.drain((_device, _event, value) => {
      if (value !== expected) throw new Error("got " + value + ", expected " + expected);
      expected += 1;
      Atomics.store(report, 1, expected);
      if (pauseMs > 0 && expected % 100 === 0) Atomics.wait(nap, 0, 0, pauseMs);
    });
    if (expected === total) break;
    if (taken === EXIT_RING_ENTRIES) continue;
    const outcome = Atomics.wait(doorbell, 0, rung, 5000);
    if (outcome === "timed-out") throw new Error("no wake-up after " + expected);
  }
`;

describe("the exit ring between two threads", () => {
  let startConsumer: Awaited<ReturnType<typeof workerFrom>>;
  beforeAll(async () => {
    startConsumer = await workerFrom(CONSUMER);
  });

  /** Posts `total` entries; `gap` runs after each and knows how many the consumer has taken. */
  async function transfer(
    total: number,
    pauseMs: number,
    gap: (value: number, taken: () => number) => void = () => {},
  ) {
    const words = createWords(2 ** 32 - 1000);
    const doorbell = new Int32Array(new SharedArrayBuffer(4));
    const report = new Int32Array(new SharedArrayBuffer(8));
    const { ended } = startConsumer({ words, doorbell, report, total, pauseMs });
    while (Atomics.load(report, 0) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    let wakes = 0;
    const wake = () => {
      wakes += 1;
      Atomics.add(doorbell, 0, 1);
      Atomics.notify(doorbell, 0);
    };
    const producer = new ExitRingProducer(words, wake, () => false);
    for (let value = 0; value < total; value++) {
      producer.post(5, 6, value);
      gap(value, () => Atomics.load(report, 1));
    }
    await ended;
    expect(report[1]).toBe(total);
    return wakes;
  }

  it("loses no entry when the producer never stops", async () => {
    await transfer(500_000, 0);
  });

  it("loses no wake-up when every post meets a consumer that is falling asleep", async () => {
    const wakes = await transfer(100_000, 0, (value, taken) => {
      // The next post goes out a moment after this one was taken: nothing else would wake the consumer.
      const deadline = performance.now() + 3_000;
      while (taken() <= value) {
        if (performance.now() > deadline) throw new Error(`entry ${value} woke nobody`);
      }
      for (let i = value % 61; i > 0; i--) Math.sqrt(i);
    });
    expect(wakes).toBeGreaterThan(1);
  });

  it("makes a producer wait, and lose nothing, while a slow consumer's ring is full", async () => {
    await transfer(EXIT_RING_ENTRIES * 8, 2);
  });
});
