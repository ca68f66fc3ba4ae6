/**
 * Firecracker's metrics: a line of JSON at the start of the machine, every 60 s, when asked to, and at the end.
 * Counters are what was added since the last line that was written. Firecracker 1.16, docs/metrics.md.
 */
import { Fault } from "./faults.js";
import { type Aggregate, GAUGES, type MetricsGroup, type MetricsGroups } from "./metrics-fields.js";
import type { MetricsJson } from "./schemas.js";
import { FileSink, type LineSink } from "./sink.js";

/** Firecracker's WRITE_METRICS_PERIOD_MS. */
const PERIOD_MS = 60_000;

/** Counters under the names of Firecracker's `logger` metrics. */
export interface MetricsCounters {
  missed_metrics_count: number;
  metrics_fails: number;
}

/** See the file's header. */
export class MetricsWriter {
  readonly counters: MetricsCounters = { missed_metrics_count: 0, metrics_fails: 0 };
  readonly #id: string;
  readonly #collect: () => MetricsGroups;
  #config: MetricsJson | undefined;
  #sink: LineSink | undefined;
  #written: MetricsGroups = {};
  #timer: NodeJS.Timeout | undefined;

  /** @param collect - all values, as totals since the process started */
  constructor(id: string, collect: () => MetricsGroups) {
    this.#id = id;
    this.#collect = collect;
  }

  /** Opens the file; raises a Fault the second time, or the system's error. */
  configure(config: MetricsJson): void {
    if (this.#sink !== undefined) throw new Fault("Reinitialization of metrics not allowed.");
    this.#sink = new FileSink(config.metrics_path);
    this.#config = config;
  }

  /** The machine runs: a line now, and one a minute. */
  start(): void {
    this.flush();
    this.#timer = setInterval(() => this.flush(), PERIOD_MS).unref();
  }

  /** Writes a line, if there is where to. */
  flush(): void {
    if (this.#sink === undefined) return;
    const totals = this.#collect();
    const line = JSON.stringify({
      utc_timestamp_ms: Date.now(),
      ...(this.#config?.emit_id ? { id: this.#id } : {}),
      ...(this.#config?.properties == null ? {} : { properties: this.#config.properties }),
      ...deltas(totals, this.#written),
    });
    if (this.#sink.write(line)) this.#written = totals;
    else this.counters.missed_metrics_count += 1;
  }

  /** The last line, and no more. */
  close(): void {
    clearInterval(this.#timer);
    this.flush();
    this.#sink?.close();
    this.#sink = undefined;
  }
}

function deltas(totals: MetricsGroups, before: MetricsGroups): MetricsGroups {
  return Object.fromEntries(
    Object.entries(totals).map(([name, group]) => [
      name,
      GAUGES.has(name) ? group : groupDeltas(group, before[name]),
    ]),
  );
}

function groupDeltas(group: MetricsGroup, before: MetricsGroup | undefined): MetricsGroup {
  const entries = Object.entries(group).map(([field, value]) => {
    const last = before?.[field];
    if (typeof value === "number") return [field, value - ((last as number | undefined) ?? 0)];
    const lastSum = (last as Aggregate | undefined)?.sum_us ?? 0;
    return [field, { ...value, sum_us: value.sum_us - lastSum }];
  });
  return Object.fromEntries(entries);
}
