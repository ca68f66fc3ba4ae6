import { describe, expect, it } from "vitest";
import { checkRateLimiter } from "../../../src/actors/config-rate-limiter.js";
import {
  fromLimiter,
  shownLimiter,
  toLimiter,
  withChange,
} from "../../../src/api/firecracker/rate-limiters.js";

const OPS = { size: 10, refill_time: 100, one_time_burst: null };

describe("rate limiters", () => {
  it.each([
    null,
    undefined,
    {},
    { bandwidth: null, ops: null },
    { ops: { size: 0, refill_time: 0 }, bandwidth: { size: 0, refill_time: 5 } },
    { ops: { size: 5, refill_time: 0 } },
  ])("shows one that limits nothing as null: %j", (limiter) => {
    expect(shownLimiter(limiter)).toBeNull();
  });

  it("shows what limits, complete", () => {
    expect(shownLimiter({ ops: { size: 10, refill_time: 100 } })).toEqual({
      bandwidth: null,
      ops: OPS,
    });
  });

  it("keeps buckets that a change leaves out, and removes those of no size", () => {
    const limiter = { bandwidth: null, ops: OPS };
    const bandwidth = { size: 1, refill_time: 1, one_time_burst: 2 };
    expect(withChange(limiter, { bandwidth })).toEqual({ bandwidth, ops: OPS });
    expect(withChange(limiter, { ops: { size: 0, refill_time: 0 } })).toBeNull();
  });

  it("goes to the library and back", () => {
    const limiter = { bandwidth: { size: 1, refill_time: 2, one_time_burst: 3 }, ops: OPS };
    expect(fromLimiter(toLimiter(limiter))).toEqual(limiter);
    expect(toLimiter(null)).toEqual({});
  });

  it("takes all of Firecracker's 64 bits, which clients mean no limit with", () => {
    const most = 2 ** 64 - 1;
    const ops = { size: most, refill_time: most, one_time_burst: most };
    const checked = checkRateLimiter("rateLimiter", toLimiter({ ops }));
    const { MAX_SAFE_INTEGER: max } = Number;
    expect(checked).toEqual({ ops: { size: max, refillTimeMs: max, oneTimeBurst: max } });
  });
});
