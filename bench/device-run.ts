/**
 * A measure of a device: the bench guest under a monitor for a time, and what the monitor's own threads
 * computed meanwhile.
 *
 * The guest says when its warm-up is over, reports, and halts; the monitor's CPU time is read at both, while
 * nothing else is going on, and then it is killed. CPU time is that of all its threads but the vCPUs'; what
 * a thread used that ended meanwhile is not in it. Source: Linux Documentation/scheduler/sched-stats.rst.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import type { Ticks } from "./guest-report.js";
import { alternate, compare, type Measure, type MeasureKind } from "./harness.js";
import { type GuestDevices, guestCommand, type MonitorName } from "./monitors.js";

/** How long a run may take beside its measure. */
const START_MS = 60_000;
const VCPU_THREAD = /^(fc_vcpu \d+|CPU \d+\/KVM)$/;

/** What a run moved. */
export interface DeviceRun {
  readonly operationsPerSecond: number;
  readonly mibPerSecond: number;
  /** Of an operation, where the guest samples them. */
  readonly p50Us: number;
  readonly p99Us: number;
  /** The monitor's CPU time apart from its vCPUs, for each operation, and for each MiB. */
  readonly cpuUs: number;
  readonly cpuUsPerMib: number;
}

/** The guest's line of JSON for a device's measure. */
interface DeviceReport {
  readonly operations: number;
  readonly bytes: number;
  /** In ticks of the TSC. */
  readonly elapsed: number;
  readonly ticks?: Ticks;
}

/** A job and where it runs. */
export interface DeviceJob {
  /** Words of the guest's, without ticks= and end=. */
  readonly words: string;
  readonly devices: GuestDevices;
  readonly seconds: number;
  readonly tscPerUs: number;
  /** A network namespace for the monitor. */
  readonly netns?: string;
}

/** CPU time of a process without its vCPUs. */
function monitorCpuMs(pid: number): number {
  let sumNs = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${task}`;
    try {
      if (VCPU_THREAD.test(readFileSync(`${folder}/comm`, "latin1").trim())) continue;
      sumNs += Number(readFileSync(`${folder}/schedstat`, "latin1").split(" ")[0]);
    } catch {
      // It has just ended.
    }
  }
  return sumNs / 1e6;
}

/** Runs the job once under `monitor`. */
export async function runDevice(monitor: MonitorName, job: DeviceJob): Promise<DeviceRun> {
  const ticks = Math.round(job.seconds * job.tscPerUs * 1e6);
  const words = `${job.words} ticks=${ticks} end=halt`;
  const inside = job.netns === undefined ? [] : ["ip", "netns", "exec", job.netns];
  const [program, ...args] = [...inside, ...guestCommand(monitor, words, job.devices)];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), START_MS + 1000 * job.seconds);
  let output = "";
  let beganMs: number | undefined;
  let endedMs: number | undefined;
  child.stderr.on("data", (bytes: Buffer) => {
    output += bytes.toString();
  });
  child.stdout.on("data", (bytes: Buffer) => {
    output += bytes.toString("latin1");
    const { pid } = child;
    if (pid === undefined) return;
    if (beganMs === undefined && output.includes("measuring")) beganMs = monitorCpuMs(pid);
    if (endedMs !== undefined || !/\{".*\}\r?\n/.test(output)) return;
    endedMs = monitorCpuMs(pid);
    child.kill("SIGKILL");
  });
  await once(child, "close");
  clearTimeout(timer);
  const line = /\{".*\}/.exec(output)?.[0] ?? "{}";
  const {
    operations = 0,
    bytes = 0,
    elapsed,
    ticks: samples,
  } = JSON.parse(line) as Partial<DeviceReport>;
  if (beganMs === undefined || endedMs === undefined || !elapsed) {
    throw new Error(`${monitor}: no report for "${words}": ${output}`);
  }
  const seconds = elapsed / job.tscPerUs / 1e6;
  const cpuUs = (endedMs - beganMs) * 1000;
  const mib = bytes / 2 ** 20;
  return {
    operationsPerSecond: operations / seconds,
    mibPerSecond: mib / seconds,
    p50Us: (samples?.p50 ?? Number.NaN) / job.tscPerUs,
    p99Us: (samples?.p99 ?? Number.NaN) / job.tscPerUs,
    cpuUs: cpuUs / operations,
    cpuUsPerMib: cpuUs / mib,
  };
}

/** A figure of a run; one that is not a number is left out where a peer lacks it. */
export interface DeviceFigure extends MeasureKind {
  readonly of: (run: DeviceRun) => number;
}

/** Runs the contestants in turn, ours under "estalo", and compares the figures. */
export async function compareRuns(
  rounds: number,
  contestants: ReadonlyMap<string, () => Promise<DeviceRun>>,
  figures: readonly DeviceFigure[],
): Promise<Measure[]> {
  const runs = await alternate(rounds, contestants);
  const ours = runs.get("estalo") ?? [];
  runs.delete("estalo");
  return figures.flatMap(({ of, ...kind }) => {
    const peers = [...runs].map(([name, list]) => [name, list.map(of)] as const);
    const known = peers.filter(([, values]) => values.every(Number.isFinite));
    return compare(kind, ours.map(of), new Map(known));
  });
}
