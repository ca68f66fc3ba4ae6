/**
 * Persistent memory: a file that the guest has mapped as memory of its own. Reads and writes never come here;
 * what the device does is to make what was written stable, when it is asked to.
 *
 *     flush, flush, flush ─▶ one sync of the whole file ─▶ all of them answered, one interrupt
 *
 * While a sync is under way nothing is taken from the queue: what comes meanwhile may have been written after
 * it began, and has the next one. Specification: VirtIO 1.2 § 5.19.
 */
import type { SyncBackend } from "../backend.js";
import type { RateLimiter } from "../rate-limiter.js";
import { gatherReadable } from "./chain-io.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { featureBits, RING_FEATURES } from "./features.js";
import * as regs from "./pmem.regs.js";
import { createPmemMetrics, type PmemState } from "./pmem.state.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

/** How a persistent memory device is made. */
export interface PmemOptions {
  /** Where its memory is in the guest, whole windows of 2 MiB. */
  readonly start: number;
  readonly sizeBytes: number;
  readonly backend: SyncBackend;
  /** Asked before each sync, for the file's length (default: no limit, at no cost). */
  readonly limiter?: RateLimiter;
}

const QUEUE_SIZE = 256;
const REQUEST_QUEUE = 0;

/** Back of the persistent memory device. */
export class VirtioPmem implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features: FeatureBits = featureBits(RING_FEATURES);
  readonly queueSizes = [QUEUE_SIZE];
  readonly config = new Uint8Array(regs.CONFIG_BYTES);
  readonly metrics = createPmemMetrics();

  readonly #host: VirtioHost;
  readonly #options: PmemOptions;
  readonly #limiter: RateLimiter | undefined;
  readonly #chain = new DescriptorChain(QUEUE_SIZE);
  readonly #request = new Uint8Array(regs.REQUEST_BYTES);
  readonly #requestView = new DataView(this.#request.buffer);
  /** Heads of the flushes under way, and where each byte of their answers goes. */
  readonly #heads = new Uint16Array(QUEUE_SIZE);
  readonly #answers = new Float64Array(QUEUE_SIZE * regs.RESPONSE_BYTES);
  #count = 0;
  /** The sync under way, fulfilled when its flushes are answered. */
  #syncing: Promise<void> | undefined;
  #queue: VirtQueue | undefined;

  constructor(host: VirtioHost, options: PmemOptions) {
    this.#host = host;
    this.#options = options;
    this.#limiter = options.limiter;
    const view = new DataView(this.config.buffer);
    view.setBigUint64(regs.CONFIG_START_OFFSET, BigInt(options.start), true);
    view.setBigUint64(regs.CONFIG_SIZE_OFFSET, BigInt(options.sizeBytes), true);
  }

  activate(_accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#queue = queues[REQUEST_QUEUE];
  }

  processQueue(): void {
    const queue = this.#queue;
    if (queue === undefined || this.#syncing !== undefined) return;
    this.metrics.queue_event_count++;
    try {
      this.#takeAll(queue);
    } finally {
      if (queue.publish()) this.#host.interruptQueue(REQUEST_QUEUE);
    }
    if (this.#count > 0) this.#sync();
  }

  /** A sync under way goes on, for nobody. */
  reset(): undefined {
    this.#queue = undefined;
    this.#count = 0;
  }

  quiesce(): Promise<void> | undefined {
    return this.#syncing;
  }

  /** The limiter may admit again what it has refused. */
  resumeThrottled(): void {
    this.metrics.rate_limiter_event_count++;
    this.#host.notifyQueue(REQUEST_QUEUE);
  }

  /** The device's record for a snapshot. */
  save(): PmemState {
    const { start, sizeBytes } = this.#options;
    return { version: 1, start, sizeBytes };
  }

  /** Takes what waits, a queue's worth at most; flushes are kept for one sync, which the first of them pays. */
  #takeAll(queue: VirtQueue): void {
    let budget = queue.size;
    do {
      queue.disableNotifications();
      while (budget > 0 && queue.next(this.#chain)) {
        const isFlush = this.#isFlush();
        const isPaid = this.#count > 0 || this.#limiter === undefined;
        if (isFlush && !isPaid && this.#limiter?.admit(this.#options.backend.sizeBytes) === false) {
          queue.undoNext();
          this.metrics.rate_limiter_throttled_events++;
          return;
        }
        budget--;
        if (isFlush) this.#keep();
        else this.#refuse(queue);
      }
      if (budget === 0) {
        // After a sync the queue is looked at anyway.
        if (this.#count === 0) this.#host.deferQueue(REQUEST_QUEUE);
        return;
      }
    } while (queue.enableNotifications());
  }

  #isFlush(): boolean {
    const chain = this.#chain;
    const bytes = gatherReadable(this.#host.memory, chain, 0, this.#request);
    return (
      bytes === regs.REQUEST_BYTES &&
      this.#requestView.getUint32(0, true) === regs.REQUEST_FLUSH &&
      chain.writableBytes >= regs.RESPONSE_BYTES
    );
  }

  /** Notes where the chain's answer goes, which may be in pieces: the chain is used again for the next one. */
  #keep(): void {
    const { addresses, lengths, firstWritable, count, head } = this.#chain;
    const first = this.#count * regs.RESPONSE_BYTES;
    let kept = 0;
    for (let index = firstWritable; index < count && kept < regs.RESPONSE_BYTES; index++) {
      for (let at = 0; at < lengths[index] && kept < regs.RESPONSE_BYTES; at++) {
        this.#answers[first + kept++] = addresses[index] + at;
      }
    }
    this.#heads[this.#count++] = head;
  }

  /** What is no flush, or has no room for an answer. */
  #refuse(queue: VirtQueue): void {
    this.metrics.event_fails++;
    const hasRoom = this.#chain.writableBytes >= regs.RESPONSE_BYTES;
    if (!hasRoom) {
      queue.addUsed(this.#chain.head, 0);
      return;
    }
    const kept = this.#count;
    this.#keep();
    this.#count = kept;
    this.#answer(queue, kept, regs.RESPONSE_FAILED);
  }

  #sync(): void {
    const queue = this.#queue;
    this.#syncing = new Promise((resolve) => {
      this.#options.backend.sync((isDone) => {
        this.#syncing = undefined;
        // Reset meanwhile, and perhaps started again: these flushes are forgotten.
        if (queue !== undefined && queue === this.#queue) this.#finish(queue, isDone);
        resolve();
        this.#host.notifyQueue(REQUEST_QUEUE);
      });
    });
  }

  #finish(queue: VirtQueue, isDone: boolean): void {
    const count = this.#count;
    this.#count = 0;
    if (!isDone) this.metrics.event_fails++;
    const code = isDone ? regs.RESPONSE_DONE : regs.RESPONSE_FAILED;
    for (let index = 0; index < count; index++) this.#answer(queue, index, code);
    if (queue.publish()) this.#host.interruptQueue(REQUEST_QUEUE);
  }

  #answer(queue: VirtQueue, index: number, code: number): void {
    const { memory } = this.#host;
    const first = index * regs.RESPONSE_BYTES;
    for (let byte = 0; byte < regs.RESPONSE_BYTES; byte++) {
      const address = this.#answers[first + byte];
      // Memory may have been unplugged meanwhile.
      if (memory.contains(address, 1)) memory.writeU8(address, code >>> (8 * byte));
    }
    queue.addUsed(this.#heads[index], regs.RESPONSE_BYTES);
  }
}
