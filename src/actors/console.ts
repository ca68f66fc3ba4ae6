/**
 * The microVM's console: what the guest wrote to its serial port, for any number of readers, and what it
 * is to read.
 *
 * Output goes to every reader and to a bounded history. Input waits here until the guest takes it. A reader
 * that is slow is the guest's business only if it says so: while `holdOutput` is in force nothing is taken
 * from the serial port, whose transmitter then makes the guest wait, and nothing is lost.
 */
import type { ByteSink } from "../devices/backend.js";
import { toEstaloError } from "../errors.js";
import { KeptBytes } from "./kept-bytes.js";
import {
  type Middleware,
  MiddlewareChain,
  type MiddlewareMetrics,
  type MiddlewareReporter,
} from "./middleware.js";

/** Bytes of output kept for who looks later. */
const HISTORY_BYTES_MAX = 64 * 1024;
/** Output that functions may have at once; a guest may write it byte by byte. */
const FILTERING_BYTES_MAX = 64 * 1024;
const FILTERING_WRITES_MAX = 1024;

/** What the console needs from the serial port's back. */
export interface SerialPort {
  push(bytes: Uint8Array): number;
  drain(): void;
}

/** Bytes on their way from or to the guest. */
export interface SerialBytes {
  readonly direction: "from-guest" | "to-guest";
  /** To change them, change these or put others in their place. */
  bytes: Uint8Array;
}

/** The host's end of the guest's serial port. */
export class Console implements ByteSink {
  readonly #report: MiddlewareReporter;
  readonly #chain: MiddlewareChain<SerialBytes>;
  /** Output and input go through functions in order, each a chunk at a time. */
  #turn = { "from-guest": Promise.resolve(), "to-guest": Promise.resolve() };
  /** Bytes of output that functions have, and writes they came in. */
  #filteringBytes = 0;
  #filteringWrites = 0;

  #readers: readonly { readonly take: (bytes: Uint8Array) => void }[] = [];
  /** The last output and up to as much before it, which goes in one piece. */
  readonly #history = new KeptBytes();
  #port: SerialPort | undefined;
  #held = 0;
  readonly #input: { bytes: Uint8Array; done: () => void }[] = [];
  #pumping = false;
  #closed = false;

  constructor(report: MiddlewareReporter = () => {}) {
    this.#report = report;
    this.#chain = new MiddlewareChain("serial", Number.POSITIVE_INFINITY, report);
  }

  /**
   * Installs a function in the way of the serial port's bytes, both ways, behind those that are there; the
   * returned function takes it out. Bytes whose function does not call `next`, or throws, are lost. While a
   * function waits, those behind wait too, and with 64 KiB or 1024 writes of output the guest.
   */
  use(middleware: Middleware<SerialBytes>): () => void {
    return this.#chain.use(middleware);
  }

  get middlewareMetrics(): MiddlewareMetrics {
    return this.#chain.metrics;
  }

  /** Joins the console to its serial port. */
  connect(port: SerialPort): void {
    this.#port = port;
    this.pump();
  }

  /** ByteSink: takes the guest's output. */
  write(bytes: Uint8Array): boolean {
    // Also behind what functions still have when the last of them is gone.
    if (!this.#chain.isUsed && this.#filteringBytes === 0) return this.#take(bytes);
    this.#filteringBytes += bytes.length;
    this.#filteringWrites++;
    void this.#filter("from-guest", bytes, (changed) => void this.#take(changed)).then(() => {
      this.#filteringBytes -= bytes.length;
      this.#filteringWrites--;
      this.#drain();
    });
    return this.#hasRoom;
  }

  /** Asks for what waits. A reader that throws is nobody's here: it is told, and the others get the rest. */
  #drain(): void {
    try {
      if (this.#hasRoom) this.#port?.drain();
    } catch (error) {
      this.#report("serial", toEstaloError(error));
      setImmediate(() => this.#drain());
    }
  }

  get #hasRoom(): boolean {
    return (
      this.#held === 0 &&
      this.#filteringBytes < FILTERING_BYTES_MAX &&
      this.#filteringWrites < FILTERING_WRITES_MAX
    );
  }

  /** Sends bytes through the functions, after those before them. */
  #filter(
    direction: SerialBytes["direction"],
    bytes: Uint8Array,
    last: (bytes: Uint8Array) => void | Promise<void>,
  ): Promise<void> {
    const item: SerialBytes = { direction, bytes };
    const functions = this.#chain.current;
    const done = this.#turn[direction].then(async () => {
      await this.#chain.send(item, () => last(item.bytes), functions);
    });
    this.#turn[direction] = done;
    return done;
  }

  #take(bytes: Uint8Array): boolean {
    this.#history.append(bytes.subarray(-HISTORY_BYTES_MAX));
    if (this.#history.length >= 2 * HISTORY_BYTES_MAX) {
      this.#history.append(this.#history.take().subarray(-HISTORY_BYTES_MAX));
    }
    // Who joins meanwhile finds these bytes in the history.
    for (const reader of this.#readers) reader.take(bytes);
    return this.#hasRoom;
  }

  /** Calls `reader` with all output from now on, after what the history still holds if `replay`. */
  read(reader: (bytes: Uint8Array) => void, replay = false): () => void {
    const before = replay ? this.history() : undefined;
    if (before !== undefined && before.length > 0) reader(before);
    const entry = { take: reader };
    this.#readers = [...this.#readers, entry];
    return () => {
      this.#readers = this.#readers.filter((other) => other !== entry);
    };
  }

  /** The last output, at most 64 KiB. */
  history(): Uint8Array {
    return Buffer.from(this.#history.joined.subarray(-HISTORY_BYTES_MAX));
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

  /** Whether input waits for the guest, or may: what is sent now need not be taken at once. */
  get hasInput(): boolean {
    return this.#input.length > 0 || this.#chain.isUsed;
  }

  /** Sends a copy of bytes to the guest; fulfilled when it has taken all of them, or will never. */
  send(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0 || this.#closed) return Promise.resolve();
    if (!this.#chain.isUsed) return this.#send(bytes);
    return this.#filter("to-guest", bytes.slice(), (changed) => this.#send(changed));
  }

  #send(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0 || this.#closed) return Promise.resolve();
    return new Promise((done) => {
      this.#input.push({ bytes: bytes.slice(), done });
      if (this.#input.length === 1) this.pump();
    });
  }

  /** Pushes what waits; called when the guest may take more. */
  pump(): void {
    // The port may hear of more room while it is given bytes: the loop below is about to use it.
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      while (this.#pushFirst());
    } finally {
      this.#pumping = false;
    }
  }

  /** The guest is gone: what it did not read is dropped and its senders go on. */
  close(): void {
    this.#closed = true;
    this.#port = undefined;
    for (const { done } of this.#input.splice(0)) done();
  }

  /** Pushes what waits first; false when nothing could be. */
  #pushFirst(): boolean {
    const first = this.#input[0];
    const taken = first === undefined ? 0 : (this.#port?.push(first.bytes) ?? 0);
    if (taken === 0) return false;
    first.bytes = first.bytes.subarray(taken);
    if (first.bytes.length === 0) {
      this.#input.shift();
      first.done();
    }
    return true;
  }
}
