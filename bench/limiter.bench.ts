/**
 * How near a device that is asked for more keeps to its limit: the entropy device, limited by operations, by
 * bytes and by both, with buckets that are filled slowly and fast; two microVMs on one disk, reading and
 * writing; a tap, both ways (needs root).
 *
 * The limit is the peer, so a ratio of 1 is exact; under 1 is above the limit. Of two microVMs on one disk, with
 * and without limits, the other one is the peer: a ratio of 1 is fair.
 */
import { existsSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import type { RateLimiterConfig, TokenBucketConfig } from "../src/index.js";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import { GUEST, peerProgram, subject, tscPerUs } from "./monitors.js";
import { BenchNetwork, TAP } from "./netns.js";
import { type Command, execute, whileRunning } from "./process.js";
import type { LimitedDevices, LimitedJob } from "./subjects/limited-devices.js";
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

async function benchEntropy({ smoke }: BenchOptions): Promise<Measure[]> {
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

const DISK_BYTES = 64 * 2 ** 20;
/** A mebibyte a second, in a bucket of half a second: what is in the way of it is not a busy machine. */
const LIMIT: RateLimiterConfig = { bandwidth: { size: 524_288, refillTimeMs: 500 } };
const LIMIT_BYTES_PER_S = perSecond(LIMIT.bandwidth as TokenBucketConfig);
const FRAME_BYTES = 1514;
/** Longer than any run here, s. */
const GUEST_S = 600;

/** The guest's words for as long as it is looked at. */
const endless = (words: string) => `${words} ticks=${Math.round(GUEST_S * tscPerUs() * 1e6)}`;

function limited(seconds: number, jobs: readonly LimitedJob[]): Command {
  return subject(
    "limited-devices",
    GUEST,
    String(seconds),
    ...jobs.map((job) => JSON.stringify(job)),
  );
}

async function ratesOf(command: Command): Promise<readonly number[]> {
  return (JSON.parse((await execute(command)).stdout) as LimitedDevices).bytesPerSecond;
}

/** Two microVMs on one disk: each beside its limit, and one beside the other. */
async function benchDisks({ smoke }: BenchOptions): Promise<Measure[]> {
  const image = new URL(`estalo-bench-${process.pid}.img`, import.meta.url).pathname;
  const seconds = smoke ? 0.3 : 5;
  writeFileSync(image, "");
  truncateSync(image, DISK_BYTES);
  const pair = (op: string, limiter: RateLimiterConfig) => () =>
    ratesOf(
      limited(
        seconds,
        // One asks for little at a time, the other for much.
        [
          { words: endless(`bench=disk op=${op} bytes=16384 depth=4`), disk: image, limiter },
          { words: endless(`bench=disk op=${op} bytes=65536 depth=16`), disk: image, limiter },
        ],
      ),
    );
  const same = { words: endless("bench=disk op=read bytes=16384 depth=8"), disk: image };
  try {
    const runs = await alternate(
      smoke ? 1 : 3,
      new Map([
        ["reads", pair("read", LIMIT)],
        ["writes", pair("write", LIMIT)],
        [
          "no limit",
          () =>
            ratesOf(
              limited(seconds, [
                { ...same, limiter: {} },
                { ...same, limiter: {} },
              ]),
            ),
        ],
      ]),
    );
    const column = (name: string, index: number) => (runs.get(name) ?? []).map((run) => run[index]);
    const limits = new Map([["the limit", [LIMIT_BYTES_PER_S]]]);
    const kind = (name: string) =>
      ({ name: `limiter: ${name}, bytes`, unit: "per second" }) as const;
    return [
      ...["reads", "writes"].flatMap((op) => [
        ...compare(kind(`disk, ${op} of 16 KiB beside another microVM`), column(op, 0), limits),
        ...compare(kind(`disk, ${op} of 64 KiB beside another microVM`), column(op, 1), limits),
      ]),
      ...compare(
        kind("one of two microVMs on one disk, no limit"),
        column("no limit", 0),
        new Map([["the other", column("no limit", 1)]]),
      ),
    ];
  } finally {
    rmSync(image, { force: true });
  }
}

/** A tap, both ways. */
async function benchTap({ smoke }: BenchOptions): Promise<Measure[]> {
  if (process.getuid?.() !== 0 || !existsSync("/dev/net/tun")) {
    console.error("limiters: a tap needs root and /dev/net/tun, left out");
    return [];
  }
  const seconds = smoke ? 0.3 : 5;
  const network = new BenchNetwork();
  const inside = ["ip", "netns", "exec", network.name] as const;
  const run = (direction: "send" | "receive") => () => {
    const words = endless(`bench=net-${direction} bytes=${FRAME_BYTES} ahead=256`);
    const job = { words, tap: TAP, limiter: LIMIT };
    const measured = async () => (await ratesOf([...inside, ...limited(seconds, [job])]))[0];
    if (direction === "send") return measured();
    const flood = [peerProgram("net-peer"), "send", TAP, String(FRAME_BYTES), "256"];
    return whileRunning([...inside, ...flood], measured);
  };
  try {
    const runs = await alternate(
      smoke ? 1 : 3,
      new Map([
        ["frames to the host", run("send")],
        ["frames from the host", run("receive")],
      ]),
    );
    return [...runs].flatMap(([name, rates]) =>
      compare(
        { name: `limiter: ${name}, bytes`, unit: "per second" },
        rates,
        new Map([["the limit", [LIMIT_BYTES_PER_S]]]),
      ),
    );
  } finally {
    network.close();
  }
}

export async function benchLimiters(options: BenchOptions): Promise<Measure[]> {
  return [
    ...(await benchEntropy(options)),
    ...(await benchDisks(options)),
    ...(await benchTap(options)),
  ];
}
