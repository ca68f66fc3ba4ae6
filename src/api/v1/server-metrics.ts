/**
 * What /metrics tells of the server and its process: totals over all its listeners, memory, CPU time, and how
 * late the event loop is.
 */
import { readdirSync } from "node:fs";
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";
import type { ServerCounters } from "../server-options.js";
import type { AuthCounts } from "./auth.js";
import type { ProcessMetrics, Total } from "./prometheus.js";

/** Looked at so often while somebody scrapes, ms: it is a timer, which an idle process should not have. */
const DELAY_RESOLUTION_MS = 50;
const QUANTILES = [0.5, 0.9, 0.99, 1];

/** One listener's counters. */
export interface ListenerCounts {
  readonly server: ServerCounters;
  readonly auth: AuthCounts;
}

type CounterName = Exclude<keyof ServerCounters, "openConnections" | "openSockets">;

const HELP: Readonly<Record<CounterName, readonly [string, string]>> = {
  requests: ["api_requests", "HTTP requests, upgrades included."],
  connections: ["api_connections", "Connections that were accepted."],
  refusedConnections: ["api_refused_connections", "Connections over the limit."],
  receivedBytes: ["api_received_bytes", "Bytes of requests' bodies."],
  sentBytes: ["api_sent_bytes", "Bytes of replies' bodies."],
  droppedReplies: ["api_dropped_replies", "Requests whose client had gone before the reply."],
  failures: ["api_failures", "Requests answered with status 500."],
  sockets: ["api_websockets", "WebSockets that were opened."],
  slowSockets: ["api_slow_websockets", "WebSockets closed because their client was too slow."],
};

/** Totals of all listeners by their names in /metrics. */
export function totalsOf(listeners: readonly ListenerCounts[]): Map<string, Total> {
  const totals = new Map<string, Total>();
  for (const [counter, [name, help]] of Object.entries(HELP)) {
    const value = listeners.reduce((sum, { server }) => sum + server[counter as CounterName], 0);
    totals.set(name, { help, value });
  }
  const by = (reason: keyof AuthCounts) =>
    listeners.reduce((sum, { auth }) => sum + auth[reason], 0);
  totals.set("api_auth_failures", {
    help: "Requests refused by their token, Host or Origin.",
    value: {
      label: "reason",
      by: new Map([
        ["missing-token", by("missingToken")],
        ["wrong-token", by("wrongToken")],
        ["host", by("host")],
        ["origin", by("origin")],
      ]),
    },
  });
  return totals;
}

/** Measures the process; the event loop from the first call on. */
export class ProcessProbe {
  #delay: IntervalHistogram | undefined;

  /** Lateness of the event loop since the last call, seconds by quantile; empty at the first. */
  loopDelaySeconds(): Map<number, number> {
    if (this.#delay === undefined) {
      this.#delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
      this.#delay.enable();
      return new Map();
    }
    const delay = this.#delay;
    const found = new Map(
      QUANTILES.map((quantile) => [quantile, nanosecondsLate(delay, quantile) / 1e9]),
    );
    delay.reset();
    return found;
  }

  get process(): ProcessMetrics {
    const { rss, heapUsed } = process.memoryUsage();
    const { user, system } = process.cpuUsage();
    return {
      residentBytes: rss,
      heapUsedBytes: heapUsed,
      userCpuSeconds: user / 1e6,
      systemCpuSeconds: system / 1e6,
      openDescriptors: readdirSync("/proc/self/fd").length,
    };
  }

  close(): void {
    this.#delay?.disable();
  }
}

/** The histogram holds whole intervals; what is beyond the one that was asked for is the delay. */
function nanosecondsLate(delay: IntervalHistogram, quantile: number): number {
  if (delay.count === 0) return 0;
  const interval = quantile === 1 ? delay.max : delay.percentile(quantile * 100);
  return Math.max(0, interval - DELAY_RESOLUTION_MS * 1e6);
}
