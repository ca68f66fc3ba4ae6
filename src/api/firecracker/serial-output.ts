/**
 * The guest's serial output in `estalo vmm`: to standard output, or to a file or FIFO. Nobody is waited for: what
 * a reader does not take in time is lost, and counted.
 */
import type { Writable } from "node:stream";
import { FileSink } from "./sink.js";

/** What may wait for a reader of standard output. */
const QUEUED_BYTES_MAX = 64 * 1024;

/** Takes output. */
export interface SerialOutput {
  write(bytes: Uint8Array): void;
  /** Bytes that nobody took. */
  readonly lostBytes: number;
  close(): void;
}

/** To a stream that keeps what it cannot pass on at once. */
export class StreamOutput implements SerialOutput {
  readonly #stream: Writable;
  lostBytes = 0;

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  write(bytes: Uint8Array): void {
    const isFull = this.#stream.writableLength + bytes.length > QUEUED_BYTES_MAX;
    if (isFull || this.#stream.destroyed) this.lostBytes += bytes.length;
    else this.#stream.write(bytes);
  }

  close(): void {}
}

/** To a file or FIFO; raises the system's error when it cannot be opened. */
export class FileOutput implements SerialOutput {
  readonly #sink: FileSink;
  lostBytes = 0;

  constructor(path: string) {
    this.#sink = new FileSink(path);
  }

  write(bytes: Uint8Array): void {
    if (!this.#sink.writeBytes(bytes)) this.lostBytes += bytes.length;
  }

  close(): void {
    this.#sink.close();
  }
}
