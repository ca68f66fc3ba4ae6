/**
 * Subject: what more and more idle microVMs in one process occupy, outside of their guests' memory.
 *
 * `node fleet-memory.js KERNEL 1,10,50 [paused]` prints one line of JSON (FleetMemory).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { MicroVm } from "../../src/index.js";
import { memoryOf, type ProcessMemory } from "../proc.js";

/** What this subject prints. */
export interface FleetMemory {
  /** The library is loaded, nothing runs. */
  readonly base: ProcessMemory;
  /** For each of the counts asked for. */
  readonly running: readonly { readonly count: number; readonly memory: ProcessMemory }[];
}

/** How long after the last start the process has to calm down: it trims its threads after 3 s. */
const SETTLE_MS = 4000;

const [kernel, countsText, state] = process.argv.slice(2);
const base = memoryOf("self");
const vms: MicroVm[] = [];

async function startOne(): Promise<void> {
  const vm = await MicroVm.create({ kernel, bootArgs: "bench=idle", memoryMib: 128 });
  vms.push(vm);
  const answered = new Promise<void>((resolve) => {
    vm.console.read(() => resolve());
  });
  await vm.start();
  await answered;
  if (state === "paused") await vm.pause();
}

const running: { count: number; memory: ProcessMemory }[] = [];
for (const count of countsText.split(",").map(Number)) {
  while (vms.length < count) await startOne();
  await sleep(SETTLE_MS);
  running.push({ count, memory: memoryOf("self") });
}
const result: FleetMemory = { base, running };
console.log(JSON.stringify(result));
await Promise.all(vms.map((vm) => vm.kill()));
