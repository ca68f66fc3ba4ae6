/**
 * Checks of rate limiters in a microVM's configuration, and in changes while it runs.
 */
import type { RateLimiterConfig, TokenBucketConfig } from "../devices/rate-limiter.js";
import { integer, onlyFields } from "./config-checks.js";

/** A bucket of 2^53 bytes or milliseconds limits nothing that can happen. */
const MOST = Number.MAX_SAFE_INTEGER;

/** The bucket with its default, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkTokenBucket(where: string, bucket: TokenBucketConfig): TokenBucketConfig {
  onlyFields(where, bucket, ["size", "refillTimeMs", "oneTimeBurst"]);
  return {
    size: integer(`${where}.size`, bucket.size, 0, MOST),
    refillTimeMs: integer(`${where}.refillTimeMs`, bucket.refillTimeMs, 0, MOST),
    oneTimeBurst: integer(`${where}.oneTimeBurst`, bucket.oneTimeBurst ?? 0, 0, MOST),
  };
}

/** The limiter with nothing but checked buckets, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkRateLimiter(where: string, limiter: RateLimiterConfig): RateLimiterConfig {
  onlyFields(where, limiter, ["bandwidth", "ops"]);
  const { bandwidth, ops } = limiter;
  return {
    ...(bandwidth === undefined
      ? {}
      : { bandwidth: checkTokenBucket(`${where}.bandwidth`, bandwidth) }),
    ...(ops === undefined ? {} : { ops: checkTokenBucket(`${where}.ops`, ops) }),
  };
}
