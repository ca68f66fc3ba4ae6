/**
 * What a run's figures depend on: the host, the versions of everything that took part, and whether the machine
 * was left alone. Written into every result file, so that nobody has to remember.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { peerPrograms } from "./monitors.js";
import type { Conditions, Host } from "./results.js";

/** A machine is quiet when no more than this of its processors is used while no bench runs, per cent. */
const QUIET_PERCENT = 10;
const LOOK_MS = 3000;

export function describeHost(): Host {
  const emulated = existsSync("/sys/module/kvm_pvm");
  const hardware = ["kvm_intel", "kvm_amd"].find((name) => existsSync(`/sys/module/${name}`));
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    linux: /^\d+\.\d+/.exec(release())?.[0] ?? release(),
    node: process.version,
    kvm: emulated ? "kvm_pvm" : (hardware ?? "none"),
  };
}

/** The source that is measured, as git describes it; "-dirty": with changes of its own. */
export function describeVersion(): string {
  const version = JSON.parse(readFileSync("package.json", "utf8")).version as string;
  const words = ["describe", "--always", "--dirty", "--abbrev=12"];
  const described = firstLine("git", words);
  return described === undefined ? version : `${version} (${described})`;
}

/** What each peer that is here, and the compiler of the bare loop, says of itself. */
export function peerVersions(): Record<string, string> {
  const programs = [...peerPrograms(), ["compiler", process.env.CC ?? "cc"] as const];
  return Object.fromEntries(
    programs.flatMap(([name, program]) => {
      const version = firstLine(program, ["--version"]);
      return version === undefined ? [] : [[name, version]];
    }),
  );
}

function firstLine(program: string, words: readonly string[]): string | undefined {
  try {
    const text = execFileSync(program, words, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return text.trim().split("\n")[0];
  } catch {
    return undefined;
  }
}

/** Where a run begins or ends. */
export interface Look {
  readonly at: string;
  /** Of all processors, while no bench runs: what others use, and what the host's other machines take. */
  readonly busyPercent: number;
  readonly loadAverage: readonly number[];
}

/** Looks at the machine for some seconds; a smoke run only glances. */
export async function lookAround(smoke: boolean): Promise<Look> {
  const at = new Date().toISOString();
  const loadAverage = loadavg().map((load) => Math.round(100 * load) / 100);
  const before = processorTimes();
  await sleep(smoke ? LOOK_MS / 30 : LOOK_MS);
  const now = processorTimes();
  const busy = (100 * (now.busy - before.busy)) / Math.max(1, now.all - before.all);
  return { at, loadAverage, busyPercent: Math.round(10 * busy) / 10 };
}

/** Ticks of all processors since the start; time stolen by the host's other machines is busy, too. */
function processorTimes(): { readonly busy: number; readonly all: number } {
  const [line] = readFileSync("/proc/stat", "latin1").split("\n");
  // user nice system idle iowait irq softirq steal; guests' time is in user already. Source: proc(5).
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  const all = ticks.reduce((sum, value) => sum + value, 0);
  return { all, busy: all - ticks[3] - ticks[4] };
}

/** The record of a run between two looks. */
export function conditionsOf(start: Look, end: Look): Conditions {
  const beside = Math.max(start.busyPercent, end.busyPercent);
  return {
    startedAt: start.at,
    finishedAt: end.at,
    isQuiet: beside <= QUIET_PERCENT,
    busyPercent: { start: start.busyPercent, end: end.busyPercent },
    loadAverage: { start: start.loadAverage, end: end.loadAverage },
  };
}
