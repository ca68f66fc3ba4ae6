/**
 * What a load has to tell: a line that is overwritten while it goes on, and the summary, for people and as JSON.
 */

import { duration } from "../fleet/exit-table.js";
import { type Column, size, tableText } from "../fleet/table.js";
import {
  LATENCY_KINDS,
  type Latencies,
  type LatencyKind,
  type LatencySummary,
} from "./latencies.js";
import type { FailureCount, LoadCounts } from "./load-run.js";
import type { ServerUse, UseSummary } from "./server-meter.js";

/** The end of a load; latencies are milliseconds. */
export interface LoadSummary extends LoadCounts {
  readonly type: "summary";
  readonly load: string;
  readonly seed: string;
  readonly elapsedMs: number;
  readonly concurrency: number;
  readonly latenciesMs: Partial<Record<LatencyKind, LatencySummary>>;
  readonly failures: readonly FailureCount[];
  readonly server: UseSummary | null;
  /** The signal that ended it. */
  readonly interrupted: string | null;
  readonly status: number;
}

const milliseconds = (ms: number) => duration(ms * 1e6);
const percent = (value: number) => `${Math.round(value)} %`;

/** Where a load is, in one line of at most `columns` characters. */
export function progressText(
  elapsedMs: number,
  counts: LoadCounts,
  latencies: Latencies,
  use: ServerUse | undefined,
  columns: number,
): string {
  const { arrived, live, completed, failed, refused } = counts;
  const ready = latencies.summary("ready");
  const parts = [
    `${Math.floor(elapsedMs / 1000)} s`,
    `${arrived} arrived, ${live} live, ${completed} completed, ${failed} failed, ${refused} refused`,
    ...(ready === undefined
      ? []
      : [`ready p50 ${milliseconds(ready.p50)} p99 ${milliseconds(ready.p99)}`]),
    ...(use === undefined
      ? []
      : [`server ${percent(use.cpuPercent)} CPU, ${size(use.residentBytes)}`]),
  ];
  return parts.join(" | ").slice(0, columns);
}

interface LatencyRow extends LatencySummary {
  readonly kind: LatencyKind;
}

const time = (title: string, key: keyof LatencySummary): Column<LatencyRow> => ({
  title,
  cell: (row) => milliseconds(row[key]),
  isNumber: true,
});

const LATENCY_COLUMNS: readonly Column<LatencyRow>[] = [
  { title: "LATENCY", cell: ({ kind }) => kind },
  { title: "COUNT", cell: ({ count }) => String(count), isNumber: true },
  time("P50", "p50"),
  time("P90", "p90"),
  time("P99", "p99"),
  time("P99.9", "p999"),
  time("MAX", "max"),
];

const FAILURE_COLUMNS: readonly Column<FailureCount>[] = [
  { title: "FAILURE", cell: ({ code }) => code },
  { title: "COUNT", cell: ({ count }) => String(count), isNumber: true },
  { title: "THE FIRST", cell: ({ message }) => message },
];

/** The summary for people. */
export function summaryText(summary: LoadSummary): string {
  const { arrived, refused, completed, failed, liveMax, concurrency } = summary;
  const [arriving, elapsed] = [summary.arrivingMs / 1000, summary.elapsedMs / 1000];
  const rate = (arrived / Math.max(arriving, 0.001)).toFixed(1);
  const rows = LATENCY_KINDS.flatMap((kind) => {
    const latency = summary.latenciesMs[kind];
    return latency === undefined ? [] : [{ kind, ...latency }];
  });
  const { server } = summary;
  const late = server?.loopLateMsMax;
  return [
    `${arrived} arrived in ${arriving.toFixed(1)} s (${rate} a second), seed ${summary.seed}; `,
    `all over after ${elapsed.toFixed(1)} s\n`,
    `${completed} completed, ${failed} failed, ${refused} refused; `,
    `at most ${liveMax} at once, ${concurrency} allowed\n`,
    ...(summary.interrupted === null ? [] : [`ended early by ${summary.interrupted}\n`]),
    ...(rows.length === 0 ? [] : ["\n", tableText(LATENCY_COLUMNS, rows)]),
    ...(failed === 0 ? [] : ["\n", tableText(FAILURE_COLUMNS, summary.failures)]),
    ...(server === null
      ? []
      : [
          `\nserver: ${percent(server.cpuPercentMean)} CPU on average, ${percent(server.cpuPercentMax)} at most; `,
          `${size(server.residentBytesMax)} resident, ${server.microvmsMax} microVMs at most`,
          ...(late === undefined ? [] : [`; event loop late by ${milliseconds(late)} at p99`]),
          "\n",
        ]),
  ].join("");
}
