/**
 * Exits streamed: what a trace record costs, what watchers cost the guest, and what they lose.
 *
 * The record beside the same loop without one, in C. Then a guest that does nothing but exit, from ring 0, where
 * exits are the fastest that this host can have: nobody watching is the peer of every other phase of its run.
 */
import { execFileSync } from "node:child_process";
import { type BenchOptions, compare, type Measure, measureAlone } from "./harness.js";
import { GUEST, peerProgram, subject } from "./monitors.js";
import { execute } from "./process.js";
import type { StreamPhase } from "./subjects/streamed-exits.js";

/** Twice what a full run takes, ms. */
const TIMEOUT_MS = 600_000;

export async function benchTrace({ smoke }: BenchOptions): Promise<Measure[]> {
  const inProcess = smoke ? ["1", "150"] : ["7", "2000"];
  const overSocket = smoke ? ["1", "300", "1000"] : ["5", "2000", "60000"];
  return [
    ...recordMeasures(smoke ? "1" : "15"),
    ...phaseMeasures("trace", await phases("streamed-exits", inProcess)),
    ...phaseMeasures("trace over a WebSocket", await phases("socket-exits", overSocket)),
  ];
}

interface RecordRound {
  readonly untracedNs: number;
  readonly tracedNs: number;
  readonly watchedNs: number;
}

/** Of the run loop alone, around a KVM_RUN that returns at once. */
function recordMeasures(rounds: string): Measure[] {
  const output = execFileSync(peerProgram("trace-cost"), [rounds], { encoding: "utf8" });
  const all = output
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as RecordRound);
  const untraced = all.map(({ untracedNs }) => untracedNs);
  const above = (of: (round: RecordRound) => number) => all.map((r) => of(r) - r.untracedNs);
  const unit = "ns";
  return [
    measureAlone({ name: "trace: the loop without records, an exit", unit }, untraced),
    measureAlone(
      { name: "trace: a record, nobody watches", unit, budget: 20 },
      above(({ tracedNs }) => tracedNs),
    ),
    measureAlone(
      { name: "trace: a record with times and RIP", unit },
      above(({ watchedNs }) => watchedNs),
    ),
  ];
}

async function phases(name: string, options: readonly string[]): Promise<StreamPhase[]> {
  const { stdout } = await execute(subject(name, GUEST, ...options), { timeoutMs: TIMEOUT_MS });
  return JSON.parse(stdout) as StreamPhase[];
}

/** The rates of all phases beside that of the first, where nobody watches. */
function phaseMeasures(title: string, all: readonly StreamPhase[]): Measure[] {
  const names = [...new Set(all.map(({ name }) => name))];
  const of = (name: string, value: (phase: StreamPhase) => number) =>
    all.filter((phase) => phase.name === name).map(value);
  const [unwatched] = names;
  const unit = "per second";
  const beside = (name: string, what: string, value: (phase: StreamPhase) => number) => {
    const peers = new Map(name === unwatched ? [] : [[unwatched, of(unwatched, value)]]);
    return compare({ name: `${title}: ${name}, ${what}`, unit }, of(name, value), peers);
  };
  return names.flatMap((name) => {
    const rates = [
      ...beside(name, "exits", ({ exitsPerSecond }) => exitsPerSecond),
      ...beside(name, "exits of vCPU time", ({ exitsPerCpuSecond }) => exitsPerCpuSecond),
    ];
    if (name.startsWith("no")) return rates;
    const lost = of(name, ({ lostPercent }) => lostPercent);
    const kind = { name: `${title}: ${name}, lost`, unit: "percent", budget: 5 } as const;
    return [...rates, measureAlone(kind, lost)];
  });
}
