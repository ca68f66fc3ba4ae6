/**
 * Subject: a guest that exits all the time, while watchers of its exits come and go: phase after phase in one
 * run, so that they share whatever else the machine does.
 *
 * `node streamed-exits.js KERNEL ROUNDS PHASE_MS` prints one line of JSON: a StreamPhase for each phase of each
 * round. Watchers do with a batch what the WebSocket does with it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { encodeExitFrame } from "../../src/api/exit-frames.js";
import { batchMessage } from "../../src/api/v1/exits-socket.js";
import { type ExitBatch, MicroVm } from "../../src/index.js";

/** One phase. */
export interface StreamPhase {
  readonly name: string;
  /** Of the guest, by its vCPU's counters. */
  readonly exitsPerSecond: number;
  /** The same for a second of its vCPU's processor time: what other work on the machine does not change. */
  readonly exitsPerCpuSecond: number;
  /** Exits that were overwritten before they were read, of all, percent; 0 when nobody watches. */
  readonly lostPercent: number;
}

const [kernel, rounds, phaseMs] = process.argv.slice(2);
await using vm = await MicroVm.create({
  kernel,
  bootArgs: "bench=forever ring=0",
  memoryMib: 128,
});

const columns = (batch: ExitBatch) => batch.length;
const json = (batch: ExitBatch) => batchMessage(batch).length;
const binary = (batch: ExitBatch) => encodeExitFrame(batch).length;
const PHASES = [
  ["nobody watches", 0, columns],
  ["1 watcher", 1, columns],
  ["1 watcher, RIP", 1, columns],
  ["1 watcher, frames", 1, binary],
  ["1 watcher, JSON", 1, json],
  ["10 watchers", 10, columns],
  ["10 watchers, frames", 10, binary],
  ["10 watchers, JSON", 10, json],
] as const;

/** Long enough for what is compiled when it is first needed. */
const WARM_UP_MS = 1000;

const exitCount = () => vm.metrics.vcpus[0].exitMmioWrite;

/** Processor time of the vCPU's thread, seconds. */
function cpuSeconds(): number {
  const tasks = readdirSync("/proc/self/task").map((id) => `/proc/self/task/${id}`);
  const vcpu = tasks.find((task) => readFileSync(`${task}/comm`, "utf8") === "fc_vcpu 0\n");
  if (vcpu === undefined) throw new Error("there is no thread fc_vcpu 0");
  return Number(readFileSync(`${vcpu}/schedstat`, "utf8").split(" ")[0]) / 1e9;
}

async function phase(
  [name, watchers, handle]: (typeof PHASES)[number],
  ms: number,
): Promise<StreamPhase> {
  let lost = 0;
  let seen = 0;
  let bytes = 0;
  const subscriptions = Array.from({ length: watchers }, () =>
    vm.exits$({ rip: name.includes("RIP") }).subscribe((batch) => {
      seen += batch.length;
      lost = Math.max(lost, batch.lost);
      bytes += handle(batch);
    }),
  );
  const [before, beginMs, cpu] = [exitCount(), performance.now(), cpuSeconds()];
  await sleep(ms);
  const exits = (exitCount() - before) >>> 0;
  const exitsPerCpuSecond = exits / (cpuSeconds() - cpu);
  const seconds = (performance.now() - beginMs) / 1000;
  for (const subscription of subscriptions) subscription.unsubscribe();
  if (watchers > 0 && (seen === 0 || bytes === 0)) throw new Error(`${name}: nothing was seen`);
  const lostPercent = (100 * lost) / Math.max(1, exits);
  return { name, exitsPerSecond: exits / seconds, exitsPerCpuSecond, lostPercent };
}

await vm.start();
while (exitCount() < 1000) await sleep(10);
// Compiled before any of it counts.
for (const one of PHASES) await phase(one, WARM_UP_MS);
const phases: StreamPhase[] = [];
for (let round = 0; round < Number(rounds); round++) {
  for (const one of PHASES) phases.push(await phase(one, Number(phaseMs)));
}
console.log(JSON.stringify(phases));
