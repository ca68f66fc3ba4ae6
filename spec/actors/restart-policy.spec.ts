import { describe, expect, it } from "vitest";
import {
  type EndedRun,
  GOOD_RUN_MS,
  isRestartedAtOpen,
  restartDelayMs,
} from "../../src/actors/restart-policy.js";

const failed: EndedRun = {
  exitCode: 1,
  ranMs: 5,
  wasAsked: false,
  restartCount: 0,
  lastDelayMs: 0,
};

describe("restartDelayMs", () => {
  it.each([
    ["no", 0, false],
    ["no", 1, false],
    ["on-failure", 0, false],
    ["on-failure", 1, true],
    ["on-failure", 125, true],
    ["always", 0, true],
    ["always", 137, true],
  ] as const)("with policy %s after exit code %i: %s", (policy, exitCode, isRestarted) => {
    const delay = restartDelayMs({ policy }, { ...failed, exitCode });
    expect(delay).toBe(isRestarted ? 100 : undefined);
  });

  it.each(["no", "on-failure", "always"] as const)(
    "with policy %s never restarts what its owner ended",
    (policy) => {
      expect(restartDelayMs({ policy }, { ...failed, wasAsked: true })).toBeUndefined();
    },
  );

  it("doubles from 100 ms to 60 s with each quick failure", () => {
    const delays: number[] = [];
    let lastDelayMs = 0;
    for (let restartCount = 0; restartCount < 12; restartCount += 1) {
      const run = { ...failed, restartCount, lastDelayMs };
      lastDelayMs = restartDelayMs({ policy: "always" }, run) ?? Number.NaN;
      delays.push(lastDelayMs);
    }
    expect(delays).toEqual([
      100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000,
    ]);
  });

  it("begins again after a good run, and not after one a millisecond shorter", () => {
    const after = (ranMs: number) =>
      restartDelayMs({ policy: "always" }, { ...failed, lastDelayMs: 6400, ranMs });
    expect(after(GOOD_RUN_MS)).toBe(100);
    expect(after(GOOD_RUN_MS - 1)).toBe(12_800);
  });

  it("gives up after maxRetries restarts, at once when that is 0", () => {
    const after = (maxRetries: number, restartCount: number) =>
      restartDelayMs({ policy: "on-failure", maxRetries }, { ...failed, restartCount });
    expect(after(0, 0)).toBeUndefined();
    expect(after(2, 1)).toBe(100);
    expect(after(2, 2)).toBeUndefined();
  });
});

describe("isRestartedAtOpen", () => {
  it("is so for always only, as Docker has it", () => {
    expect(isRestartedAtOpen({ policy: "always" })).toBe(true);
    expect(isRestartedAtOpen({ policy: "on-failure" })).toBe(false);
    expect(isRestartedAtOpen({ policy: "no" })).toBe(false);
  });
});
