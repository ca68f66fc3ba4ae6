/**
 * Writes a console's output to Node streams, and makes the guest wait while one of them is full.
 *
 * A stream that is full holds the serial port (`Console.holdOutput`) until it drains, closes or fails; a
 * stream that has closed or failed takes nothing more and holds nothing.
 */
import type { Writable } from "node:stream";
import type { Console } from "./console.js";

const RELEASING_EVENTS = ["drain", "close", "error"] as const;

/** The way from one console to any number of streams. */
export class ConsoleOutput {
  readonly #console: Pick<Console, "holdOutput">;
  /** Streams that are full, and what lets the serial port go on for each. */
  readonly #holds = new Map<Writable, () => void>();
  #released = false;

  constructor(console: Pick<Console, "holdOutput">) {
    this.#console = console;
  }

  /** Hands the bytes over at once; the stream keeps what it cannot pass on. */
  write(stream: Writable, bytes: Uint8Array): void {
    if (stream.destroyed || stream.writableEnded) return;
    if (stream.write(bytes) || this.#released || this.#holds.has(stream)) return;
    const letGo = this.#console.holdOutput();
    const release = () => {
      if (!this.#holds.delete(stream)) return;
      for (const event of RELEASING_EVENTS) stream.off(event, release);
      letGo();
    };
    this.#holds.set(stream, release);
    for (const event of RELEASING_EVENTS) stream.on(event, release);
  }

  /** From now on nothing is held: a guest that is ending has little left to say, and all of it is taken. */
  release(): void {
    this.#released = true;
    for (const release of [...this.#holds.values()]) release();
  }
}
