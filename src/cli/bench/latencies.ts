/**
 * Latencies of a load, each kind in a histogram of three significant digits (Node's own, an HDR histogram):
 * its size does not grow with what it counts.
 */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

/** What is measured of a life, in the order of reports. */
export const LATENCY_KINDS = ["started", "ready", "ended", "removed", "late"] as const;

/**
 * `started`: the server's answer that it runs, `ready`: its mark was seen, `ended`: its guest has ended by itself
 * (with --life guest), all from when it was due; `removed`: from asking for its removal to the answer; `late`:
 * from when it was due to when we asked for it, which is this program's own delay.
 */
export type LatencyKind = (typeof LATENCY_KINDS)[number];

/** Milliseconds. */
export interface LatencySummary {
  readonly count: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly mean: number;
}

const US = 1000;
const HIGHEST_US = 24 * 3600 * 1e6;

/** See the file's header. */
export class Latencies {
  readonly #histograms = new Map<LatencyKind, RecordableHistogram>();

  record(kind: LatencyKind, ms: number): void {
    let histogram = this.#histograms.get(kind);
    if (histogram === undefined) {
      histogram = createHistogram({ lowest: 1, highest: HIGHEST_US, figures: 3 });
      this.#histograms.set(kind, histogram);
    }
    histogram.record(Math.min(HIGHEST_US, Math.max(1, Math.round(ms * US))));
  }

  /** `undefined` while there is none. */
  summary(kind: LatencyKind): LatencySummary | undefined {
    const histogram = this.#histograms.get(kind);
    if (histogram === undefined) return undefined;
    const at = (percentile: number) => histogram.percentile(percentile) / US;
    return {
      count: histogram.count,
      p50: at(50),
      p90: at(90),
      p99: at(99),
      p999: at(99.9),
      max: histogram.max / US,
      mean: Math.round(histogram.mean) / US,
    };
  }

  /** Of every kind that has any. */
  summaries(): Partial<Record<LatencyKind, LatencySummary>> {
    const known = LATENCY_KINDS.map((kind) => [kind, this.summary(kind)] as const);
    return Object.fromEntries(known.filter(([, summary]) => summary !== undefined));
  }
}
