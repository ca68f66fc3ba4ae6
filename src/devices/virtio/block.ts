/**
 * The virtio block device: requests from its queue to a disk backend, and their results back.
 *
 *     queue ─▶ parse, check ─▶ enqueue … submit ─▶ backend ─▶ onComplete … onBatchEnd ─▶ publish
 *                    └─ refused or answered here ────────────────────────────────────────▶┘
 *
 * As many requests are in flight as the backend takes; the rest stay in the queue. One submission
 * and one interrupt decision per batch; nothing is allocated per request. Specification: VirtIO 1.2
 * § 5.2.
 */
import { KIB } from "../../units.js";
import {
  DISK_DISCARD,
  DISK_FLUSH,
  DISK_READ,
  DISK_WRITE,
  DISK_WRITE_ZEROES,
  type DiskBackend,
  type DiskOperation,
} from "../backend.js";
import * as regs from "./block.regs.js";
import { type BlockState, countTransfer, createBlockMetrics } from "./block.state.js";
import {
  type BlockOptions,
  blockConfig,
  blockFeatures,
  MAX_RANGE_SECTORS,
} from "./block-config.js";
import { BlockFlights } from "./block-flights.js";
import { BlockRequest, statusOf } from "./block-request.js";
import { scatter } from "./chain-io.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { hasFeature } from "./features.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

const DEFAULT_QUEUE_SIZE = 256;
const REQUEST_QUEUE = 0;
/** Counts as much as a request: what the page cache holds is copied while this thread waits. */
const BYTES_OF_REQUEST = 128 * KIB;
/** No status yet: the backend has the request. */
const IN_FLIGHT = -1;

/** Back of one disk. */
export class VirtioBlock implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features: FeatureBits;
  readonly queueSizes: readonly number[];
  config: Uint8Array;
  readonly metrics = createBlockMetrics();

  readonly #host: VirtioHost;
  readonly #options: BlockOptions;
  readonly #readOnly: boolean;
  readonly #nowUs: () => number;
  readonly #chain: DescriptorChain;
  readonly #request: BlockRequest;
  #backend: DiskBackend;
  #flights: BlockFlights;
  #queue: VirtQueue | undefined;
  #accepted: FeatureBits = { low: 0, high: 0 };
  /** The driver knows no FLUSH: every write is followed by one before it counts as done. */
  #writeThrough = false;
  /** Something was enqueued since the last submit. */
  #enqueued = false;
  #submitting = false;
  #processing = false;
  /** Chains were left in the queue: look again when a tag is free. */
  #stalled = false;
  /** Takes over when nothing is in flight; until then nothing new is taken. */
  #nextBackend: DiskBackend | undefined;
  #isSameDisk = false;
  #idleWaiters: (() => void)[] = [];

  constructor(host: VirtioHost, options: BlockOptions) {
    const queueSize = options.queueSize ?? DEFAULT_QUEUE_SIZE;
    this.#host = host;
    this.#backend = options.backend;
    this.#options = options;
    this.#readOnly = options.readOnly ?? options.backend.readOnly;
    this.#nowUs = options.nowUs ?? (() => 0);
    this.#chain = new DescriptorChain(queueSize);
    this.#request = new BlockRequest(host.memory, this.#chain);
    this.#flights = new BlockFlights(options.backend.depth);
    this.queueSizes = [queueSize];
    this.features = blockFeatures(options.backend, { ...options, readOnly: this.#readOnly });
    this.config = blockConfig(options.backend, queueSize);
    this.#listen();
  }

  activate(accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#accepted = accepted;
    this.#queue = queues[REQUEST_QUEUE];
    this.#stalled = false;
    this.#writeThrough =
      this.#options.cacheType === "Writeback" && !hasFeature(accepted, regs.FEATURE_FLUSH_BIT);
  }

  processQueue(): void {
    const queue = this.#queue;
    if (queue === undefined || this.#processing) return;
    this.metrics.queue_event_count++;
    this.#processing = true;
    try {
      this.#takeAll(queue);
    } catch (error) {
      this.metrics.event_fails++;
      throw error;
    } finally {
      // Also after a fault: what was taken before it is carried out.
      this.#submitAll();
      this.#processing = false;
      this.#endBatch();
    }
  }

  reset(): Promise<void> | undefined {
    return this.#whenIdle(() => {
      this.#queue = undefined;
    });
  }

  quiesce(): Promise<void> | undefined {
    return this.#whenIdle(() => {});
  }

  /** The limiter may admit again what it has refused. */
  resumeThrottled(): void {
    this.metrics.rate_limiter_event_count++;
    this.#host.notifyQueue(REQUEST_QUEUE);
  }

  /**
   * Puts another backend (or the same, with a new size) behind the device: what is in flight ends
   * on the old one first. The driver is told of the new capacity. A backend set while another still
   * waits replaces that one. `undefined`: done at once. `isSameDisk`: the driver is told nothing.
   */
  setBackend(backend: DiskBackend, isSameDisk = false): Promise<void> | undefined {
    this.#nextBackend = backend;
    this.#isSameDisk = isSameDisk;
    return this.#whenIdle(() => this.#swap());
  }

  /** The device's record for a snapshot. */
  save(): BlockState {
    return {
      version: 1,
      capacitySectors: Math.floor(this.#backend.sizeBytes / regs.SECTOR_BYTES),
      readOnly: this.#readOnly,
      cacheType: this.#options.cacheType,
      discard: hasFeature(this.features, regs.FEATURE_DISCARD_BIT),
    };
  }

  #listen(): void {
    this.#backend.onComplete = (tag, result) => this.#completed(tag, result);
    this.#backend.onBatchEnd = () => {
      if (!this.#processing && !this.#submitting) this.#endBatch();
    };
  }

  #swap(): void {
    const backend = this.#nextBackend;
    if (backend === undefined) return;
    this.#nextBackend = undefined;
    this.#backend.onComplete = undefined;
    this.#backend.onBatchEnd = undefined;
    this.#backend = backend;
    this.#flights = new BlockFlights(backend.depth);
    this.#listen();
    if (!this.#isSameDisk) this.metrics.update_count++;
    this.config = blockConfig(backend, this.queueSizes[REQUEST_QUEUE]);
    if (!this.#isSameDisk) this.#host.updateConfig(this.config);
    this.#resumeStalled();
  }

  /** Takes chains until the queue is empty, the backend is full, or this device has had its turn. */
  #takeAll(queue: VirtQueue): void {
    let budget = queue.size;
    let taken = 0;
    queue.disableNotifications();
    for (;;) {
      while (!this.#full() && budget > 0 && queue.next(this.#chain)) {
        this.#request.parse();
        if (this.#options.limiter?.admit(this.#request.dataBytes) === false) {
          queue.undoNext();
          this.metrics.rate_limiter_throttled_events++;
          return;
        }
        budget -= 1 + Math.floor(this.#request.dataBytes / BYTES_OF_REQUEST);
        taken++;
        this.#start(queue);
      }
      this.#submitAll();
      if (this.#full() || budget <= 0) break;
      if (!queue.enableNotifications()) {
        if (taken === 0) this.metrics.no_avail_buffer++;
        return;
      }
      queue.disableNotifications();
    }
    if (this.#full()) {
      this.#stalled = true;
      this.metrics.io_engine_throttled_events++;
    } else {
      this.metrics.remaining_reqs_count++;
      this.#host.deferQueue(REQUEST_QUEUE);
    }
  }

  #full(): boolean {
    return this.#flights.full || this.#nextBackend !== undefined;
  }

  /** Checks the request in the scratch and hands it to the backend, or answers it. */
  #start(queue: VirtQueue): void {
    const status = this.#dispatch();
    if (status === IN_FLIGHT) return;
    const { inBytes, statusAddress } = this.#request;
    if (status !== regs.STATUS_OK) this.metrics.invalid_reqs_count++;
    this.#host.memory.writeU8(statusAddress, status);
    // A used length covers all bytes before it: without the data there is none for the status.
    const answered = status === regs.STATUS_OK || inBytes === 0;
    queue.addUsed(this.#chain.head, answered ? inBytes + regs.STATUS_BYTES : 0);
  }

  /** The request's status, or IN_FLIGHT. */
  #dispatch(): number {
    const request = this.#request;
    switch (request.type) {
      case regs.TYPE_IN:
        request.selectIn();
        return this.#transfer(DISK_READ, request.inBytes);
      case regs.TYPE_OUT:
        if (this.#writesRefused()) return regs.STATUS_IOERR;
        request.selectOut();
        return this.#transfer(DISK_WRITE, request.outBytes);
      case regs.TYPE_FLUSH:
        if (!hasFeature(this.#accepted, regs.FEATURE_FLUSH_BIT)) return regs.STATUS_UNSUPP;
        this.metrics.flush_count++;
        return this.#enqueue(this.#take(DISK_FLUSH, 0), 0, 0);
      case regs.TYPE_GET_ID:
        return this.#getId();
      case regs.TYPE_DISCARD:
        return this.#startRanges(DISK_DISCARD, regs.FEATURE_DISCARD_BIT);
      case regs.TYPE_WRITE_ZEROES:
        return this.#startRanges(DISK_WRITE_ZEROES, regs.FEATURE_WRITE_ZEROES_BIT);
      default:
        return regs.STATUS_UNSUPP;
    }
  }

  #transfer(operation: DiskOperation, bytes: number): number {
    const sectors = bytes / regs.SECTOR_BYTES;
    const { sector, first, count } = this.#request;
    if (!Number.isInteger(sectors) || !this.#onDisk(sector, sectors)) return regs.STATUS_IOERR;
    if (bytes === 0) return regs.STATUS_OK;
    const tag = this.#take(operation, bytes);
    return this.#enqueue(tag, sector * regs.SECTOR_BYTES, bytes, false, first, count);
  }

  /** All ranges are checked before the first is carried out, and carried out one after the other. */
  #startRanges(operation: DiskOperation, featureBit: number): number {
    // A backend that came later may lack what the first one had.
    if (!this.#backend.supportsDiscard) return regs.STATUS_UNSUPP;
    if (!hasFeature(this.#accepted, featureBit)) return regs.STATUS_UNSUPP;
    const request = this.#request;
    const count = request.readRanges();
    if (count < 0 || this.#writesRefused()) return regs.STATUS_IOERR;
    const allowedFlags = operation === DISK_WRITE_ZEROES ? regs.RANGE_UNMAP_MASK : 0;
    let sectorCount = 0;
    for (let range = 0; range < count; range++) {
      const sectors = request.rangeSectors(range);
      if ((request.rangeFlags(range) & ~allowedFlags) !== 0) return regs.STATUS_UNSUPP;
      if (sectors > MAX_RANGE_SECTORS) return regs.STATUS_IOERR;
      if (!this.#onDisk(request.rangeSector(range), sectors)) return regs.STATUS_IOERR;
      sectorCount += sectors;
    }
    if (sectorCount === 0) return regs.STATUS_OK;
    const tag = this.#take(operation, 0);
    this.#flights.setRanges(tag, request.ranges, count);
    this.#continueRanges(tag);
    return IN_FLIGHT;
  }

  /** Enqueues the tag's next range that is not empty; false if there is none. */
  #continueRanges(tag: number): boolean {
    const flights = this.#flights;
    while (flights.nextRange[tag] < flights.rangeCount[tag]) {
      const range = flights.nextRange[tag]++;
      const sectors = flights.rangeSectors(tag, range);
      if (sectors === 0) continue;
      const offset = flights.rangeSector(tag, range) * regs.SECTOR_BYTES;
      const unmap = (flights.rangeFlags(tag, range) & regs.RANGE_UNMAP_MASK) !== 0;
      this.#enqueue(tag, offset, sectors * regs.SECTOR_BYTES, unmap);
      return true;
    }
    return false;
  }

  #getId(): number {
    this.#request.selectIn();
    const id = new Uint8Array(Math.min(regs.ID_BYTES, this.#request.inBytes));
    id.set(this.#backend.serial.subarray(0, id.length));
    scatter(this.#host.memory, this.#chain, id);
    return regs.STATUS_OK;
  }

  #writesRefused(): boolean {
    return this.#readOnly || this.#backend.readOnly;
  }

  #onDisk(sector: number, sectors: number): boolean {
    const capacity = Math.floor(this.#backend.sizeBytes / regs.SECTOR_BYTES);
    return sectors <= capacity && sector <= capacity - sectors;
  }

  #take(operation: DiskOperation, dataBytes: number): number {
    const address = this.#request.statusAddress;
    const tag = this.#flights.take(this.#chain.head, operation, address, dataBytes);
    this.#flights.startedUs[tag] = this.#nowUs();
    return tag;
  }

  #enqueue(
    tag: number,
    offset: number,
    length: number,
    unmap = false,
    first = 0,
    count = 0,
  ): typeof IN_FLIGHT {
    const operation = this.#flights.operation[tag] as DiskOperation;
    const { addresses, lengths } = this.#chain;
    this.#enqueued = true;
    // biome-ignore format: nine arguments, so that nothing is allocated for a request
    this.#backend.enqueue(tag, operation, offset, length, addresses, lengths, first, count, unmap);
    return IN_FLIGHT;
  }

  /** Submits until nothing is left; a backend that completes at once may make us enqueue more. */
  #submitAll(): void {
    if (this.#submitting) return;
    this.#submitting = true;
    try {
      while (this.#enqueued) {
        this.#enqueued = false;
        this.#backend.submit();
      }
    } finally {
      this.#submitting = false;
    }
  }

  #completed(tag: number, result: number): void {
    const flights = this.#flights;
    const operation = flights.operation[tag];
    if (result >= 0) {
      if (this.#continueRanges(tag)) return;
      const latencyUs = this.#nowUs() - flights.startedUs[tag];
      countTransfer(this.metrics, operation, flights.dataBytes[tag], latencyUs);
      if (this.#writeThrough && operation !== DISK_READ && operation !== DISK_FLUSH) {
        flights.operation[tag] = DISK_FLUSH;
        this.#enqueue(tag, 0, 0);
        return;
      }
    } else this.metrics.execute_fails++;
    let usedBytes: number = regs.STATUS_BYTES;
    if (operation === DISK_READ) usedBytes = result < 0 ? 0 : flights.dataBytes[tag] + usedBytes;
    const at = flights.statusAddress[tag];
    // Memory may have been unplugged meanwhile.
    if (this.#host.memory.contains(at, 1)) this.#host.memory.writeU8(at, statusOf(result));
    this.#queue?.addUsed(flights.head[tag], usedBytes);
    flights.release(tag);
  }

  /** Shows the driver what is done, and goes on with what had to wait. */
  #endBatch(): void {
    this.#submitAll();
    if (this.#queue?.publish()) this.#host.interruptQueue(REQUEST_QUEUE);
    if (this.#flights.count === 0 && this.#idleWaiters.length > 0) {
      for (const wake of this.#idleWaiters.splice(0)) wake();
    }
    this.#resumeStalled();
  }

  #resumeStalled(): void {
    if (!this.#stalled || this.#full()) return;
    this.#stalled = false;
    this.#host.notifyQueue(REQUEST_QUEUE);
  }

  /** Runs `action` once nothing is in flight: at once, or before the promise is fulfilled. */
  #whenIdle(action: () => void): Promise<void> | undefined {
    if (this.#flights.count > 0) {
      return new Promise<void>((wake) => this.#idleWaiters.push(wake)).then(action);
    }
    action();
    return undefined;
  }
}
