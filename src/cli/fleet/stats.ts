/**
 * `estalo stats` and `estalo top`: what microVMs use, from two looks at their counters a second apart.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { EstaloClient } from "../../api/client/client.js";
import type { Microvm, MicrovmMetrics } from "../../api/client/types.js";
import { isEstaloError } from "../../errors.js";
import { type FleetCall, givenMicrovms, outputRoom, withMicrovm, writeJson } from "./call.js";
import { inOrder } from "./each.js";
import { type Column, size, tableText } from "./table.js";
import { LIVE_STATES } from "./verb-table.js";

const INTERVAL_MS = 1000;
/** Calls on their way at the same time. */
const AT_ONCE = 16;
const CLEAR_SCREEN = "\x1b[H\x1b[2J\x1b[3J";

type Vcpu = MicrovmMetrics["vcpus"][number];

/** A second of one vCPU. */
export interface VcpuUse {
  readonly vcpu: number;
  /** 100: one core; undefined: the server cannot tell. */
  readonly cpuPercent: number | undefined;
  readonly exitsPerSecond: number;
  readonly ioInPerSecond: number;
  readonly ioOutPerSecond: number;
  readonly mmioReadPerSecond: number;
  readonly mmioWritePerSecond: number;
  readonly otherPerSecond: number;
}

/** A second of one drive. */
export interface DriveUse {
  readonly drive: string;
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
  readonly readsPerSecond: number;
  readonly writesPerSecond: number;
}

/** A second of one microVM. */
export interface MicrovmUse {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly memoryMib: number;
  readonly cpuPercent: number | undefined;
  readonly exitsPerSecond: number;
  readonly readBytesPerSecond: number;
  readonly writeBytesPerSecond: number;
  readonly consoleBytesPerSecond: number;
  readonly vcpus: readonly VcpuUse[];
  readonly drives: readonly DriveUse[];
}

/** `estalo stats`. */
export async function stats(call: FleetCall): Promise<number> {
  const { client, parsed } = call;
  const given = parsed.operands;
  // A mistake in a name is told before the screen is taken.
  const ids = await Promise.all(
    given.map((name) =>
      withMicrovm(client, name, async (found) => (await client.microvms.get(found)).id),
    ),
  );
  return watch(
    call,
    () => chosen(client, ids),
    (uses) => tableText(STATS_COLUMNS, uses),
  );
}

/** `estalo top`. */
export async function top(call: FleetCall): Promise<number> {
  const { client } = call;
  const [given] = givenMicrovms(call, 1);
  const { id } = await withMicrovm(client, given, (found) => client.microvms.get(found));
  return watch(call, () => chosen(client, [id]), topText);
}

async function chosen(client: EstaloClient, ids: readonly string[]): Promise<Microvm[]> {
  const microvms: Microvm[] = [];
  for await (const microvm of client.microvms.all({ states: LIVE_STATES })) {
    if (ids.length === 0 || ids.includes(microvm.id)) microvms.push(microvm);
  }
  return microvms;
}

/** Shows what happened in every second. Ends when all that was asked for has. */
async function watch(
  { client, parsed, isJson, verb }: FleetCall,
  microvms: () => Promise<Microvm[]>,
  text: (uses: readonly MicrovmUse[]) => string,
): Promise<number> {
  const isOnce = parsed.switches.has("no-stream");
  const isLive = process.stdout.isTTY === true && !isOnce && !isJson;
  let before = await look(client, await microvms());
  for (;;) {
    await sleep(INTERVAL_MS);
    const now = await microvms();
    const metrics = await look(client, now);
    const uses = now.flatMap((microvm) => {
      const [first, second] = [before.get(microvm.id), metrics.get(microvm.id)];
      return first === undefined || second === undefined ? [] : [useOf(microvm, first, second)];
    });
    if (isJson) for (const use of uses) writeJson(use);
    else process.stdout.write(`${isLive ? CLEAR_SCREEN : ""}${text(uses)}`);
    await outputRoom();
    const isOver = parsed.operands.length > 0 && now.length === 0;
    if (isOnce || (verb.name === "top" && isOver) || isOver) return 0;
    before = metrics;
  }
}

/** The counters of each; one that is deleted meanwhile has none. */
async function look(
  client: EstaloClient,
  microvms: readonly Microvm[],
): Promise<Map<string, MicrovmMetrics>> {
  const metrics = new Map<string, MicrovmMetrics>();
  const ask = ({ id }: Microvm) => client.microvms.metrics(id);
  for await (const [{ id }, outcome] of inOrder(microvms, AT_ONCE, ask)) {
    if (outcome.status === "fulfilled") metrics.set(id, outcome.value);
    else if (!isGone(outcome.reason)) throw outcome.reason;
  }
  return metrics;
}

function isGone(error: unknown): boolean {
  return isEstaloError(error) && error.code === "ERR_ESTALO_NOT_FOUND";
}

/** Between two looks. A counter that began anew, with another run, counts from 0. */
export function useOf(microvm: Microvm, first: MicrovmMetrics, second: MicrovmMetrics): MicrovmUse {
  const seconds = Math.max(0.001, (second.atMs - first.atMs) / 1000);
  const rate = (from = 0, to = 0) => (to >= from ? to - from : to) / seconds;
  const vcpus = second.vcpus.map((now, vcpu) => vcpuUse(vcpu, first.vcpus[vcpu], now, rate));
  const drives = Object.entries(second.drives).map(([drive, now]) => {
    const then = first.drives[drive];
    return {
      drive,
      readBytesPerSecond: rate(then?.read_bytes, now.read_bytes),
      writeBytesPerSecond: rate(then?.write_bytes, now.write_bytes),
      readsPerSecond: rate(then?.read_count, now.read_count),
      writesPerSecond: rate(then?.write_count, now.write_count),
    };
  });
  const { id, name, state, config } = microvm;
  const cpus = vcpus.flatMap(({ cpuPercent }) => (cpuPercent === undefined ? [] : [cpuPercent]));
  return {
    id,
    name,
    state,
    memoryMib: config.memoryMib ?? 128,
    cpuPercent: cpus.length === 0 ? undefined : sum(cpus),
    exitsPerSecond: sum(vcpus.map(({ exitsPerSecond }) => exitsPerSecond)),
    readBytesPerSecond: sum(drives.map(({ readBytesPerSecond }) => readBytesPerSecond)),
    writeBytesPerSecond: sum(drives.map(({ writeBytesPerSecond }) => writeBytesPerSecond)),
    consoleBytesPerSecond: rate(first.serial.transmittedBytes, second.serial.transmittedBytes),
    vcpus,
    drives,
  };
}

function vcpuUse(
  vcpu: number,
  first: Vcpu | undefined,
  second: Vcpu,
  rate: (from?: number, to?: number) => number,
): VcpuUse {
  const ioInPerSecond = rate(first?.exitIoIn, second.exitIoIn);
  const ioOutPerSecond = rate(first?.exitIoOut, second.exitIoOut);
  const mmioReadPerSecond = rate(first?.exitMmioRead, second.exitMmioRead);
  const mmioWritePerSecond = rate(first?.exitMmioWrite, second.exitMmioWrite);
  const otherPerSecond = rate(first?.exitOther, second.exitOther);
  const hasCpu = first?.cpuMs !== undefined && second.cpuMs !== undefined;
  return {
    vcpu,
    // A millisecond in a second is a tenth of a per cent.
    cpuPercent: hasCpu ? rate(first?.cpuMs, second.cpuMs) / 10 : undefined,
    exitsPerSecond:
      ioInPerSecond + ioOutPerSecond + mmioReadPerSecond + mmioWritePerSecond + otherPerSecond,
    ioInPerSecond,
    ioOutPerSecond,
    mmioReadPerSecond,
    mmioWritePerSecond,
    otherPerSecond,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

const percent = (value: number | undefined) =>
  value === undefined ? "-" : `${value.toFixed(1)} %`;
const count = (value: number) => String(Math.round(value));
const bytes = (value: number) => `${size(value)}/s`;

const STATS_COLUMNS: readonly Column<MicrovmUse>[] = [
  { title: "ID", cell: ({ id }) => id.slice(0, 12) },
  { title: "NAME", cell: ({ name }) => name },
  { title: "STATE", cell: ({ state }) => state },
  { title: "CPU", cell: ({ cpuPercent }) => percent(cpuPercent), isNumber: true },
  { title: "MEMORY", cell: ({ memoryMib }) => `${memoryMib} MiB`, isNumber: true },
  { title: "EXITS/S", cell: ({ exitsPerSecond }) => count(exitsPerSecond), isNumber: true },
  { title: "READ", cell: (use) => bytes(use.readBytesPerSecond), isNumber: true },
  { title: "WRITTEN", cell: (use) => bytes(use.writeBytesPerSecond), isNumber: true },
  { title: "CONSOLE", cell: (use) => bytes(use.consoleBytesPerSecond), isNumber: true },
];

const VCPU_COLUMNS: readonly Column<VcpuUse>[] = [
  { title: "VCPU", cell: ({ vcpu }) => String(vcpu), isNumber: true },
  { title: "CPU", cell: ({ cpuPercent }) => percent(cpuPercent), isNumber: true },
  { title: "EXITS/S", cell: ({ exitsPerSecond }) => count(exitsPerSecond), isNumber: true },
  { title: "IN/S", cell: ({ ioInPerSecond }) => count(ioInPerSecond), isNumber: true },
  { title: "OUT/S", cell: ({ ioOutPerSecond }) => count(ioOutPerSecond), isNumber: true },
  { title: "MMIO R/S", cell: (use) => count(use.mmioReadPerSecond), isNumber: true },
  { title: "MMIO W/S", cell: (use) => count(use.mmioWritePerSecond), isNumber: true },
  { title: "OTHER/S", cell: ({ otherPerSecond }) => count(otherPerSecond), isNumber: true },
];

const DRIVE_COLUMNS: readonly Column<DriveUse>[] = [
  { title: "DRIVE", cell: ({ drive }) => drive },
  { title: "READ", cell: (use) => bytes(use.readBytesPerSecond), isNumber: true },
  { title: "WRITTEN", cell: (use) => bytes(use.writeBytesPerSecond), isNumber: true },
  { title: "READS/S", cell: ({ readsPerSecond }) => count(readsPerSecond), isNumber: true },
  { title: "WRITES/S", cell: ({ writesPerSecond }) => count(writesPerSecond), isNumber: true },
];

/** The vCPUs and drives of one. */
export function topText(uses: readonly MicrovmUse[]): string {
  const [use] = uses;
  if (use === undefined) return "it does not run\n";
  const head = `${use.name} (${use.id}): ${use.state}, ${percent(use.cpuPercent)} CPU\n\n`;
  const drives = use.drives.length === 0 ? "" : `\n${tableText(DRIVE_COLUMNS, use.drives)}`;
  return `${head}${tableText(VCPU_COLUMNS, use.vcpus)}${drives}`;
}
