/**
 * The log of `estalo serve`: a line for what an operator wants to know, as JSON or as text.
 *
 *     {"time":"2026-01-31T12:00:00.000Z","level":"info","message":"listening","address":"unix:///run/a.sock"}
 *     12:00:00.000 info  listening address=unix:///run/a.sock
 *
 * A log that nobody reads any more is given up in silence: guests are more than their log.
 */
import type { Writable } from "node:stream";

export type LogLevel = "info" | "warn" | "error";

/** Lines that wait for a slow reader at most, in bytes; more are dropped and counted. */
const WAITING_BYTES_MAX = 1024 * 1024;

/** See the file's header. */
export class ServeLog {
  readonly #output: Writable;
  readonly #form: "json" | "plain";
  #dropped = 0;

  constructor(output: Writable, form: "json" | "plain") {
    this.#output = output;
    this.#form = form;
    output.on("error", () => {});
  }

  write(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.#output.destroyed) return;
    if (this.#output.writableLength > WAITING_BYTES_MAX) {
      this.#dropped += 1;
      return;
    }
    const dropped = this.#dropped === 0 ? {} : { droppedLines: this.#dropped };
    this.#dropped = 0;
    this.#output.write(`${this.#line(level, message, { ...fields, ...dropped })}\n`);
  }

  #line(level: LogLevel, message: string, fields: Readonly<Record<string, unknown>>): string {
    const time = new Date().toISOString();
    if (this.#form === "json") return JSON.stringify({ time, level, message, ...fields });
    const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${shown(value)}`);
    return `${time.slice(11, 23)} ${level.padEnd(5)} ${message}${pairs.join("")}`;
  }
}

/** On one line, whatever it is. */
function shown(value: unknown): string {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "undefined");
  return /^[\x21-\x7e]+$/.test(text) ? text : JSON.stringify(text);
}
