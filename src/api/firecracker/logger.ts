/**
 * Firecracker's log: lines of time, instance, thread and text, to standard output or to a file or FIFO that
 * never holds anybody up.
 *
 *     2026-01-31T12:00:00.123456789 [anonymous-instance:main:INFO:dist/vmm.js:12] text
 *
 * A place in the program writes at most 10 lines in 5 s of a level that is seen; what is more is counted. What
 * cannot be written is counted too. Firecracker 1.16, docs/logger.md.
 */
import { Fault } from "./faults.js";
import type { FirecrackerLog, LogLevel } from "./log.js";
import type { LoggerJson } from "./schemas.js";
import { FileSink, type LineSink } from "./sink.js";

/** Names that a configuration may give, in lower case, by how much they show. */
const LEVELS: Readonly<Record<string, number>> = {
  off: 0,
  error: 1,
  warn: 2,
  warning: 2,
  info: 3,
  debug: 4,
  trace: 5,
};
const DEFAULT_LEVEL = LEVELS.info;

const BURST = 10;
const BURST_MS = 5000;
/** Debug and trace are asked for, and not held back. */
const THROTTLED = LEVELS.info;

/** The level's number; `undefined`: there is no such level. */
export function levelNumber(name: string): number | undefined {
  const level = name.toLowerCase();
  return Object.hasOwn(LEVELS, level) ? LEVELS[level] : undefined;
}

/** Counters under the names of Firecracker's `logger` metrics. */
export interface LoggerCounters {
  missed_log_count: number;
  rate_limited_log_count: number;
}

interface Budget {
  sinceMs: number;
  lines: number;
}

/** See the file's header. */
export class Logger implements FirecrackerLog {
  readonly counters: LoggerCounters = { missed_log_count: 0, rate_limited_log_count: 0 };
  readonly #id: string;
  readonly #budgets = new Map<string, Budget>();
  #sink: LineSink;
  #level = DEFAULT_LEVEL;
  #showLevel = false;
  #showOrigin = false;
  #module = "";

  constructor(id: string, sink: LineSink) {
    this.#id = id;
    this.#sink = sink;
  }

  /** The file's descriptor, for what cannot wait; -1: it has none of its own. */
  get fd(): number {
    return this.#sink.fd ?? -1;
  }

  /** Changes what is given; raises a Fault for a level that is none, or the system's error for the file. */
  configure(config: LoggerJson): void {
    const level = config.level == null ? undefined : levelNumber(config.level);
    if (config.level != null && level === undefined) {
      throw new Fault(`Logger error: ${config.level} is no log level.`);
    }
    if (config.log_path != null) {
      const sink = new FileSink(config.log_path);
      this.#sink.close();
      this.#sink = sink;
    }
    this.#level = level ?? this.#level;
    this.#showLevel = config.show_level ?? this.#showLevel;
    this.#showOrigin = config.show_log_origin ?? this.#showOrigin;
    this.#module = config.module ?? this.#module;
  }

  write(level: LogLevel, site: string, text: string): void {
    const number = LEVELS[level.toLowerCase()];
    if (number > this.#level || !site.startsWith(this.#module)) return;
    if (number <= THROTTLED && !this.#isWithinBudget(`${level} ${site}`)) {
      this.counters.rate_limited_log_count += 1;
      return;
    }
    this.#writeLine(level, site, text);
  }

  /** Writes a line that is never held back: how the process starts and ends. */
  writeAlways(level: LogLevel, text: string): void {
    if (LEVELS[level.toLowerCase()] <= this.#level) this.#writeLine(level, "main", text);
  }

  close(): void {
    this.#sink.close();
  }

  #writeLine(level: LogLevel, site: string, text: string): void {
    const prefix = [
      this.#id,
      // Firecracker's API is a thread of its own; here it is where a line comes from.
      site.startsWith("api_server") ? "fc_api" : "main",
      ...(this.#showLevel ? [level.toUpperCase()] : []),
      ...(this.#showOrigin ? [origin()] : []),
    ];
    // What a client sent is one line, whatever is in it.
    const line = `${localTime()} [${prefix.join(":")}] ${text.replaceAll("\n", "\\n")}`;
    if (!this.#sink.write(line)) this.counters.missed_log_count += 1;
  }

  #isWithinBudget(site: string): boolean {
    const nowMs = performance.now();
    const budget = this.#budgets.get(site);
    if (budget === undefined || nowMs - budget.sinceMs >= BURST_MS) {
      this.#budgets.set(site, { sinceMs: nowMs, lines: 1 });
      return true;
    }
    budget.lines += 1;
    return budget.lines <= BURST;
  }
}

/** File and line of the call that writes. */
function origin(): string {
  const frames = new Error().stack?.split("\n").slice(1) ?? [];
  const caller = frames.find((frame) => !/Logger\.|origin/.test(frame)) ?? "";
  const [, file, line] = /([^/(\s]+):(\d+):\d+\)?$/.exec(caller) ?? [];
  return file === undefined ? "unknown:0" : `${file}:${line}`;
}

/** Local time with nanoseconds, as far as the clock has them. */
function localTime(): string {
  const nowMs = performance.timeOrigin + performance.now();
  const wholeMs = Math.floor(nowMs);
  const date = new Date(wholeMs);
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const ns = date.getMilliseconds() * 1e6 + Math.floor((nowMs - wholeMs) * 1e6);
  return `${day}T${time}.${String(ns).padStart(9, "0")}`;
}
