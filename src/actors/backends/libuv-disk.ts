/**
 * A disk through Node's own thread pool, for hosts where io_uring is missing or forbidden.
 *
 * The same contract as UringDisk at one pool job per request, and without DISCARD and WRITE_ZEROES, for
 * which Node has no call.
 */
import { closeSync, fdatasync, readv, writev } from "node:fs";
import { constants as os } from "node:os";
import {
  DISK_FLUSH,
  DISK_READ,
  type DiskBackend,
  type DiskOperation,
} from "../../devices/backend.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import { MIB } from "../../units.js";
import type { DiskFile } from "./disk-file.js";

/** More would only wait in the pool, which has four threads. */
const DEPTH = 32;
/** A request of more than this is long. */
const LONG_BYTES = 4 * MIB;

/** See the file's header. Thread: the device host's. */
export class LibuvDisk implements DiskBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly supportsDiscard = false;
  readonly serial: Uint8Array;
  readonly depth = DEPTH;
  onComplete: ((tag: number, result: number) => void) | undefined;
  onBatchEnd: (() => void) | undefined;

  readonly #file: DiskFile;
  readonly #memory: GuestMemory;
  #isAbandoned = false;

  /** Takes over `file`, and closes it. */
  constructor(file: DiskFile, memory: GuestMemory) {
    this.#file = file;
    this.#memory = memory;
    this.sizeBytes = file.sizeBytes;
    this.readOnly = file.readOnly;
    this.serial = file.serial;
  }

  enqueue(
    tag: number,
    operation: DiskOperation,
    offsetBytes: number,
    _lengthBytes: number,
    addresses: Float64Array,
    lengths: Uint32Array,
    first: number,
    count: number,
  ): void {
    if (operation === DISK_FLUSH) {
      fdatasync(this.#file.fd, (error) => this.#finish(tag, error));
      return;
    }
    const views: Uint8Array[] = [];
    for (let i = first; i < first + count; i++) {
      views.push(...this.#memory.slices(addresses[i], lengths[i]));
    }
    this.#transfer(tag, operation === DISK_READ ? readv : writev, offsetBytes, views);
  }

  /** Every request went to the pool already. */
  submit(): void {}

  /** Nobody waits for the results any more: a long request ends with the part that is under way. */
  abandon(): void {
    this.#isAbandoned = true;
  }

  /** Closes the file. Nothing may be in flight. */
  close(): void {
    closeSync(this.#file.fd);
  }

  #transfer(
    tag: number,
    call: typeof readv | typeof writev,
    offsetBytes: number,
    views: Uint8Array[],
  ): void {
    call(this.#file.fd, views, offsetBytes, (error, done) => {
      if (error !== null) return this.#finish(tag, error);
      const rest = withoutFirst(views, done);
      if (rest.length === 0) return this.#finish(tag, null);
      // Nothing transferred and more wanted: the file ends here.
      if (done === 0) return this.#answer(tag, -os.errno.EIO);
      if (this.#isAbandoned && bytesOf(rest) > LONG_BYTES)
        return this.#answer(tag, -os.errno.ECANCELED);
      this.#transfer(tag, call, offsetBytes + done, rest);
    });
  }

  #finish(tag: number, error: NodeJS.ErrnoException | null): void {
    this.#answer(tag, error === null ? 0 : (error.errno ?? -os.errno.EIO));
  }

  #answer(tag: number, result: number): void {
    this.onComplete?.(tag, result);
    this.onBatchEnd?.();
  }
}

function bytesOf(views: readonly Uint8Array[]): number {
  return views.reduce((sum, { length }) => sum + length, 0);
}

/** What is left of `views` after `done` bytes. */
function withoutFirst(views: readonly Uint8Array[], done: number): Uint8Array[] {
  let skip = done;
  const rest: Uint8Array[] = [];
  for (const view of views) {
    if (skip >= view.length) skip -= view.length;
    else {
      rest.push(skip === 0 ? view : view.subarray(skip));
      skip = 0;
    }
  }
  return rest;
}
