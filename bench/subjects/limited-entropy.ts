/**
 * Subject: a guest that asks the entropy device for as much as it can get, through a rate limiter.
 *
 * `node limited-entropy.js KERNEL LIMITER SECONDS` prints one line of JSON (LimitedEntropy). LIMITER is a rate
 * limiter's configuration as JSON.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MicroVm, type RateLimiterConfig } from "../../src/index.js";

/** What this subject prints. */
export interface LimitedEntropy {
  readonly bytesPerSecond: number;
}

/** Until the buckets' first filling is spent. */
const SETTLE_MS = 500;

const [kernel, limiter, seconds] = process.argv.slice(2);
await using vm = await MicroVm.create({
  kernel,
  bootArgs: "bench=queue depth=8 n=100000000",
  memoryMib: 128,
  entropy: { rateLimiter: JSON.parse(limiter) as RateLimiterConfig },
});
const given = () => vm.metrics.entropy?.entropy_bytes ?? 0;
await vm.start();
while (given() === 0) await sleep(10);
await sleep(SETTLE_MS);
const [bytes, beginMs] = [given(), performance.now()];
await sleep(Number(seconds) * 1000);
const result: LimitedEntropy = {
  bytesPerSecond: ((given() - bytes) * 1000) / (performance.now() - beginMs),
};
console.log(JSON.stringify(result));
