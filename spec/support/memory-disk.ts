/**
 * A disk backend over a byte array. Requests complete within `submit`, or, with `deferred`, when
 * `finish` is called; errors can be put in. It checks the device's side of the contract as it goes.
 */
import {
  DISK_FLUSH,
  DISK_READ,
  DISK_WRITE,
  type DiskBackend,
  type DiskOperation,
} from "../../src/devices/backend.js";
import type { GuestMemory } from "../../src/native/guest-memory.js";

export interface MemoryDiskOptions {
  readonly readOnly?: boolean;
  readonly supportsDiscard?: boolean;
  readonly depth?: number;
  readonly deferred?: boolean;
  readonly serial?: string;
}

export interface DiskRequest {
  readonly tag: number;
  readonly operation: DiskOperation;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  readonly segments: readonly { readonly address: number; readonly length: number }[];
  readonly unmap: boolean;
}

export class MemoryDisk implements DiskBackend {
  readonly bytes: Uint8Array;
  readonly readOnly: boolean;
  readonly supportsDiscard: boolean;
  readonly serial: Uint8Array;
  readonly depth: number;
  onComplete: ((tag: number, result: number) => void) | undefined;
  onBatchEnd: (() => void) | undefined;

  /** Every request that was submitted, in order; and the number of `submit` calls. */
  readonly log: DiskRequest[] = [];
  submitCount = 0;
  /** What the next requests answer instead of being carried out: a negative errno each. */
  readonly failures: number[] = [];

  readonly #memory: GuestMemory;
  readonly #deferred: boolean;
  readonly #inUse = new Set<number>();
  #batch: DiskRequest[] = [];
  #submitted: DiskRequest[] = [];

  constructor(memory: GuestMemory, sizeBytes: number, options: MemoryDiskOptions = {}) {
    this.#memory = memory;
    this.bytes = new Uint8Array(sizeBytes);
    this.readOnly = options.readOnly ?? false;
    this.supportsDiscard = options.supportsDiscard ?? true;
    this.depth = options.depth ?? 32;
    this.#deferred = options.deferred ?? false;
    this.serial = new TextEncoder().encode(options.serial ?? "memory-disk");
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  /** Requests submitted and not finished. */
  get inFlight(): number {
    return this.#submitted.length;
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
    const segments = Array.from({ length: count }, (_, index) => ({
      address: addresses[first + index],
      length: lengths[first + index],
    }));
    const request = { tag, operation, offsetBytes, lengthBytes, segments, unmap };
    this.#checkContract(request);
    this.#inUse.add(tag);
    this.#batch.push(request);
  }

  submit(): void {
    this.submitCount++;
    this.log.push(...this.#batch);
    this.#submitted.push(...this.#batch.splice(0));
    if (!this.#deferred) this.finish();
  }

  /** Completes the first `count` submitted requests (default: all), and ends the batch. */
  finish(count = this.#submitted.length): void {
    for (const request of this.#submitted.splice(0, count)) {
      const failure = this.failures.shift() ?? 0;
      if (failure === 0) this.#carryOut(request);
      this.#inUse.delete(request.tag);
      this.onComplete?.(request.tag, failure);
    }
    this.onBatchEnd?.();
  }

  #checkContract(request: DiskRequest): void {
    const { tag, operation, offsetBytes, lengthBytes, segments } = request;
    const total = segments.reduce((sum, segment) => sum + segment.length, 0);
    const moves = operation === DISK_READ || operation === DISK_WRITE;
    const broken = [
      !(tag >= 0 && tag < this.depth) && `tag ${tag} beyond depth`,
      this.#inUse.has(tag) && `tag ${tag} is in use`,
      !(offsetBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes) && "beyond the disk",
      (offsetBytes % 512 !== 0 || lengthBytes % 512 !== 0) && "no whole sectors",
      moves && total !== lengthBytes && `segments of ${total} for ${lengthBytes} bytes`,
      !moves && segments.length > 0 && "segments without data",
      this.readOnly && operation !== DISK_READ && operation !== DISK_FLUSH && "write",
      segments.some((s) => s.length === 0 || !this.#memory.contains(s.address, s.length)) &&
        "segment outside memory",
    ].filter((what) => what !== false);
    if (broken.length > 0) throw new Error(`block device broke its contract: ${broken.join(", ")}`);
  }

  #carryOut(request: DiskRequest): void {
    const { operation, offsetBytes, lengthBytes } = request;
    if (operation === DISK_FLUSH) return;
    if (operation !== DISK_READ && operation !== DISK_WRITE) {
      this.bytes.fill(0, offsetBytes, offsetBytes + lengthBytes);
      return;
    }
    let at = offsetBytes;
    for (const { address, length } of request.segments) {
      const part = this.bytes.subarray(at, at + length);
      if (operation === DISK_READ) this.#memory.write(address, part);
      else part.set(this.#memory.read(address, length));
      at += length;
    }
  }
}
