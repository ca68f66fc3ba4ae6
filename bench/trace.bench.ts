/**
 * Exits streamed: what readers of the trace ring cost the guest, and what they lose.
 */
import type { GuestReport } from "./guest-report.js";
import { alternate, type BenchOptions, type Measure, measureAlone } from "./harness.js";
import { GUEST, subject, tscPerUs } from "./monitors.js";
import { execute } from "./process.js";
import type { WatchedExits } from "./subjects/watched-exits.js";

const WATCHERS = [0, 1, 10];

export async function benchTrace({ smoke }: BenchOptions): Promise<Measure[]> {
  const run = async (watchers: number) => {
    const command = subject("watched-exits", GUEST, smoke ? "200" : "10000", String(watchers));
    return JSON.parse((await execute(command)).stdout) as WatchedExits;
  };
  const runs = await alternate(
    smoke ? 1 : 7,
    new Map(WATCHERS.map((watchers) => [String(watchers), () => run(watchers)] as const)),
  );
  const perUs = tscPerUs();
  return WATCHERS.flatMap((watchers) => {
    const results = runs.get(String(watchers)) ?? [];
    const rates = results.map(({ report }) => {
      const { ticks } = JSON.parse(report) as GuestReport;
      return (ticks.n * perUs * 1e6) / ticks.total;
    });
    const lost = results.map(({ seen, lost }) => (100 * lost) / Math.max(1, seen + lost));
    const title = `trace: ${watchers} watchers`;
    const rate = measureAlone({ name: `${title}, exits`, unit: "per second" }, rates);
    if (watchers === 0) return [rate];
    return [
      rate,
      measureAlone({ name: `${title}, records lost`, unit: "percent", budget: 5 }, lost),
    ];
  });
}
