import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  RateLimiter,
  type RateLimiterConfig,
  TokenBucket,
} from "../../src/devices/rate-limiter.js";

/** 1000 tokens in a second, one each millisecond. */
const THOUSAND = { size: 1000, refillTimeMs: 1000 };

describe("TokenBucket", () => {
  it("starts full and refills evenly, up to its size", () => {
    const bucket = new TokenBucket(THOUSAND, 0);
    expect(bucket.take(1000, 0)).toBe(true);
    expect(bucket.take(1, 0)).toBe(false);
    expect(bucket.take(10, 9_999)).toBe(false);
    expect(bucket.take(10, 10_000)).toBe(true);
    expect(bucket.take(1001, 1e9)).toBe(true);
    expect(bucket.waitUs(1, 1e9)).toBeCloseTo(2000);
  });

  it("spends the burst first, and once", () => {
    const bucket = new TokenBucket({ ...THOUSAND, oneTimeBurst: 500 }, 0);
    expect(bucket.take(600, 0)).toBe(true);
    expect(bucket.take(900, 0)).toBe(true);
    expect(bucket.take(1, 0)).toBe(false);
    expect(bucket.take(1000, 10e6)).toBe(true);
    expect(bucket.take(1, 10e6)).toBe(false);
  });

  it("keeps the burst when a request is refused", () => {
    const bucket = new TokenBucket({ size: 10, refillTimeMs: 1000, oneTimeBurst: 4 }, 0);
    expect(bucket.take(10, 0)).toBe(true);
    expect(bucket.take(10, 0)).toBe(false);
    expect(bucket.take(4, 0)).toBe(true);
    expect(bucket.take(1, 0)).toBe(false);
  });

  it("lets more than it holds through when it is full, and then makes up for it", () => {
    const bucket = new TokenBucket(THOUSAND, 0);
    expect(bucket.take(3000, 0)).toBe(true);
    expect(bucket.waitUs(1, 0)).toBeCloseTo(2_001_000);
    expect(bucket.take(1, 2_000_000)).toBe(false);
    expect(bucket.take(1, 2_001_000)).toBe(true);
  });

  it("gives part of what is asked for, in whole tokens", () => {
    const bucket = new TokenBucket({ ...THOUSAND, oneTimeBurst: 5 }, 0);
    expect(bucket.takeUpTo(2000, 0)).toBe(1005);
    expect(bucket.takeUpTo(10, 2_500)).toBe(2);
    expect(bucket.takeUpTo(10, 2_500)).toBe(0);
    expect(bucket.takeUpTo(10, 3_000)).toBe(1);
  });

  it("never grants more than burst, size and refill together, whatever is asked and when", () => {
    const steps = fc.array(fc.tuple(fc.nat(3000), fc.nat(2_000_000)), { maxLength: 60 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 2000 }), fc.nat(1000), (asked, size, burst) => {
        const bucket = new TokenBucket({ size, refillTimeMs: 500, oneTimeBurst: burst }, 0);
        let now = 0;
        let granted = 0;
        let largest = 0;
        for (const [count, pauseUs] of asked) {
          now += pauseUs;
          if (!bucket.take(count, now)) continue;
          granted += count;
          largest = Math.max(largest, count);
        }
        const refilled = (now / 500_000) * size;
        expect(granted).toBeLessThanOrEqual(burst + size + refilled + largest + 1e-3);
      }),
    );
  });

  it("is open again after the time it says, and not before", () => {
    const bucketOf = fc.record({
      size: fc.integer({ min: 1, max: 1e9 }),
      refillTimeMs: fc.integer({ min: 1, max: 100_000 }),
    });
    fc.assert(
      fc.property(
        bucketOf,
        fc.nat(1e9),
        fc.integer({ min: 1, max: 1e9 }),
        (config, first, next) => {
          const bucket = new TokenBucket(config, 0);
          bucket.take(first, 0);
          const wait = bucket.waitUs(next, 0);
          if (wait > 1) expect(bucket.take(next, wait * 0.999)).toBe(false);
          expect(bucket.take(next, wait * 1.001 + 1)).toBe(true);
        },
      ),
    );
  });
});

describe("RateLimiter", () => {
  function limiter(config: RateLimiterConfig) {
    const clock = { us: 0 };
    const waits: number[] = [];
    const it = new RateLimiter(config, () => clock.us);
    it.onThrottled = (waitUs) => waits.push(waitUs);
    return { it, clock, waits };
  }

  it("without buckets, or with empty ones, admits everything", () => {
    const { it, waits } = limiter({
      bandwidth: { size: 0, refillTimeMs: 100 },
      ops: { size: 10, refillTimeMs: 0 },
    });
    for (let round = 0; round < 100; round++) expect(it.admit(1e9)).toBe(true);
    expect(waits).toEqual([]);
    expect(it.config).toEqual({});
  });

  it("counts operations and bytes, and gives the operation back when the bytes do not suffice", () => {
    const { it, clock, waits } = limiter({
      bandwidth: { size: 100, refillTimeMs: 1000 },
      ops: { size: 2, refillTimeMs: 1000 },
    });
    expect(it.admit(80)).toBe(true);
    expect(it.admit(80)).toBe(false);
    expect(waits).toEqual([600_000]);
    clock.us = 600_000;
    it.reopen();
    expect(it.admit(80)).toBe(true);
    // The operation that was given back is there.
    expect(it.admit(0)).toBe(true);
    expect(it.admit(0)).toBe(false);
    expect(it.throttledCount).toBe(2);
  });

  it("stays closed for smaller requests too until it is opened again", () => {
    const { it, clock } = limiter({ bandwidth: { size: 100, refillTimeMs: 1000 } });
    expect(it.admit(50)).toBe(true);
    expect(it.admit(100)).toBe(false);
    expect(it.admit(1)).toBe(false);
    expect(it.throttledCount).toBe(1);
    clock.us = 500_000;
    it.reopen();
    expect(it.admit(100)).toBe(true);
  });

  it("closes again when it was opened too early, and says how much longer", () => {
    const { it, clock, waits } = limiter({ ops: { size: 1, refillTimeMs: 1000 } });
    expect(it.admit(0)).toBe(true);
    expect(it.admit(0)).toBe(false);
    clock.us = 999_000;
    it.reopen();
    expect(it.admit(0)).toBe(false);
    expect(waits).toEqual([1_000_000, expect.closeTo(1000)]);
  });

  it("changes one bucket and leaves the other; zeros remove it", () => {
    const { it } = limiter({ bandwidth: { size: 10, refillTimeMs: 1000 } });
    expect(it.admit(11)).toBe(true);
    expect(it.admit(1)).toBe(false);
    it.configure({ ops: { size: 1, refillTimeMs: 1000 } });
    expect(it.admit(1)).toBe(false);
    it.configure({ bandwidth: { size: 0, refillTimeMs: 0 } });
    expect(it.admit(1)).toBe(true);
    expect(it.admit(1)).toBe(false);
    expect(it.config).toEqual({ ops: { size: 1, refillTimeMs: 1000 } });
  });

  it("lets a part pass for a device that drops the rest, and tells of the shortage once", () => {
    const { it, clock, waits } = limiter({ bandwidth: { size: 10, refillTimeMs: 1000 } });
    expect(it.admitUpTo(8)).toBe(8);
    expect(it.admitUpTo(8)).toBe(2);
    expect(it.admitUpTo(8)).toBe(0);
    expect([waits, it.throttledCount]).toEqual([[expect.closeTo(100_000)], 1]);
    clock.us = 100_000;
    it.reopen();
    expect(it.admitUpTo(8)).toBe(1);
    expect([waits.length, it.throttledCount]).toEqual([2, 2]);
    it.configure({ bandwidth: { size: 0, refillTimeMs: 0 } });
    expect(it.admitUpTo(1_000_000)).toBe(1_000_000);
  });

  it("knows when both of its buckets are full again", () => {
    const { it, clock } = limiter({
      bandwidth: { size: 100, refillTimeMs: 1000 },
      ops: { size: 2, refillTimeMs: 1000 },
    });
    expect(it.fullInUs).toBe(0);
    it.admit(20);
    expect(it.fullInUs).toBeCloseTo(500_000);
    clock.us = 400_000;
    expect(it.fullInUs).toBeCloseTo(100_000);
    clock.us = 500_000;
    expect(it.fullInUs).toBeCloseTo(0);
    it.configure({ bandwidth: { size: 0, refillTimeMs: 0 }, ops: { size: 0, refillTimeMs: 0 } });
    expect(it.fullInUs).toBe(0);
  });

  it("takes back what an operation did not need", () => {
    const { it } = limiter({ bandwidth: { size: 10, refillTimeMs: 1000 } });
    expect(it.admit(10)).toBe(true);
    it.refund(10);
    expect(it.admit(10)).toBe(true);
  });

  it("takes it back into the burst that it came from", () => {
    const { it } = limiter({
      bandwidth: { size: 10, refillTimeMs: 1000 },
      ops: { size: 1, refillTimeMs: 1000, oneTimeBurst: 4 },
    });
    expect(it.admit(10)).toBe(true);
    for (let round = 0; round < 3; round++) {
      expect(it.admit(10)).toBe(false);
      it.reopen();
    }
    const admitted = Array.from({ length: 5 }, () => it.admit(0));
    expect(admitted).toEqual([true, true, true, true, false]);
    it.configure({ ops: { size: 1, refillTimeMs: 1000, oneTimeBurst: 1 } });
    it.refund(0);
    expect([it.admit(0), it.admit(0), it.admit(0)]).toEqual([true, true, false]);
  });
});
