/**
 * From a queue notification to the used ring and to the interrupt: ioeventfd, device host, irqfd.
 *
 * The entropy device, 64 bytes for each request, one doorbell for 1 or 32 requests. QEMU has its emulation
 * in C on its main loop, as we have ours in JavaScript on Node's.
 */
import { type GuestReport, runJob } from "./guest-report.js";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import { deviceMonitors, tscPerUs } from "./monitors.js";

const DEPTHS = [1, 32];

export async function benchQueues({ smoke }: BenchOptions): Promise<Measure[]> {
  const monitors = deviceMonitors();
  const perUs = tscPerUs();
  const measures: Measure[] = [];
  for (const depth of DEPTHS) {
    const job = `bench=queue depth=${depth} n=${smoke ? 50 : 10_000}`;
    const reports = await alternate(
      smoke ? 1 : 7,
      new Map(monitors.map((name) => [name, () => runJob(name, job)] as const)),
    );
    const measure = (name: string, of: (report: GuestReport) => number) => {
      const ours = reports.get("estalo") ?? [];
      const peers = new Map(
        [...reports]
          .filter(([monitor]) => monitor !== "estalo")
          .map(([monitor, list]) => [monitor, list.map((report) => of(report) / perUs)] as const),
      );
      const title = `queue: depth ${depth}, doorbell to ${name}`;
      measures.push(
        ...compare(
          { name: title, unit: "us" },
          ours.map((report) => of(report) / perUs),
          peers,
        ),
      );
    };
    measure("used ring, p50", ({ ticks }) => ticks.p50);
    measure("used ring, p99", ({ ticks }) => ticks.p99);
    measure("interrupt, p50", ({ interrupt }) => interrupt?.p50 ?? Number.NaN);
    measure("interrupt, p99", ({ interrupt }) => interrupt?.p99 ?? Number.NaN);
  }
  return measures;
}
