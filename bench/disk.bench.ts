/**
 * The block device beside its peers': 4 KiB blocks in any order, one or 32 in flight, and 128 KiB in order.
 *
 * The image lies in the page cache of the host before the first run, and every monitor goes through that
 * cache (QEMU: cache=writeback, aio=io_uring; Firecracker: its default, Sync): what is measured is the way
 * of a request, not the medium. fio with io_uring on the same file has no guest at all: the limit.
 */
import { closeSync, existsSync, fsyncSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { join } from "node:path";
import { compareRuns, type DeviceFigure, type DeviceRun, runDevice } from "./device-run.js";
import type { BenchOptions, Measure } from "./harness.js";
import { deviceMonitors, isHere, tscPerUs } from "./monitors.js";
import { execute } from "./process.js";

const MIB = 2 ** 20;
const TMPFS = "/dev/shm";
const TMPFS_MAGIC = 0x01021994;

interface Pattern {
  readonly title: string;
  readonly op: "read" | "write";
  readonly isRandom: boolean;
  readonly bytes: number;
  readonly depth: number;
}

const PATTERNS: readonly Pattern[] = [
  ...(["read", "write"] as const).flatMap((op) =>
    [1, 32].map((depth) => {
      return {
        title: `4 KiB random ${op}, depth ${depth}`,
        op,
        isRandom: true,
        bytes: 4096,
        depth,
      };
    }),
  ),
  ...(["read", "write"] as const).map((op) => {
    return {
      title: `128 KiB ${op}s in order, depth 8`,
      op,
      isRandom: false,
      bytes: 131_072,
      depth: 8,
    };
  }),
];

/** Where an image can lie; a bench's folder is on the machine's disk. */
function places(): ReadonlyMap<string, string> {
  const found = new Map([["disk", new URL(".", import.meta.url).pathname]]);
  if (existsSync(TMPFS) && statfsSync(TMPFS).type === TMPFS_MAGIC) found.set("tmpfs", TMPFS);
  return found;
}

/** A file with something in every block. */
function makeImage(path: string, mib: number): void {
  const fd = openSync(path, "w");
  const piece = Buffer.alloc(MIB, 0x5a);
  for (let i = 0; i < mib; i++) writeSync(fd, piece);
  fsyncSync(fd);
  closeSync(fd);
}

/** What of fio's report is used. */
interface FioJob {
  readonly iops: number;
  readonly bw_bytes: number;
  readonly lat_ns: { readonly percentile?: Readonly<Record<string, number>> };
}

async function runFio(image: string, pattern: Pattern, seconds: number): Promise<DeviceRun> {
  const { stdout } = await execute([
    "fio",
    ...["--name=limit", `--filename=${image}`, "--ioengine=io_uring", "--output-format=json"],
    `--rw=${pattern.isRandom ? "rand" : ""}${pattern.op}`,
    ...[`--bs=${pattern.bytes}`, `--iodepth=${pattern.depth}`, "--time_based"],
    ...[`--runtime=${seconds}`, "--invalidate=0", "--fallocate=none"],
    // From its submission on: what the cache answers at once has no latency after that.
    ...["--lat_percentiles=1", "--clat_percentiles=0"],
  ]);
  const report = JSON.parse(stdout.slice(stdout.indexOf("{"))) as {
    jobs: readonly Record<"read" | "write", FioJob>[];
  };
  const job = report.jobs[0][pattern.op];
  const us = (percentile: string) => (job.lat_ns.percentile?.[percentile] ?? Number.NaN) / 1000;
  return {
    operationsPerSecond: job.iops,
    mibPerSecond: job.bw_bytes / MIB,
    p50Us: us("50.000000"),
    p99Us: us("99.000000"),
    cpuUs: Number.NaN,
    cpuUsPerMib: Number.NaN,
  };
}

function figures(place: string, { title, isRandom }: Pattern): DeviceFigure[] {
  const name = `disk: ${place}, ${title}`;
  const rate: DeviceFigure = isRandom
    ? { name: `${name}, rate`, unit: "per second", of: (run) => run.operationsPerSecond }
    : { name: `${name}, rate`, unit: "MiB per second", of: (run) => run.mibPerSecond };
  return [
    rate,
    { name: `${name}, p99`, unit: "us", of: (run) => run.p99Us },
    { name: `${name}, monitor's CPU time each`, unit: "us", of: (run) => run.cpuUs },
  ];
}

export async function benchDisk({ smoke }: BenchOptions): Promise<Measure[]> {
  const monitors = deviceMonitors();
  const hasFio = isHere("fio");
  const seconds = smoke ? 0.1 : 1;
  const ticks = tscPerUs();
  const measures: Measure[] = [];
  for (const [place, folder] of places()) {
    const image = join(folder, `estalo-bench-${process.pid}.img`);
    try {
      makeImage(image, smoke ? 16 : 256);
      for (const pattern of smoke ? [PATTERNS[1], PATTERNS[4]] : PATTERNS) {
        const { op, isRandom, bytes, depth } = pattern;
        const words = `bench=disk op=${op} random=${isRandom ? 1 : 0} bytes=${bytes} depth=${depth}`;
        const job = { words, devices: { disk: image }, seconds, tscPerUs: ticks };
        const contestants = new Map<string, () => Promise<DeviceRun>>(
          monitors.map((name) => [name, () => runDevice(name, job)]),
        );
        // fio takes whole seconds.
        if (hasFio && !smoke) contestants.set("fio, no guest", () => runFio(image, pattern, 1));
        measures.push(...(await compareRuns(smoke ? 1 : 3, contestants, figures(place, pattern))));
      }
    } finally {
      rmSync(image, { force: true });
    }
  }
  return measures;
}
