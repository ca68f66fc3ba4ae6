import { describe, expect, it } from "vitest";
import { type SampleClocks, TscClock } from "../../src/actors/tsc-clock.js";

/** Clocks that show these pairs of ticks and nanoseconds, one after another. */
function clocks(...samples: readonly (readonly [bigint, bigint])[]): SampleClocks {
  const left = [...samples];
  return (words) => {
    const [ticks, ns] = left.shift() as readonly [bigint, bigint];
    new BigUint64Array(words.buffer, words.byteOffset, 2).set([ticks, ns]);
  };
}

const words = (value: bigint) => [Number(value & 0xffff_ffffn), Number(value >> 32n)] as const;

describe("TscClock", () => {
  it("measures the rate between its first sample and the newest", () => {
    const clock = new TscClock(clocks([0n, 0n], [300n, 100n], [9000n, 4500n]));
    clock.sample();
    expect(clock.durationNs(...words(6n))).toBeCloseTo(2);
    clock.sample();
    expect(clock.durationNs(...words(6n))).toBeCloseTo(3);
  });

  it("tells times from the newest sample, across the words' borders and after years", () => {
    const tsc = 2n ** 55n + 0x1_0000_0000n;
    const ns = 2n ** 52n;
    const clock = new TscClock(clocks([tsc - 2_000_000n, ns - 1_000_000n], [tsc, ns]));
    expect(clock.sample()).toBe(Number(ns));
    expect(clock.atNs(...words(tsc))).toBe(Number(ns));
    expect(clock.atNs(...words(tsc - 10n))).toBe(Number(ns) - 5);
    expect(clock.atNs(...words(tsc - 2n ** 33n))).toBe(Number(ns) - 2 ** 32);
    expect(clock.atNs(...words(tsc + 10n))).toBe(Number(ns) + 5);
    expect([clock.tscLow, clock.tscHigh]).toEqual(words(tsc));
  });

  it("gives no time before 0", () => {
    const clock = new TscClock(clocks([0n, 0n], [1000n, 500n]));
    clock.sample();
    expect(clock.atNs(0, 0)).toBe(0);
  });

  it("agrees with this host's clock", async () => {
    const clock = new TscClock();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const before = Number(process.hrtime.bigint());
    const now = clock.sample();
    const after = Number(process.hrtime.bigint());
    expect(now).toBeGreaterThanOrEqual(before);
    expect(now).toBeLessThanOrEqual(after);
    expect(clock.atNs(clock.tscLow, clock.tscHigh)).toBe(now);
  });
});
