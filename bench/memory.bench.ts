/**
 * What an idle microVM of 128 MiB occupies outside of its guest's memory.
 *
 * In one process: proportional set size with 1, 10 and 50 of them, less that of the process that has loaded
 * the library, for each; and paused, where the threads are others' already. In processes of their own, 1 and 5 of them, beside QEMU's: the sum over all
 * processes, for each. KVM's own memory is in no process's account and is left out for everybody.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { alternate, type BenchOptions, compare, type Measure, measureAlone } from "./harness.js";
import { GUEST, guestCommand, hasQemu, type MonitorName, qemu, subject } from "./monitors.js";
import { memoryOf } from "./proc.js";
import { type Command, execute } from "./process.js";
import type { FleetMemory } from "./subjects/fleet-memory.js";

const KIB_PER_MIB = 1024;
const SETTLE_MS = 4000;
const IDLE_JOB = "bench=idle";

async function benchFleet({ smoke }: BenchOptions): Promise<Measure[]> {
  const counts = smoke ? [1, 2] : [1, 10, 50];
  const command = subject("fleet-memory", GUEST, counts.join(","));
  const runs: FleetMemory[] = [];
  for (let round = 0; round < (smoke ? 1 : 3); round++) {
    runs.push(JSON.parse((await execute(command)).stdout) as FleetMemory);
  }
  return counts.map((count, index) =>
    measureAlone(
      { name: `memory: each of ${count} in one process`, unit: "MiB", budget: 5 },
      runs.map(
        ({ base, running }) => (running[index].memory.pssKib - base.pssKib) / count / KIB_PER_MIB,
      ),
    ),
  );
}

/** Paused ones hold no thread; what the first of them left behind is not the others'. */
async function benchPaused({ smoke }: BenchOptions): Promise<Measure[]> {
  const [few, many] = smoke ? [1, 3] : [10, 50];
  const command = subject("fleet-memory", GUEST, `${few},${many}`, "paused");
  const each: number[] = [];
  for (let round = 0; round < (smoke ? 1 : 3); round++) {
    const { running } = JSON.parse((await execute(command)).stdout) as FleetMemory;
    const [first, last] = running.map(({ memory }) => memory.pssKib);
    each.push((last - first) / (many - few) / KIB_PER_MIB);
  }
  return [measureAlone({ name: "memory: each further, paused", unit: "MiB", budget: 0.5 }, each)];
}

/** QEMU with its guest's memory under a name, as memoryOf needs it. */
function idleCommand(monitor: MonitorName): Command {
  if (monitor !== "qemu microvm") return guestCommand(monitor, IDLE_JOB);
  const memory = [
    "-object",
    "memory-backend-memfd,id=ram,size=128M",
    "-machine",
    "memory-backend=ram",
  ];
  return qemu(...memory, "-device", "virtio-rng-device", "-kernel", GUEST, "-append", IDLE_JOB);
}

/** MiB for each of `count` processes that run an idle guest. */
async function processesMib(
  monitor: MonitorName,
  count: number,
  field: "pssKib" | "privateKib",
): Promise<number> {
  const [program, ...args] = idleCommand(monitor);
  const children: ChildProcess[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
      children.push(child);
      if (child.stdout !== null) await once(child.stdout, "data");
    }
    await sleep(SETTLE_MS);
    const kib = children.reduce((sum, child) => sum + memoryOf(child.pid ?? "self")[field], 0);
    return kib / count / KIB_PER_MIB;
  } finally {
    for (const child of children) {
      child.kill("SIGKILL");
      await once(child, "close");
    }
  }
}

async function benchProcesses({ smoke }: BenchOptions): Promise<Measure[]> {
  const monitors: MonitorName[] = hasQemu() ? ["estalo", "qemu microvm"] : ["estalo"];
  const kinds = [
    { name: "memory: one in a process of its own, private", count: 1, field: "privateKib" },
    { name: "memory: each of 5 in processes of their own", count: smoke ? 1 : 5, field: "pssKib" },
  ] as const;
  const measures: Measure[] = [];
  for (const { name, count, field } of kinds) {
    const results = await alternate(
      smoke ? 1 : 3,
      new Map(monitors.map((m) => [m, () => processesMib(m, count, field)] as const)),
    );
    const ours = results.get("estalo") ?? [];
    results.delete("estalo");
    const budget = field === "privateKib" ? { budget: 10 } : {};
    measures.push(...compare({ name, unit: "MiB", ...budget }, ours, results));
  }
  return measures;
}

export async function benchMemory(options: BenchOptions): Promise<Measure[]> {
  return [
    ...(await benchFleet(options)),
    ...(await benchPaused(options)),
    ...(await benchProcesses(options)),
  ];
}
