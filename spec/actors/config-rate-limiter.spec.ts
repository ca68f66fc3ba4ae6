import { describe, expect, it } from "vitest";
import { checkRateLimiter, checkTokenBucket } from "../../src/actors/config-rate-limiter.js";

describe("checkRateLimiter", () => {
  it("fills in the burst and leaves out what is not there", () => {
    expect(checkRateLimiter("limiter", {})).toEqual({});
    expect(checkRateLimiter("limiter", { ops: { size: 1, refillTimeMs: 2 } })).toEqual({
      ops: { size: 1, refillTimeMs: 2, oneTimeBurst: 0 },
    });
  });

  it.each([
    ["a list", [], "limiter"],
    ["a bucket that does not exist", { bytes: {} }, "limiter.bytes"],
    ["a bucket without a size", { bandwidth: { refillTimeMs: 1 } }, "limiter.bandwidth.size"],
    ["half a token", { ops: { size: 0.5, refillTimeMs: 1 } }, "limiter.ops.size"],
    ["a time below 0", { ops: { size: 1, refillTimeMs: -1 } }, "limiter.ops.refillTimeMs"],
    [
      "a burst of 2^53",
      { ops: { size: 1, refillTimeMs: 1, oneTimeBurst: 2 ** 53 } },
      "limiter.ops.oneTimeBurst",
    ],
  ])("names the field of %s", (_what, limiter, field) => {
    expect(() => checkRateLimiter("limiter", limiter as never)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });

  it("takes a single bucket, as the serial port has", () => {
    expect(checkTokenBucket("bucket", { size: 1, refillTimeMs: 0, oneTimeBurst: 3 })).toEqual({
      size: 1,
      refillTimeMs: 0,
      oneTimeBurst: 3,
    });
  });
});
