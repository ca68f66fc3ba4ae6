/**
 * The microVM's console: what the guest wrote to its serial port, for any number of readers, and what it
 * is to read.
 *
 * Output goes to every reader and to a bounded history. Input waits here until the guest takes it. A reader
 * that is slow is the guest's business only if it says so: while `holdOutput` is in force nothing is taken
 * from the serial port, whose transmitter then makes the guest wait, and nothing is lost.
 */
import type { ByteSink } from "../devices/backend.js";

/** Bytes of output kept for who looks later. */
const HISTORY_BYTES_MAX = 64 * 1024;

/** What the console needs from the serial port's back. */
export interface SerialPort {
  push(bytes: Uint8Array): number;
  drain(): void;
}

/** The host's end of the guest's serial port. */
export class Console implements ByteSink {
  readonly #readers = new Set<(bytes: Uint8Array) => void>();
  readonly #history: Uint8Array[] = [];
  #historyBytes = 0;
  #port: SerialPort | undefined;
  #held = 0;
  readonly #input: { bytes: Uint8Array; done: () => void }[] = [];

  /** Joins the console to its serial port. */
  connect(port: SerialPort): void {
    this.#port = port;
  }

  /** ByteSink: takes the guest's output. */
  write(bytes: Uint8Array): boolean {
    this.#history.push(bytes);
    this.#historyBytes += bytes.length;
    while (this.#historyBytes > HISTORY_BYTES_MAX && this.#history.length > 1) {
      this.#historyBytes -= this.#history.shift()?.length ?? 0;
    }
    for (const reader of this.#readers) reader(bytes);
    return this.#held === 0;
  }

  /** Calls `reader` with all output from now on, after what the history still holds if `replay`. */
  read(reader: (bytes: Uint8Array) => void, replay = false): () => void {
    if (replay) for (const bytes of [...this.#history]) reader(bytes);
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  /** The last output, at most 64 KiB. */
  history(): Uint8Array {
    return Buffer.concat(this.#history);
  }

  /** Stops taking output until the returned function is called: backpressure for a full pipe. */
  holdOutput(): () => void {
    this.#held += 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#held -= 1;
      if (this.#held === 0) this.#port?.drain();
    };
  }

  /** Sends bytes to the guest; fulfilled when it has taken all of them, or will never. */
  send(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return Promise.resolve();
    return new Promise((done) => {
      this.#input.push({ bytes, done });
      if (this.#input.length === 1) this.pump();
    });
  }

  /** Pushes what waits; called when the guest may take more. */
  pump(): void {
    while (this.#input.length > 0) {
      const { bytes, done } = this.#input[0];
      const taken = this.#port?.push(bytes) ?? 0;
      if (taken < bytes.length) {
        this.#input[0] = { bytes: bytes.subarray(taken), done };
        return;
      }
      this.#input.shift();
      done();
    }
  }

  /** The guest is gone: what it did not read is dropped and its senders go on. */
  close(): void {
    this.#port = undefined;
    for (const { done } of this.#input.splice(0)) done();
  }
}
