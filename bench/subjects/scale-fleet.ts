/**
 * Subject: what one microVM costs among others of its process, all idle or all busy.
 *
 * `node scale-fleet.js KERNEL COUNT VCPUS OPERATIONS idle|busy|memory` prints one line of JSON (ScaleFleet). `idle`:
 * COUNT - 1 microVMs halt while one more is started and measured. `busy`: all of them make exits at once. `memory`:
 * as `idle`, and what each occupies when the process has calmed down. Only the first of the VCPUS ever runs.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MicroVm } from "../../src/index.js";
import type { GuestReport } from "../guest-report.js";
import { memoryOf } from "../proc.js";

/** What this subject prints. */
export interface ScaleFleet {
  /** Of one among idle ones. */
  readonly exits?: GuestReport;
  readonly doorbells?: GuestReport;
  /** From the call of create to the first instruction of the guest. */
  readonly startMs?: number;
  /** Proportional set size of each without guest memory, in KiB. */
  readonly kibEach?: number;
  /** Of busy ones: the process's CPU time for an exit. */
  readonly exitCpuUs?: number;
}

/** As in fleet-memory.ts. */
const SETTLE_MS = 4000;
/** Starts before the measured one: code is compiled, threads are there. */
const WARM_UP = 5;

const [kernel, countText, vcpusText, operations, kind] = process.argv.slice(2);
const count = Number(countText);
const EXITS = `bench=mmio-write n=${operations}`;
const DOORBELLS = `bench=queue n=${operations}`;

interface Started {
  readonly vm: MicroVm;
  readonly startMs: number;
  /** What it has written so far. */
  text(): string;
}

async function start(job: string): Promise<Started> {
  const begin = performance.now();
  const config = { kernel, bootArgs: job, memoryMib: 128, vcpuCount: Number(vcpusText) };
  const vm = await MicroVm.create(config);
  let text = "";
  const answered = new Promise<void>((resolve) => {
    vm.console.read((bytes) => {
      text += Buffer.from(bytes).toString("latin1");
      resolve();
    });
  });
  await vm.start();
  await answered;
  return { vm, startMs: performance.now() - begin, text: () => text };
}

/** Runs a job to its end; its time of start and its report. */
async function run(job: string): Promise<{ startMs: number; report: GuestReport }> {
  const { vm, startMs, text } = await start(job);
  await vm.wait();
  const line = /\{.*\}/.exec(text())?.[0];
  if (line === undefined) throw new Error(`no report for "${job}": ${text()}`);
  return { startMs, report: JSON.parse(line) as GuestReport };
}

async function amongIdle(): Promise<ScaleFleet> {
  const idle: MicroVm[] = [];
  while (idle.length < count - 1) idle.push((await start("bench=idle")).vm);
  const exits = await run(EXITS);
  const doorbells = await run(DOORBELLS);
  let kibEach: number | undefined;
  if (kind === "memory") {
    idle.push((await start("bench=idle")).vm);
    await sleep(SETTLE_MS);
    kibEach = (memoryOf("self").pssKib - base) / count;
  }
  await Promise.all(idle.map((vm) => vm.kill()));
  const { startMs, report } = doorbells;
  return { exits: exits.report, doorbells: report, startMs, ...(kibEach && { kibEach }) };
}

async function allBusy(): Promise<ScaleFleet> {
  const before = process.cpuUsage();
  await Promise.all(Array.from({ length: count }, () => run(EXITS)));
  const { user, system } = process.cpuUsage(before);
  return { exitCpuUs: (user + system) / (count * Number(operations)) };
}

/** The library is loaded, nothing runs. */
const base = memoryOf("self").pssKib;
for (let i = 0; i < WARM_UP; i++) await (await start("bench=idle")).vm.kill();
const result = kind === "busy" ? await allBusy() : await amongIdle();
console.log(JSON.stringify(result));
