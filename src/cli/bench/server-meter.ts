/**
 * What the server uses, by its own counters (/metrics), from one look to the next.
 */
import type { EstaloClient } from "../../api/client/client.js";

/** Since the look before. */
export interface ServerUse {
  /** 100: one core; the server and all guests in it. */
  readonly cpuPercent: number;
  readonly residentBytes: number;
  /** That exist: whoever made them. */
  readonly microvms: number;
  /** How late its event loop was, at p99. */
  readonly loopLateMs: number | undefined;
}

/** Of the whole load. */
export interface UseSummary {
  readonly cpuPercentMean: number;
  readonly cpuPercentMax: number;
  readonly residentBytesMax: number;
  readonly microvmsMax: number;
  readonly loopLateMsMax: number | undefined;
}

const LIVE_STATES = ["starting", "running", "paused", "stopping"];

/** Samples of Prometheus' text format by name and labels: `name{label="value"}`. */
export function samplesOf(text: string): ReadonlyMap<string, number> {
  const samples = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [, name, value] = /^([a-zA-Z_:][\w:]*(?:\{.*\})?) (\S+)/.exec(line) ?? [];
    if (name !== undefined && Number.isFinite(Number(value))) samples.set(name, Number(value));
  }
  return samples;
}

interface Look {
  readonly atMs: number;
  readonly cpuSeconds: number;
  readonly residentBytes: number;
  readonly microvms: number;
  readonly loopLateMs: number | undefined;
}

/** See the file's header. A server that cannot be asked leaves a gap. */
export class ServerMeter {
  readonly #client: EstaloClient;
  readonly #nowMs: () => number;
  #first: Look | undefined;
  #last: Look | undefined;
  readonly #uses: { cpu: number; resident: number; microvms: number; late: number } = {
    cpu: 0,
    resident: 0,
    microvms: 0,
    late: Number.NaN,
  };
  /** The fleet's newest event at the first look. */
  newestEvent: number | undefined;

  constructor(client: EstaloClient, nowMs: () => number = () => performance.now()) {
    this.#client = client;
    this.#nowMs = nowMs;
  }

  /** Looks at the counters; what was used since the look before, if there was one. */
  async look(signal?: AbortSignal): Promise<ServerUse | undefined> {
    const samples = samplesOf(await this.#client.prometheus({ signal }));
    const sum = (names: readonly string[]) =>
      names.reduce((total, name) => total + (samples.get(name) ?? 0), 0);
    const late = samples.get('nodejs_eventloop_lag_seconds{quantile="0.99"}');
    const now: Look = {
      atMs: this.#nowMs(),
      cpuSeconds: sum(
        ["user", "system"].map((mode) => `estalo_process_cpu_seconds_total{mode="${mode}"}`),
      ),
      residentBytes: sum(["process_resident_memory_bytes"]),
      microvms: sum(LIVE_STATES.map((state) => `estalo_microvms{state="${state}"}`)),
      loopLateMs: late === undefined ? undefined : Math.round(late * 1e6) / 1000,
    };
    this.newestEvent ??= samples.get("estalo_events_total");
    const before = this.#last;
    this.#first ??= now;
    this.#last = now;
    if (before === undefined) return undefined;
    const use: ServerUse = { ...now, cpuPercent: cpuPercent(before, now) };
    this.#keep(use);
    const { cpuPercent: percent, residentBytes, microvms, loopLateMs } = use;
    return { cpuPercent: percent, residentBytes, microvms, loopLateMs };
  }

  /** `undefined` when there were no two looks. */
  summary(): UseSummary | undefined {
    const [first, last] = [this.#first, this.#last];
    if (first === undefined || last === undefined || first === last) return undefined;
    const { cpu, resident, microvms, late } = this.#uses;
    return {
      cpuPercentMean: cpuPercent(first, last),
      cpuPercentMax: cpu,
      residentBytesMax: resident,
      microvmsMax: microvms,
      loopLateMsMax: Number.isNaN(late) ? undefined : late,
    };
  }

  #keep({ cpuPercent: percent, residentBytes, microvms, loopLateMs }: ServerUse): void {
    const uses = this.#uses;
    uses.cpu = Math.max(uses.cpu, percent);
    uses.resident = Math.max(uses.resident, residentBytes);
    uses.microvms = Math.max(uses.microvms, microvms);
    if (loopLateMs !== undefined) uses.late = Math.max(uses.late || 0, loopLateMs);
  }
}

/** A counter that began anew with another server counts from 0. */
function cpuPercent(before: Look, now: Look): number {
  const usedSeconds = now.cpuSeconds - before.cpuSeconds;
  const seconds = Math.max(0.001, (now.atMs - before.atMs) / 1000);
  const percent = (100 * (usedSeconds >= 0 ? usedSeconds : now.cpuSeconds)) / seconds;
  return Math.round(10 * percent) / 10;
}
