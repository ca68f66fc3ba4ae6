/**
 * Middleware in the way of disk requests: a backend around the real one, put in its place while somebody wants
 * to see requests.
 *
 *     device ─ enqueue ─▶ functions ─ next() ─▶ the real backend ─▶ result ─▶ device
 *                              └─ without next(): done by the function ─────▶┘
 *
 * A request is done when its functions are: one that throws, or is not settled in time, ends as an I/O error,
 * but never before the real backend has let go of the guest's memory.
 */
import { DISK_READ, DISK_WRITE, type DiskBackend, type DiskOperation } from "../devices/backend.js";
import { EstaloError } from "../errors.js";
import type { GuestMemory } from "../native/guest-memory.js";
import type { MiddlewareChain } from "./middleware.js";

/** A request on its way. Nothing of it may be used when its functions are done. */
export interface DriveRequest {
  /** The drive's id. */
  readonly drive: string;
  readonly operation: "read" | "write" | "flush" | "discard" | "write-zeroes";
  readonly offsetBytes: number;
  /** 0 for a flush. */
  readonly lengthBytes: number;
  /**
   * A private copy of what the guest writes, or, after `next()`, of what was read. The guest may change what it
   * writes until the request is done.
   */
  data(): Uint8Array;
  /** Puts bytes into the buffers of a read, at `offset` of the request: instead of `next()`, or after it. */
  fill(bytes: Uint8Array, offset?: number): void;
}

const OPERATIONS = ["read", "write", "flush", "discard", "write-zeroes"] as const;
const EIO = 5;
const TIMEOUT_MS = 30_000;

/** One request: the segments of its data, until it is done. */
class FilteredRequest implements DriveRequest {
  readonly operation: DriveRequest["operation"];
  /** What the real backend failed with. */
  errno = 0;
  #isOpen = true;

  constructor(
    readonly drive: string,
    readonly code: DiskOperation,
    readonly offsetBytes: number,
    readonly lengthBytes: number,
    readonly addresses: Float64Array,
    readonly lengths: Uint32Array,
    readonly unmap: boolean,
    readonly memory: GuestMemory,
  ) {
    this.operation = OPERATIONS[code];
  }

  data(): Uint8Array {
    const hasData = this.code === DISK_READ || this.code === DISK_WRITE;
    const bytes = new Uint8Array(this.#isOpen && hasData ? this.lengthBytes : 0);
    let at = 0;
    for (let index = 0; index < this.lengths.length && at < bytes.length; index++) {
      const [address, length] = [this.addresses[index], this.lengths[index]];
      // Memory may have been unplugged meanwhile, and who asks may be anywhere.
      if (this.memory.contains(address, length)) bytes.set(this.memory.read(address, length), at);
      at += length;
    }
    return bytes;
  }

  fill(bytes: Uint8Array, offset = 0): void {
    if (!this.#isOpen || this.code !== DISK_READ) return;
    let [left, done] = [offset, 0];
    for (let index = 0; index < this.lengths.length && done < bytes.length; index++) {
      const length = this.lengths[index];
      if (left < length) {
        const part = bytes.subarray(done, done + length - left);
        const address = this.addresses[index] + left;
        if (this.memory.contains(address, part.length)) this.memory.write(address, part);
        done += part.length;
      }
      left = Math.max(0, left - length);
    }
  }

  close(): void {
    this.#isOpen = false;
  }
}

/** How long requests wait for their functions: for some time, and no more once their microVM ends. */
export class Patience {
  readonly #waits = new Set<() => void>();
  #isOver = false;

  /** Calls `giveUp` when it is over; the returned function ends the wait before. */
  begin(giveUp: () => void): () => void {
    const timer = setTimeout(giveUp, TIMEOUT_MS).unref();
    this.#waits.add(giveUp);
    if (this.#isOver) giveUp();
    return () => {
      this.#waits.delete(giveUp);
      clearTimeout(timer);
    };
  }

  end(): void {
    this.#isOver = true;
    for (const giveUp of this.#waits) giveUp();
  }
}

/** See the file's header. Thread: the device host's. */
export class FilteredDisk implements DiskBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly supportsDiscard: boolean;
  readonly serial: Uint8Array;
  readonly depth: number;
  onComplete: ((tag: number, result: number) => void) | undefined;
  onBatchEnd: (() => void) | undefined;

  readonly #real: DiskBackend;
  readonly #drive: string;
  readonly #memory: GuestMemory;
  readonly #chain: MiddlewareChain<DriveRequest>;
  readonly #waiting = new Map<number, (result: number) => void>();
  #started: (() => void)[] = [];
  readonly #patience: Patience;

  /** @param real - whose completions this takes over with its first request */
  constructor(
    real: DiskBackend,
    drive: string,
    memory: GuestMemory,
    chain: MiddlewareChain<DriveRequest>,
    patience = new Patience(),
  ) {
    this.#patience = patience;
    this.#real = real;
    this.#drive = drive;
    this.#memory = memory;
    this.#chain = chain;
    this.sizeBytes = real.sizeBytes;
    this.readOnly = real.readOnly;
    this.supportsDiscard = real.supportsDiscard;
    this.serial = real.serial;
    this.depth = real.depth;
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
    const request = new FilteredRequest(
      this.#drive,
      operation,
      offsetBytes,
      lengthBytes,
      addresses.slice(first, first + count),
      lengths.slice(first, first + count),
      unmap,
      this.#memory,
    );
    // Not before: until the device is idle, completions of what it asked itself are its own.
    this.#real.onComplete = this.#onRealComplete;
    this.#real.onBatchEnd = undefined;
    this.#started.push(() => void this.#run(tag, request));
  }

  submit(): void {
    for (const start of this.#started.splice(0)) start();
  }

  readonly #onRealComplete = (tag: number, result: number) => {
    const settle = this.#waiting.get(tag);
    this.#waiting.delete(tag);
    settle?.(result);
  };

  async #run(tag: number, request: FilteredRequest): Promise<void> {
    let real: Promise<void> | undefined;
    let isLate = false;
    const sent = this.#chain.send(request, () => {
      // Its time is over, and perhaps its tag another's.
      if (isLate) throw new EstaloError("ERR_ESTALO_STATE", "the request has ended");
      real = this.#ask(tag, request);
      return real;
    });
    let settled: () => void = () => {};
    const timeout = new Promise<"late">((resolve) => {
      settled = this.#patience.begin(() => resolve("late"));
    });
    const fate = await Promise.race([sent, timeout]);
    settled();
    isLate = true;
    request.close();
    const isDone = fate === "passed" || fate === "kept";
    // A function may have let go of it; its buffers are its until it ends.
    await real?.catch(() => {});
    this.onComplete?.(tag, isDone ? -request.errno : -(request.errno || EIO));
    this.onBatchEnd?.();
  }

  /** The real backend's part. */
  async #ask(tag: number, request: FilteredRequest): Promise<void> {
    const { code, offsetBytes, lengthBytes, addresses, lengths, unmap } = request;
    const result = await new Promise<number>((resolve) => {
      this.#waiting.set(tag, resolve);
      // biome-ignore format: as the contract has them
      this.#real.enqueue(tag, code, offsetBytes, lengthBytes, addresses, lengths, 0, lengths.length, unmap);
      this.#real.submit();
    });
    if (result >= 0) return;
    request.errno = -result;
    throw new EstaloError(
      "ERR_ESTALO_HOST",
      `${request.operation} drive ${this.#drive}: ${result}`,
      {
        data: { operation: request.operation, object: `drive ${this.#drive}`, errno: -result },
      },
    );
  }
}
