/**
 * Subject: bench guests, side by side in one process, that ask a disk or a tap for as much as they can get,
 * through rate limiters.
 *
 * `node limited-devices.js KERNEL SECONDS JOB…` prints one line of JSON (LimitedDevices). A JOB is a LimitedJob
 * as JSON, and a microVM.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MicroVm, type RateLimiterConfig } from "../../src/index.js";

/** One microVM's device and what its guest does with it. */
export interface LimitedJob {
  /** The bench guest's words. */
  readonly words: string;
  /** An image, or the name of a tap. */
  readonly disk?: string;
  readonly tap?: string;
  readonly limiter: RateLimiterConfig;
}

/** What this subject prints. */
export interface LimitedDevices {
  /** Of each job's device, in their order. */
  readonly bytesPerSecond: readonly number[];
}

/** Until the buckets' first filling is spent. */
const SETTLE_MS = 1000;

const [kernel, seconds, ...jobs] = process.argv.slice(2);
const vms: MicroVm[] = [];
for (const text of jobs) {
  const { words, disk, tap, limiter } = JSON.parse(text) as LimitedJob;
  const vm = await MicroVm.create({
    kernel,
    bootArgs: `${words} end=halt`,
    memoryMib: 128,
    ...(disk === undefined ? {} : { drives: [{ id: "disk", path: disk, rateLimiter: limiter }] }),
    ...(tap === undefined
      ? {}
      : { networkInterfaces: [{ tap, rxRateLimiter: limiter, txRateLimiter: limiter }] }),
  });
  vms.push(vm);
}
const movedBytes = () =>
  vms.map(({ metrics }) => {
    const { disk } = metrics.drives;
    const { net0 } = metrics.networkInterfaces;
    if (disk !== undefined) return disk.read_bytes + disk.write_bytes;
    return net0.rx_bytes_count + net0.tx_bytes_count;
  });
await Promise.all(vms.map((vm) => vm.start()));
while (movedBytes().includes(0)) await sleep(10);
await sleep(SETTLE_MS);
const [before, beginMs] = [movedBytes(), performance.now()];
await sleep(Number(seconds) * 1000);
const [after, endMs] = [movedBytes(), performance.now()];
const bytesPerSecond = after.map((bytes, i) => ((bytes - before[i]) * 1000) / (endMs - beginMs));
const result: LimitedDevices = { bytesPerSecond };
console.log(JSON.stringify(result));
await Promise.all(vms.map((vm) => vm.kill()));
