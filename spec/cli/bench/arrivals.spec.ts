/** When microVMs are due: rates, traces, sizes and lives, and that a seed repeats them. */
import { describe, expect, it } from "vitest";
import { type ArrivalOptions, arrivals } from "../../../src/cli/bench/arrivals.js";
import { exponential, seededRandom } from "../../../src/cli/bench/seeded-random.js";

const OPTIONS: ArrivalOptions = {
  rate: 10,
  trace: undefined,
  speed: 1,
  durationMs: Number.POSITIVE_INFINITY,
  count: 10_000,
  life: { kind: "exponential", meanMs: 500 },
  mix: [{ memoryMib: 128, vcpuCount: 1, weight: 1 }],
};

const listed = (change: Partial<ArrivalOptions>, seed = "a") => [
  ...arrivals({ ...OPTIONS, ...change }, seededRandom(seed)),
];
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe("random numbers", () => {
  it("are the same for the same seed, and others for another", () => {
    const draw = (seed: string) => Array.from({ length: 2000 }, seededRandom(seed));
    expect(draw("x")).toEqual(draw("x"));
    expect(draw("x")).not.toEqual(draw("y"));
  });

  it("are spread evenly from 0 to below 1", () => {
    const values = Array.from({ length: 20_000 }, seededRandom("even"));
    const tenths = Array.from(
      { length: 10 },
      (_, i) => values.filter((value) => Math.floor(value * 10) === i).length,
    );
    expect(tenths.every((count) => count > 1800 && count < 2200)).toBe(true);
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
  });

  it("are exponential as asked: mean, and a third beyond it", () => {
    const random = seededRandom("exponential");
    const values = Array.from({ length: 20_000 }, () => exponential(7, random));
    expect(mean(values)).toBeGreaterThan(6.8);
    expect(mean(values)).toBeLessThan(7.2);
    const beyond = values.filter((value) => value > 7).length / values.length;
    expect(Math.abs(beyond - 1 / Math.E)).toBeLessThan(0.01);
  });
});

describe("arrivals at a rate", () => {
  it("come so many a second, at random: the gaps vary as much as they are long", () => {
    const times = listed({}).map(({ atMs }) => atMs);
    const gaps = times.slice(1).map((atMs, index) => atMs - times[index]);
    expect(Math.abs(mean(gaps) - 100)).toBeLessThan(3);
    const variance = mean(gaps.map((gap) => (gap - 100) ** 2));
    expect(Math.abs(Math.sqrt(variance) - 100)).toBeLessThan(5);
  });

  it("are repeated by their seed", () => {
    expect(listed({ count: 50 })).toEqual(listed({ count: 50 }));
    expect(listed({ count: 50 })).not.toEqual(listed({ count: 50 }, "b"));
  });

  it("end with their time or their number", () => {
    const timed = listed({ durationMs: 10_000, count: Number.POSITIVE_INFINITY });
    expect(timed.every(({ atMs }) => atMs < 10_000)).toBe(true);
    expect(timed.length).toBeGreaterThan(60);
    expect(listed({ count: 3 })).toHaveLength(3);
  });

  it("live as long as they are told", () => {
    expect(mean(listed({}).map(({ lifeMs }) => lifeMs as number))).toBeGreaterThan(480);
    const fixed = listed({ life: { kind: "fixed", meanMs: 200 }, count: 2 });
    expect(fixed.map(({ lifeMs }) => lifeMs)).toEqual([200, 200]);
    expect(listed({ life: { kind: "guest" }, count: 1 })[0].lifeMs).toBeUndefined();
  });

  it("have the sizes of the mix, as often as it says", () => {
    const mix = [
      { memoryMib: 128, vcpuCount: 1, weight: 70 },
      { memoryMib: 512, vcpuCount: 2, weight: 30 },
    ];
    const sizes = listed({ mix }).map(({ size }) => size);
    const large = sizes.filter((size) => size?.memoryMib === 512);
    expect(Math.abs(large.length / sizes.length - 0.3)).toBeLessThan(0.02);
    expect(large[0]).toEqual({ memoryMib: 512, vcpuCount: 2 });
    expect(listed({ mix: [], count: 1 })[0].size).toBeUndefined();
  });
});

describe("arrivals of a trace", () => {
  const trace = [
    { atMs: 0, lifeMs: 50, memoryMib: 64, vcpuCount: 2 },
    { atMs: 1000, weight: 2, memoryMib: 256 },
  ];

  it("come when it says, as many as it says, and take from the options what it leaves out", () => {
    const life = { kind: "fixed", meanMs: 9 } as const;
    expect(listed({ trace, life })).toEqual([
      { atMs: 0, lifeMs: 50, size: { memoryMib: 64, vcpuCount: 2 } },
      { atMs: 1000, lifeMs: 9, size: { memoryMib: 256, vcpuCount: 1 } },
      { atMs: 1000, lifeMs: 9, size: { memoryMib: 256, vcpuCount: 1 } },
    ]);
  });

  it("come faster when asked; their lives are as long", () => {
    const [, second] = listed({ trace, speed: 10 });
    expect(second.atMs).toBe(100);
    expect(listed({ trace, speed: 10 })[0].lifeMs).toBe(50);
    expect(listed({ trace, durationMs: 500 })).toHaveLength(1);
  });
});
