/** What the bench guest reports, read from its serial port. */
import type { GuestDevices, MonitorName } from "./monitors.js";
import { guestCommand } from "./monitors.js";
import { type Command, execute } from "./process.js";

/** Durations in ticks of the TSC. */
export interface Ticks {
  readonly n: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
  /** Of all operations and what is between them. */
  readonly total: number;
}

/** The guest's line of JSON. */
export interface GuestReport {
  readonly bench: string;
  readonly ring: number;
  readonly depth: number;
  readonly ticks: Ticks;
  /** Of a queue measure: from the doorbell to the interrupt. */
  readonly interrupt?: Ticks;
}

/** Boots the bench guest under `monitor` for this job and returns its report. */
export async function runJob(
  monitor: MonitorName,
  job: string,
  devices: GuestDevices = {},
): Promise<GuestReport> {
  return runCommand(monitor, guestCommand(monitor, job, devices), job);
}

/** Runs a command that boots the bench guest for this job and returns its report. */
export async function runCommand(
  monitor: string,
  command: Command,
  job: string,
): Promise<GuestReport> {
  const { stdout } = await execute(command);
  const line = /\{.*\}/.exec(stdout)?.[0];
  if (line === undefined) throw new Error(`${monitor}: no report for "${job}": ${stdout}`);
  const report = JSON.parse(line) as GuestReport & { error?: string };
  if (report.error !== undefined) throw new Error(`${monitor}: "${job}": ${line}`);
  return report;
}
