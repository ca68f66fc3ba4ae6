/**
 * What the command itself says, all of it on standard error: errors, the progress line, the timings line.
 */
import type { Writable } from "node:stream";
import type { MicroVmEvent } from "../actors/messages.js";
import type { Timings } from "../actors/timings.js";
import { type EstaloError, toEstaloError } from "../errors.js";

/** Where messages go. */
export interface MessageStream {
  write(text: string): unknown;
}

/** `estalo: what happened [CODE]`, and what to do about it. */
export function errorText(error: unknown): string {
  const { code, message, hint }: EstaloError = toEstaloError(error);
  const lines = [`estalo: ${harmless(message)} [${code}]`];
  if (hint !== undefined) lines.push(`hint: ${harmless(hint)}`);
  if (code === "ERR_ESTALO_BUG") lines.push("hint: this is a mistake in Estalo, please report it");
  return `${lines.join("\n")}\n`;
}

/** A message may come from a server, and is shown on a terminal: nothing in it is for that to obey. */
function harmless(text: string): string {
  return text.replace(/(?![\n\t])\p{Cc}/gu, "\ufffd");
}

/** Whether what we wrote failed since nobody reads it: not the pipe's, the connection's or the terminal's other end. */
export function isReaderGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "EPIPE" || code === "ECONNRESET" || code === "EIO";
}

/** Waits until a stream has passed on all it was given, or never will; its error is told before. */
export function flush(stream: Writable): Promise<void> {
  if (stream.destroyed) return new Promise((resolve) => setImmediate(resolve));
  return new Promise((resolve) => {
    stream.write("", () => resolve());
  });
}

const PROGRESS_MS = 100;
const ERASE_LINE = "\r\x1b[K";

/** One line that says what is being waited for; there only while nothing else is. */
export class Progress {
  readonly #stream: MessageStream;
  readonly #enabled: boolean;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: MessageStream, enabled: boolean) {
    this.#stream = stream;
    this.#enabled = enabled;
  }

  /** Shows `what` and for how long already. */
  start(what: string): void {
    this.stop();
    if (!this.#enabled) return;
    const startMs = performance.now();
    const show = () => {
      const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
      this.#stream.write(`${ERASE_LINE}${what} … ${seconds} s`);
    };
    show();
    this.#timer = setInterval(show, PROGRESS_MS);
    this.#timer.unref();
  }

  /** Erases the line; idempotent. */
  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#stream.write(ERASE_LINE);
  }
}

/** Keeps the moments of a run that `--timings` shows. */
export class Moments {
  readonly #atMs = new Map<string, number>();

  take(event: MicroVmEvent): void {
    if (!this.#atMs.has(event.type)) this.#atMs.set(event.type, event.atMs);
  }

  /** Milliseconds from one event to another, if both happened. */
  between(from: MicroVmEvent["type"], to: MicroVmEvent["type"]): number | undefined {
    const start = this.#atMs.get(from);
    const end = this.#atMs.get(to);
    return start === undefined || end === undefined ? undefined : end - start;
  }

  /** Since the process started. */
  at(event: MicroVmEvent["type"]): number | undefined {
    return this.#atMs.get(event);
  }
}

/**
 * Where the milliseconds went, as one line: our own share part by part, then the guest's. `jailMs`: from the
 * command's start to this process's, in the jail.
 */
export function timingsText(timings: Timings, moments: Moments, jailMs?: number): string {
  const { processMs, machineMs, kernelMs, vcpusMs, threadsMs, oursMs, guestBootMs } = timings;
  const ours = list([
    ["jail", jailMs],
    ["process", processMs],
    ["machine", machineMs],
    ["kernel", kernelMs],
    ["vcpus", vcpusMs],
    ["threads", threadsMs],
  ]);
  const total =
    oursMs === undefined ? "" : ` = ours ${milliseconds((jailMs ?? 0) + processMs + oursMs)}`;
  const exitedMs = moments.at("exited");
  const rest = list([
    ["guest to init", guestBootMs],
    ["command", moments.between("booted", "command-exited")],
    ["shutdown", moments.between("command-exited", "exited")],
    ["total", exitedMs === undefined ? undefined : (jailMs ?? 0) + exitedMs],
  ]);
  return `estalo: ${[`${ours}${total}`, rest].filter((part) => part !== "").join("; ")}\n`;
}

function list(parts: readonly (readonly [string, number | undefined])[]): string {
  return parts
    .flatMap(([name, ms]) => (ms === undefined ? [] : [`${name} ${milliseconds(ms)}`]))
    .join(", ");
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
