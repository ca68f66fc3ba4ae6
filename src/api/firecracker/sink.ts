/**
 * Where log and metrics go: a file or FIFO that is never waited for.
 *
 * A line is written whole or not at all. What a FIFO took only the beginning of is kept, and finished before
 * anything else is written; lines that come meanwhile are lost, and counted by whoever wrote them.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";

/** A line that was begun is continued after this, ms. */
const FINISH_AGAIN_MS = 50;

/** What may wait for a reader of standard output. */
const QUEUED_BYTES_MAX = 64 * 1024;

/** Takes whole lines. */
export interface LineSink {
  /** Of its own file. */
  readonly fd?: number;
  /** False: the line is lost. */
  write(line: string): boolean;
  close(): void;
}

/** See the file's header. */
export class FileSink implements LineSink {
  readonly #fd: number;
  /** The end of a line whose beginning is written. */
  #rest: Uint8Array | undefined;
  #timer: NodeJS.Timeout | undefined;

  /**
   * Opens the file, or makes it. Raises the system's error. For reading as well: a FIFO without a reader
   * can be opened then, and one whose reader goes away raises nothing.
   */
  constructor(path: string) {
    const { O_RDWR, O_NONBLOCK, O_CREAT, O_APPEND } = constants;
    this.#fd = openSync(path, O_RDWR | O_NONBLOCK | O_CREAT | O_APPEND);
  }

  get fd(): number {
    return this.#fd;
  }

  write(line: string): boolean {
    return this.writeBytes(Buffer.from(`${line}\n`));
  }

  /** As `write`, for any bytes. */
  writeBytes(bytes: Uint8Array): boolean {
    this.#finish();
    if (this.#rest !== undefined) return false;
    const written = this.#tryWrite(bytes);
    if (written === 0 && bytes.length > 0) return false;
    this.#keep(bytes.subarray(written));
    return true;
  }

  /** Ends in the middle of a line if its reader takes no more. */
  close(): void {
    this.#finish();
    clearTimeout(this.#timer);
    closeSync(this.#fd);
  }

  #finish(): void {
    const rest = this.#rest;
    if (rest === undefined) return;
    this.#rest = undefined;
    this.#keep(rest.subarray(this.#tryWrite(rest)));
  }

  #keep(rest: Uint8Array): void {
    clearTimeout(this.#timer);
    if (rest.length === 0) return;
    this.#rest = rest;
    this.#timer = setTimeout(() => this.#finish(), FINISH_AGAIN_MS).unref();
  }

  /** Bytes written; 0 when the FIFO is full, the disk is, or anything else is wrong. */
  #tryWrite(bytes: Uint8Array): number {
    try {
      return writeSync(this.#fd, bytes);
    } catch {
      return 0;
    }
  }
}

/** Standard output for the log, with what the guest says; not held up by its reader. */
export class StandardOutputSink implements LineSink {
  write(line: string): boolean {
    const { stdout } = process;
    if (stdout.destroyed || stdout.writableLength > QUEUED_BYTES_MAX) return false;
    stdout.write(`${line}\n`);
    return true;
  }

  close(): void {}
}
