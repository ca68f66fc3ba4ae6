/**
 * Whether a microVM costs the same among many, and with many vCPUs: an exit, a doorbell, a start, memory.
 *
 * Ours are in one process, QEMU's in one each. The peer "alone" is ours with one microVM and one vCPU: a ratio
 * of 1 is a flat cost. More vCPUs than one are there and wait; the guest starts none of them.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type GuestReport, runJob } from "./guest-report.js";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import { GUEST, guestCommand, hasQemu, subject, tscPerUs } from "./monitors.js";
import { execute } from "./process.js";
import type { ScaleFleet } from "./subjects/scale-fleet.js";

/** What is measured of a microVM in some company; without memory where that is not asked for. */
interface Cost {
  readonly exitUs: number;
  readonly doorbellUs: number;
  readonly startMs: number;
  readonly mibEach: number;
}

const FIGURES = [
  ["MMIO write, p50", "us", ({ exitUs }: Cost) => exitUs],
  ["doorbell to used ring, p50", "us", ({ doorbellUs }: Cost) => doorbellUs],
  ["create to first instruction", "ms", ({ startMs }: Cost) => startMs],
  ["memory of each", "MiB", ({ mibEach }: Cost) => mibEach],
] as const;

async function ours(
  count: number,
  vcpus: number,
  operations: number,
  kind: "idle" | "memory",
): Promise<Cost> {
  const words = [GUEST, count, vcpus, operations, kind].map(String);
  const { stdout } = await execute(subject("scale-fleet", ...words));
  const { exits, doorbells, startMs, kibEach } = JSON.parse(stdout) as ScaleFleet;
  const us = (report?: GuestReport) => (report?.ticks.p50 ?? Number.NaN) / tscPerUs();
  return {
    exitUs: us(exits),
    doorbellUs: us(doorbells),
    startMs: startMs ?? Number.NaN,
    mibEach: (kibEach ?? Number.NaN) / 1024,
  };
}

/** One of QEMU's beside `count` - 1 processes that idle; cold starts and memory are other benches'. */
async function qemus(count: number, vcpus: number, operations: number): Promise<Cost> {
  const [program, ...args] = guestCommand("qemu microvm", "bench=idle", { vcpus });
  const idle = Array.from({ length: count - 1 }, () =>
    spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] }),
  );
  try {
    const ended = idle.map(async (child) => {
      const [code] = await once(child, "exit");
      throw new Error(`an idle QEMU ended with ${code}`);
    });
    // They all end below, when nobody waits for that any more.
    for (const one of ended) one.catch(() => {});
    const allSaid = Promise.all(idle.map((child) => once(child.stdout, "data")));
    await Promise.race([allSaid, ...ended]);
    const exits = await runJob("qemu microvm", `bench=mmio-write n=${operations}`, { vcpus });
    const doorbells = await runJob("qemu microvm", `bench=queue n=${operations}`, { vcpus });
    const us = (report: GuestReport) => report.ticks.p50 / tscPerUs();
    const none = { startMs: Number.NaN, mibEach: Number.NaN };
    return { exitUs: us(exits), doorbellUs: us(doorbells), ...none };
  } finally {
    for (const child of idle) child.kill("SIGKILL");
    await Promise.all(idle.map((child) => once(child, "close")));
  }
}

/** Us for an exit with so many busy microVMs in a process. */
async function busy(count: number, operations: number): Promise<number> {
  const words = [GUEST, count, 1, operations, "busy"].map(String);
  const { stdout } = await execute(subject("scale-fleet", ...words));
  return (JSON.parse(stdout) as ScaleFleet).exitCpuUs ?? Number.NaN;
}

/** Medians against those of the one alone, and of QEMU where it was measured. */
function measuresOf(runs: ReadonlyMap<string, readonly Cost[]>): Measure[] {
  const alone = runs.get("alone") ?? [];
  return [...runs].flatMap(([name, list]) => {
    if (name.startsWith("qemu")) return [];
    return FIGURES.flatMap(([what, unit, of]) => {
      const values = list.map(of);
      if (!values.every(Number.isFinite)) return [];
      const peers = new Map<string, number[]>();
      if (name !== "alone") peers.set("alone", alone.map(of));
      const theirs = (runs.get(`qemu ${name}`) ?? []).map(of);
      if (theirs.length > 0 && theirs.every(Number.isFinite)) peers.set("qemu microvm", theirs);
      return compare({ name: `scale: ${name}, ${what}`, unit }, values, peers);
    });
  });
}

export async function benchScale({ smoke }: BenchOptions): Promise<Measure[]> {
  const operations = smoke ? 100 : 5000;
  const rounds = smoke ? 1 : 3;
  const many = smoke ? [3] : [10, 50, 100];
  const most = smoke ? [2] : [2, 4, 8];
  const contestants = new Map([["alone", () => ours(1, 1, operations, "memory")]]);
  // Memory takes seconds to settle: looked at where it would show.
  const kind = (last: boolean) => (last ? "memory" : "idle");
  for (const [index, count] of many.entries()) {
    const what = kind(index === many.length - 1);
    contestants.set(`one of ${count}`, () => ours(count, 1, operations, what));
  }
  for (const [index, vcpus] of most.entries()) {
    const what = kind(index === most.length - 1);
    contestants.set(`${vcpus} vCPUs`, () => ours(1, vcpus, operations, what));
  }
  if (hasQemu()) {
    const count = many[many.length - 1];
    const vcpus = most[most.length - 1];
    contestants.set("qemu alone", () => qemus(1, 1, operations));
    contestants.set(`qemu one of ${count}`, () => qemus(count, 1, operations));
    contestants.set(`qemu ${vcpus} vCPUs`, () => qemus(1, vcpus, operations));
  }
  const measures = measuresOf(await alternate(rounds, contestants));
  const counts = smoke ? [1, 2] : [1, 2, 8, 32];
  const exits = smoke ? 200 : 10_000;
  const list = counts.map((count) => [String(count), () => busy(count, exits)] as const);
  const runs = await alternate(rounds, new Map(list));
  for (const [count, values] of runs) {
    const name = `scale: ${count} busy, CPU time of an exit`;
    const alone = new Map(count === "1" ? [] : [["alone", runs.get("1") ?? []]]);
    measures.push(...compare({ name, unit: "us" }, values, alone));
  }
  return measures;
}
