/**
 * What an exit costs: MMIO and port accesses that a device front answers, seen from the guest.
 *
 * MMIO from ring 3, where the guest's own code runs at full speed on every host, and from ring 0; ports from
 * ring 0 only. The bare C loop is the limit: the same ELF, the same accesses, the least possible monitor.
 */
import { type GuestReport, runCommand, runJob } from "./guest-report.js";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import { deviceMonitors, GUEST, type MonitorName, subject, tscPerUs } from "./monitors.js";

const JOBS = [
  ["MMIO read", "mmio-read", 3],
  ["MMIO write", "mmio-write", 3],
  ["MMIO read, ring 0", "mmio-read", 0],
  ["MMIO write, ring 0", "mmio-write", 0],
  ["port read", "pio-read", 0],
  ["port write", "pio-write", 0],
] as const;

/** One job on every monitor, in turn. */
async function benchJob(
  [title, bench, ring]: (typeof JOBS)[number],
  monitors: readonly MonitorName[],
  { smoke }: BenchOptions,
): Promise<Measure[]> {
  const job = `bench=${bench} ring=${ring} n=${smoke ? 200 : 10_000}`;
  const contestants = new Map(monitors.map((name) => [name, () => runJob(name, job)] as const));
  return measuresOf(title, await alternate(smoke ? 1 : 7, contestants));
}

/**
 * MMIO accesses to a device of the user's own: with a synchronous back, beside one that waits for nobody and
 * the bare loop.
 */
async function benchOwnDevice(
  title: string,
  bench: "mmio-read" | "mmio-write",
  { smoke }: BenchOptions,
): Promise<Measure[]> {
  const job = `bench=${bench} ring=3 n=${smoke ? 200 : 5000}`;
  const own = (sync: "0" | "1") => () =>
    runCommand("estalo", subject("own-device", GUEST, job, sync), job);
  const contestants = new Map([
    ["estalo", own("1")],
    ["without sync", own("0")],
    ["bare C loop", () => runJob("bare C loop", job)],
  ]);
  return measuresOf(title, await alternate(smoke ? 1 : 7, contestants));
}

/** Order statistics and rate of the first contestant, beside the others. */
function measuresOf(title: string, reports: ReadonlyMap<string, GuestReport[]>): Measure[] {
  const perUs = tscPerUs();
  const values = (of: (report: GuestReport) => number) =>
    new Map([...reports].map(([name, list]) => [name, list.map(of)] as const));
  const measure = (name: string, unit: Measure["unit"], of: (report: GuestReport) => number) => {
    const all = values(of);
    const ours = all.get("estalo") ?? [];
    all.delete("estalo");
    return compare({ name: `exit: ${title}, ${name}`, unit }, ours, all);
  };
  return [
    ...measure("p50", "us", ({ ticks }) => ticks.p50 / perUs),
    ...measure("p99", "us", ({ ticks }) => ticks.p99 / perUs),
    ...measure("rate", "per second", ({ ticks }) => (ticks.n * perUs * 1e6) / ticks.total),
  ];
}

export async function benchExits(options: BenchOptions): Promise<Measure[]> {
  const [ours, ...peers] = deviceMonitors();
  const monitors: MonitorName[] = [ours, "bare C loop", ...peers];
  const measures: Measure[] = [];
  for (const job of JOBS) measures.push(...(await benchJob(job, monitors, options)));
  const sync = "synchronous user device";
  measures.push(...(await benchOwnDevice(`MMIO read, ${sync}`, "mmio-read", options)));
  measures.push(...(await benchOwnDevice(`MMIO write, ${sync}`, "mmio-write", options)));
  return measures;
}
