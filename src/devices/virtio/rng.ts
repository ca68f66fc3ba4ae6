/**
 * The virtio entropy device: fills the driver's buffers with random bytes from the host.
 *
 * Bytes are made in private scratch and copied, so segments may overlap or be rewritten by the
 * guest at will. At most 64 KiB are given for a request, and a queue's worth of requests or about a
 * mebibyte in one turn. Specification: VirtIO 1.2 § 5.4.
 */
import { MIB } from "../../units.js";
import type { EntropySource } from "../backend.js";
import type { RateLimiter } from "../rate-limiter.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { featureBits, RING_FEATURES } from "./features.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";
import * as regs from "./rng.regs.js";
import { createRngMetrics, type RngState } from "./rng.state.js";

const QUEUE_SIZE = 256;
const REQUEST_QUEUE = 0;
const SCRATCH_BYTES = 4096;
/** Given in one turn, but for the rest of its last request: some milliseconds of the host's generator. */
const TURN_BYTES = MIB;

/** Back of the entropy device. */
export class VirtioRng implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features = featureBits(RING_FEATURES);
  readonly queueSizes = [QUEUE_SIZE];
  readonly config = new Uint8Array(0);
  readonly metrics = createRngMetrics();

  readonly #host: VirtioHost;
  readonly #source: EntropySource;
  readonly #limiter: RateLimiter | undefined;
  readonly #chain = new DescriptorChain(QUEUE_SIZE);
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  #queue: VirtQueue | undefined;

  /** @param limiter - asked before each request (default: no limit, at no cost) */
  constructor(host: VirtioHost, source: EntropySource, limiter?: RateLimiter) {
    this.#host = host;
    this.#source = source;
    this.#limiter = limiter;
  }

  activate(_accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#queue = queues[REQUEST_QUEUE];
  }

  processQueue(): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    this.metrics.entropy_event_count++;
    try {
      this.#takeAll(queue);
    } finally {
      if (queue.publish()) this.#host.interruptQueue(REQUEST_QUEUE);
    }
  }

  reset(): undefined {
    this.#queue = undefined;
  }

  quiesce(): undefined {}

  /** The limiter may admit again what it has refused. */
  resumeThrottled(): void {
    this.metrics.rate_limiter_event_count++;
    this.#host.notifyQueue(REQUEST_QUEUE);
  }

  /** The device's record for a snapshot. */
  save(): RngState {
    return { version: 1 };
  }

  #takeAll(queue: VirtQueue): void {
    let budget = queue.size;
    let bytesLeft = TURN_BYTES;
    do {
      queue.disableNotifications();
      while (budget > 0 && bytesLeft > 0 && queue.next(this.#chain)) {
        const bytes = Math.min(this.#chain.writableBytes, regs.REQUEST_BYTES);
        if (this.#limiter?.admit(bytes) === false) {
          queue.undoNext();
          this.metrics.entropy_rate_limiter_throttled++;
          return;
        }
        budget--;
        bytesLeft -= bytes;
        queue.addUsed(this.#chain.head, this.#fill());
      }
      if (budget === 0 || bytesLeft <= 0) {
        this.#host.deferQueue(REQUEST_QUEUE);
        return;
      }
    } while (queue.enableNotifications());
  }

  /** Fills the chain's writable segments from the start; returns the bytes written. */
  #fill(): number {
    const { addresses, lengths, firstWritable, count: segments } = this.#chain;
    let given = 0;
    if (firstWritable === segments) this.metrics.entropy_event_fails++;
    for (let index = firstWritable; index < segments && given < regs.REQUEST_BYTES; index++) {
      const wanted = Math.min(lengths[index], regs.REQUEST_BYTES - given);
      for (let at = 0; at < wanted; at += SCRATCH_BYTES) {
        const count = Math.min(SCRATCH_BYTES, wanted - at);
        if (!this.#random(count)) return given;
        this.#host.memory.write(addresses[index] + at, this.#scratch, count);
        given += count;
      }
    }
    this.metrics.entropy_bytes += given;
    return given;
  }

  /** Draws the first `count` bytes of the scratch. */
  #random(count: number): boolean {
    try {
      this.#source.fill(this.#scratch, count);
      return true;
    } catch {
      this.metrics.host_rng_fails++;
      return false;
    }
  }
}
