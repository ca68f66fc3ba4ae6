/**
 * A disk through io_uring: whole batches in one system call, data straight between page cache and guest.
 *
 * Requests are written as numbers into one command stream (io_uring.h gives its layout) and handed over
 * together. What the page cache answers at once completes within `submit`; other completions wake the device host
 * by an eventfd. Short transfers are continued natively.
 */
import { closeSync } from "node:fs";
import { constants as os } from "node:os";
import {
  DISK_DISCARD,
  DISK_FLUSH,
  DISK_READ,
  DISK_WRITE,
  type DiskBackend,
  type DiskOperation,
} from "../../devices/backend.js";
import {
  type NativeEventFd,
  type NativeGuestMapping,
  type NativeIoUring,
  native,
} from "../../native/binding.js";
import type { DeviceHost, Watch } from "../device-host.js";
import type { DiskFile } from "./disk-file.js";

/** Requests in flight, and entries of the ring. */
const DEPTH = 128;
/** Words of the command stream; one request takes 7 and two for each segment. */
const COMMAND_WORDS = 4096;
/** When the kernel had no memory for a request, it is offered again after this, ms. */
const OFFER_AGAIN_MS = 1;

// enum estalo_uring_operation.
const URING_READ = 0;
const URING_WRITE = 1;
const URING_FSYNC = 2;
const URING_FALLOCATE = 3;

// linux/falloc.h
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;
const PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
const ZERO_RANGE = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

/** See the file's header. Thread: the device host's. */
export class UringDisk implements DiskBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly supportsDiscard: boolean;
  readonly serial: Uint8Array;
  readonly depth = DEPTH;
  onComplete: ((tag: number, result: number) => void) | undefined;
  onBatchEnd: (() => void) | undefined;
  /** io_uring_enter calls made, and requests handed over in them. */
  submitCount = 0;
  requestCount = 0;

  readonly #file: DiskFile;
  readonly #ring: NativeIoUring;
  readonly #event: NativeEventFd;
  readonly #watch: Watch;
  readonly #onError: (error: unknown) => void;
  readonly #commands = new Float64Array(COMMAND_WORDS);
  readonly #completions = new Int32Array(2 * DEPTH);
  #used = 0;
  #isReaping = false;
  #offerAgain: NodeJS.Timeout | undefined;
  /** Write-zeroes requests in flight that fall back to a hole: offset and length by tag. */
  readonly #zeroing = new Map<number, { offsetBytes: number; lengthBytes: number }>();

  /** Takes over `file`, and closes it; raises a system error where io_uring is missing or forbidden. */
  constructor(
    file: DiskFile,
    mapping: NativeGuestMapping,
    host: DeviceHost,
    onError: (error: unknown) => void,
  ) {
    this.#file = file;
    this.#onError = onError;
    this.sizeBytes = file.sizeBytes;
    this.readOnly = file.readOnly;
    this.supportsDiscard = !file.readOnly;
    this.serial = file.serial;
    const { EventFd, IoUring } = native();
    this.#event = new EventFd();
    const eventFd = this.#event.fd;
    let ring: NativeIoUring | undefined;
    try {
      ring = new IoUring(mapping, DEPTH, eventFd, this.#commands, this.#completions);
      this.#watch = host.watch(eventFd, () => this.#reap(), onError);
    } catch (error) {
      ring?.close();
      this.#event.close();
      throw error;
    }
    this.#ring = ring;
  }

  enqueue(
    tag: number,
    operation: DiskOperation,
    offsetBytes: number,
    lengthBytes: number,
    addresses: Float64Array,
    lengths: Uint32Array,
    first: number,
    count: number,
    unmap: boolean,
  ): void {
    if (operation === DISK_READ || operation === DISK_WRITE) {
      const kind = operation === DISK_READ ? URING_READ : URING_WRITE;
      let at = this.#command(kind, tag, offsetBytes, lengthBytes, 0, count);
      for (let i = first; i < first + count; i++) {
        this.#commands[at++] = addresses[i];
        this.#commands[at++] = lengths[i];
      }
    } else if (operation === DISK_FLUSH) {
      this.#command(URING_FSYNC, tag, 0, 0, 0, 0);
    } else {
      const hole = operation === DISK_DISCARD || unmap;
      if (!hole) this.#zeroing.set(tag, { offsetBytes, lengthBytes });
      const mode = hole ? PUNCH_HOLE : ZERO_RANGE;
      this.#command(URING_FALLOCATE, tag, offsetBytes, lengthBytes, mode, 0);
    }
  }

  submit(): void {
    if (this.#used === 0) return;
    this.#submit();
    this.#reap();
  }

  /** Nobody waits for the results any more: a long request ends with the part that is under way. */
  abandon(): void {
    this.#ring.abandon();
  }

  /** Closes ring and file. Nothing may be in flight. */
  close(): void {
    clearTimeout(this.#offerAgain);
    this.#watch.close();
    this.#ring.close();
    this.#event.close();
    closeSync(this.#file.fd);
  }

  #submit(): void {
    const words = this.#used;
    this.#used = 0;
    this.submitCount += 1;
    const waiting = this.#ring.submit(words);
    if (waiting > 0) this.#offerAgain ??= setTimeout(() => this.#submitAgain(), OFFER_AGAIN_MS);
  }

  #submitAgain(): void {
    this.#offerAgain = undefined;
    try {
      this.#submit();
      this.#reap();
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Starts a command and returns where its segments go. */
  #command(
    kind: number,
    tag: number,
    offsetBytes: number,
    lengthBytes: number,
    mode: number,
    segments: number,
  ): number {
    const words = 7 + 2 * segments;
    if (this.#used + words > COMMAND_WORDS) this.submit();
    const commands = this.#commands;
    const at = this.#used;
    commands[at] = kind;
    commands[at + 1] = tag;
    commands[at + 2] = this.#file.fd;
    commands[at + 3] = offsetBytes;
    commands[at + 4] = lengthBytes;
    commands[at + 5] = mode;
    commands[at + 6] = segments;
    this.#used = at + words;
    this.requestCount += 1;
    return at + 7;
  }

  /** Tells of everything that is done, also of what is submitted meanwhile and done at once. */
  #reap(): void {
    if (this.#isReaping) return;
    this.#isReaping = true;
    try {
      for (;;) {
        const count = this.#ring.reap();
        for (let i = 0; i < count; i++) {
          this.#complete(this.#completions[2 * i], this.#completions[2 * i + 1]);
        }
        if (this.#used > 0) this.#submit();
        else if (count === 0) break;
      }
    } finally {
      this.#isReaping = false;
    }
    this.onBatchEnd?.();
  }

  #complete(tag: number, result: number): void {
    const zeroing = this.#zeroing.get(tag);
    if (zeroing !== undefined) {
      this.#zeroing.delete(tag);
      // A file system without ZERO_RANGE (tmpfs): a hole reads as zeros as well.
      if (result === -os.errno.EOPNOTSUPP) {
        const { offsetBytes, lengthBytes } = zeroing;
        this.#command(URING_FALLOCATE, tag, offsetBytes, lengthBytes, PUNCH_HOLE, 0);
        return;
      }
    }
    this.onComplete?.(tag, result);
  }
}
