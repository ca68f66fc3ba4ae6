/**
 * Result files: what is in them, how they are read, and how several become one view.
 *
 * A file holds what one run measured, all benches or some. Of every bench the newest run counts, whole: a
 * measure that it no longer has is gone, and peers that were not there are not borrowed from another day.
 * Runs on different machines are never mixed.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Measure } from "./harness.js";

/** The machine of a run. */
export interface Host {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly linux: string;
  readonly node: string;
  /** The module that offers KVM: kvm_intel, kvm_amd, kvm_pvm. */
  readonly kvm: string;
}

/** Whether the machine was left alone, from before the first bench to after the last. */
export interface Conditions {
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly isQuiet: boolean;
  /** Of all processors, while no bench ran. */
  readonly busyPercent: { readonly start: number; readonly end: number };
  /** Of one, five and fifteen minutes; the one at the end is the benches' own. */
  readonly loadAverage: { readonly start: readonly number[]; readonly end: readonly number[] };
}

/** A bench that could not run to its end. */
export interface BenchFailure {
  readonly bench: string;
  readonly message: string;
}

/** What is in a file; those of before 2026-11-28 have host, date and measures only. */
export interface ResultFile {
  readonly host: Host;
  /** 2026-11-22. */
  readonly date: string;
  /** The source's. */
  readonly version?: string;
  readonly conditions?: Conditions;
  /** What took part, by name. */
  readonly peers?: Readonly<Record<string, string>>;
  readonly failures?: readonly BenchFailure[];
  readonly measures: readonly Measure[];
}

/** A result file and its name, without folder. */
export interface Result extends ResultFile {
  readonly file: string;
}

/** A measure in the view of all results, with the run that it is from. */
export interface Row extends Measure {
  readonly result: Result;
}

/** All results of a folder, oldest first. */
export function readResults(folder: string): Result[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".json"))
    .map((file) => ({ file, ...checked(file, readFileSync(join(folder, file), "utf8")) }))
    .sort((a, b) => compareText(ageKey(a), ageKey(b)));
}

const ageKey = ({ conditions, date, file }: Result) => `${conditions?.finishedAt ?? date} ${file}`;
const compareText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

function checked(file: string, text: string): ResultFile {
  const value = JSON.parse(text) as Partial<ResultFile>;
  const isResult =
    typeof value.host?.kvm === "string" &&
    /^\d{4}-\d\d-\d\d$/.test(value.date ?? "") &&
    Array.isArray(value.measures) &&
    value.measures.every(
      ({ name, ours, oursSpread }) =>
        typeof name === "string" && Number.isFinite(ours) && oursSpread?.length === 2,
    );
  if (!isResult) throw new Error(`${file} is not a result file`);
  return value as ResultFile;
}

/** "exit" of "exit: MMIO read, p50". */
export function benchOf(name: string): string {
  return name.split(":")[0];
}

/** What is measured, without its bench. */
export function titleOf(name: string): string {
  return name.slice(benchOf(name).length).replace(/^: /, "") || name;
}

/** One machine: its results, oldest first, and the newest measures of every bench. */
export interface HostView {
  readonly title: string;
  readonly results: readonly Result[];
  readonly rows: readonly Row[];
}

function titleOfHost({ cpu, cores, kvm }: Host): string {
  return `${cpu}, ${cores} cores, ${kvm}`;
}

/** The machines, that of the newest result first. */
export function viewsOf(results: readonly Result[]): HostView[] {
  const titles = [...new Set([...results].reverse().map(({ host }) => titleOfHost(host)))];
  return titles.map((title) => {
    const own = results.filter(({ host }) => titleOfHost(host) === title);
    return { title, results: own, rows: newestRows(own) };
  });
}

function newestRows(results: readonly Result[]): Row[] {
  const rows: Row[] = [];
  const taken = new Set<string>();
  for (const result of [...results].reverse()) {
    const fresh = result.measures.filter(({ name }) => !taken.has(benchOf(name)));
    rows.push(...fresh.map((measure) => ({ ...measure, result })));
    for (const { name } of fresh) taken.add(benchOf(name));
  }
  return rows.sort((a, b) => rankOf(a) - rankOf(b));
}

/** How benches follow each other: what users notice first. Others come after them. */
const ORDER = [
  ...["start", "memory", "scale", "exit", "queue", "disk", "net", "network", "vsock", "limiter"],
  ...["vmm", "jail", "api", "events", "trace"],
];

function rankOf({ name }: Row): number {
  const rank = ORDER.indexOf(benchOf(name));
  return rank < 0 ? ORDER.length : rank;
}

/** Ratios are of costs: 1 or less is not behind. For a budget, the same. */
export function budgetRatio({ unit, ours, budget }: Measure): number | undefined {
  if (budget === undefined) return undefined;
  return unit.endsWith("per second") ? budget / ours : ours / budget;
}
