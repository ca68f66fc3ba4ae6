/**
 * Rate limiters between Firecracker's JSON and the library's configuration. `null`, `{}` and buckets of no size
 * or time limit nothing.
 */
import type { RateLimiterConfig, TokenBucketConfig } from "../../devices/rate-limiter.js";
import type { RateLimiterJson, TokenBucketJson } from "./schemas.js";

function limits(bucket: TokenBucketJson | null | undefined): bucket is TokenBucketJson {
  return bucket != null && bucket.size > 0 && bucket.refill_time > 0;
}

function complete(bucket: TokenBucketJson | null | undefined): TokenBucketJson | null {
  if (!limits(bucket)) return null;
  const { size, refill_time } = bucket;
  return { size, one_time_burst: bucket.one_time_burst ?? null, refill_time };
}

/** The limiter as `GET /vm/config` shows it: null when it limits nothing. */
export function shownLimiter(limiter: RateLimiterJson | null | undefined): RateLimiterJson | null {
  const bandwidth = complete(limiter?.bandwidth);
  const ops = complete(limiter?.ops);
  return bandwidth === null && ops === null ? null : { bandwidth, ops };
}

/** A bucket for the library, which takes less than 64 bits: more limits no more. */
export function toBucket(bucket: TokenBucketJson): TokenBucketConfig {
  const most = (count: number) => Math.min(count, Number.MAX_SAFE_INTEGER);
  return {
    size: most(bucket.size),
    refillTimeMs: most(bucket.refill_time),
    oneTimeBurst: most(bucket.one_time_burst ?? 0),
  };
}

/** A limiter for the library; buckets that are not given stay away, and keep what there is in a change. */
export function toLimiter(limiter: RateLimiterJson | null | undefined): RateLimiterConfig {
  return {
    ...(limiter?.bandwidth == null ? {} : { bandwidth: toBucket(limiter.bandwidth) }),
    ...(limiter?.ops == null ? {} : { ops: toBucket(limiter.ops) }),
  };
}

function fromBucket(bucket: TokenBucketConfig): TokenBucketJson {
  const { size, refillTimeMs, oneTimeBurst } = bucket;
  return { size, one_time_burst: oneTimeBurst || null, refill_time: refillTimeMs };
}

/** The library's limiter as Firecracker's. */
export function fromLimiter({ bandwidth, ops }: RateLimiterConfig): RateLimiterJson | null {
  return shownLimiter({
    bandwidth: bandwidth === undefined ? null : fromBucket(bandwidth),
    ops: ops === undefined ? null : fromBucket(ops),
  });
}

/** A limiter after a change: buckets that are given replace, and of no size or time remove. */
export function withChange(
  limiter: RateLimiterJson | null,
  change: RateLimiterJson,
): RateLimiterJson | null {
  return shownLimiter({
    bandwidth: change.bandwidth ?? limiter?.bandwidth ?? null,
    ops: change.ops ?? limiter?.ops ?? null,
  });
}
