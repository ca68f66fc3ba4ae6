/**
 * Subject: starts and kills microVMs one after the other, or a few at a time, in one process that is warm.
 *
 * `node warm-start.js KERNEL COUNT CONCURRENCY` prints one line of JSON (WarmStart). "First instruction" is
 * the bench guest's first byte as a reader of the console gets it. KERNEL may be `default`: the guest that comes
 * with Estalo, which is not waited for any further than its first entry.
 */
import { MicroVm, type Timings } from "../../src/index.js";

/** What this subject prints. */
export interface WarmStart {
  /** From the call of create to the first instruction of the guest, each. */
  readonly firstInstructionMs: readonly number[];
  /** From the call of kill to its end, each. */
  readonly killMs: readonly number[];
  readonly timings: readonly Timings[];
  /** Of all of them. */
  readonly wallMs: number;
  readonly cpuMs: number;
}

/** Starts before the measured ones: code is compiled, threads are there. */
const WARM_UP = 10;

const [kernel, countText, concurrencyText] = process.argv.slice(2);
const firstInstructionMs: number[] = [];
const killMs: number[] = [];
const timings: Timings[] = [];

const isDefault = kernel === "default";
const config = isDefault ? {} : { kernel, bootArgs: "bench=idle" };

async function startAndKill(): Promise<void> {
  const begin = performance.now();
  const vm = await MicroVm.create({ ...config, memoryMib: 128 });
  const answered = new Promise<void>((resolve) => {
    vm.console.read(() => resolve());
  });
  await vm.start();
  if (!isDefault) await answered;
  firstInstructionMs.push(performance.now() - begin);
  timings.push(vm.timings);
  const killed = performance.now();
  await vm.kill();
  killMs.push(performance.now() - killed);
}

async function startMany(count: number, concurrency: number): Promise<void> {
  let left = count;
  const lane = async () => {
    while (left-- > 0) await startAndKill();
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
}

await startMany(WARM_UP, Number(concurrencyText));
for (const list of [firstInstructionMs, killMs, timings]) list.length = 0;
const begin = performance.now();
const cpu = process.cpuUsage();
await startMany(Number(countText), Number(concurrencyText));
const { user, system } = process.cpuUsage(cpu);
const result: WarmStart = {
  firstInstructionMs,
  killMs,
  timings,
  wallMs: performance.now() - begin,
  cpuMs: (user + system) / 1000,
};
console.log(JSON.stringify(result));
