/**
 * What an exit costs: MMIO and port accesses that a device front answers, seen from the guest.
 *
 * MMIO from ring 3, where the guest's own code runs at full speed on every host, and from ring 0; ports from
 * ring 0 only. The bare C loop is the limit: the same ELF, the same accesses, the least possible monitor.
 */
import { type GuestReport, runJob } from "./guest-report.js";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import { deviceMonitors, type MonitorName, tscPerUs } from "./monitors.js";

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
  const reports = await alternate(smoke ? 1 : 7, contestants);
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
  return measures;
}
