/**
 * How near a device that is asked for more keeps to its limit: the entropy device, limited by operations, by
 * bytes and by both, with buckets that are filled slowly and fast.
 *
 * The limit is the peer, so a ratio of 1 is exact; under 1 is above the limit.
 */
import type { RateLimiterConfig, TokenBucketConfig } from "../src/index.js";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import { GUEST, subject } from "./monitors.js";
import { execute } from "./process.js";
import type { LimitedEntropy } from "./subjects/limited-entropy.js";

/** The bench guest asks for so many bytes at a time. */
const REQUEST_BYTES = 64;

const perSecond = ({ size, refillTimeMs }: TokenBucketConfig) => (size * 1000) / refillTimeMs;

const LIMITS: Readonly<Record<string, RateLimiterConfig>> = {
  "1000 operations a second": { ops: { size: 100, refillTimeMs: 100 } },
  "1000 operations a second, a bucket of 5": { ops: { size: 5, refillTimeMs: 5 } },
  "64 KB/s": { bandwidth: { size: 64_000, refillTimeMs: 1000 } },
  "64 KB/s, and 500 operations": {
    bandwidth: { size: 6400, refillTimeMs: 100 },
    ops: { size: 50, refillTimeMs: 100 },
  },
};

function limitOf({ ops, bandwidth }: RateLimiterConfig): number {
  const byOps = ops === undefined ? Number.POSITIVE_INFINITY : perSecond(ops) * REQUEST_BYTES;
  const byBytes = bandwidth === undefined ? Number.POSITIVE_INFINITY : perSecond(bandwidth);
  return Math.min(byOps, byBytes);
}

export async function benchLimiters({ smoke }: BenchOptions): Promise<Measure[]> {
  const measure = async (limiter: RateLimiterConfig) => {
    const command = subject("limited-entropy", GUEST, JSON.stringify(limiter), smoke ? "0.3" : "5");
    const { bytesPerSecond } = JSON.parse((await execute(command)).stdout) as LimitedEntropy;
    return bytesPerSecond;
  };
  const runs = await alternate(
    smoke ? 1 : 3,
    new Map(Object.entries(LIMITS).map(([name, limiter]) => [name, () => measure(limiter)])),
  );
  return Object.entries(LIMITS).flatMap(([name, limiter]) =>
    compare(
      { name: `limiter: ${name}, bytes`, unit: "per second" },
      runs.get(name) ?? [],
      new Map([["the limit", [limitOf(limiter)]]]),
    ),
  );
}
