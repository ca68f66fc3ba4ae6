/**
 * One request of a driver's, as the code of a user's device sees it: bytes in and out by copies, an answer
 * at any time, once.
 *
 * The chain keeps the segments as they were checked when it was taken from its queue; its bytes are the
 * guest's and may change at any moment, so each `read` is a private copy: read once, check the copy, use it.
 * A chain that was answered, or whose driver has reset the device, touches nothing any more. While the
 * microVM is paused, what is written and answered is kept here and takes effect when it goes on. A driver that
 * unplugs the memory of an open chain breaks its device: the code that holds the chain may be anywhere, and is
 * thrown nothing.
 */
import { type EstaloError, isEstaloError } from "../../errors.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import { gather, scatter } from "./chain-io.js";
import { DescriptorChain } from "./queue.js";

/** What a chain needs of its device. */
export interface ChainOwner {
  readonly memory: GuestMemory;
  /** Guest memory is left alone now. */
  readonly isPaused: boolean;
  /** Gives the chain back to its driver. */
  finish(chain: DeviceChain, writtenBytes: number): void;
  /** Its memory is none any more: the driver has unplugged it. */
  memoryGone(error: EstaloError): void;
}

/** See the file's header. */
export class DeviceChain {
  /** Index of its queue. */
  readonly queue: number;
  /** Bytes that the driver sends, and the most that it takes. */
  readonly readableBytes: number;
  readonly writableBytes: number;
  /** The descriptor's index, for `VirtQueue.addUsed`. */
  readonly head: number;

  readonly #owner: ChainOwner;
  readonly #segments: DescriptorChain;
  #isOpen = true;
  #writtenBytes = 0;
  #answer: number | undefined;
  #kept: { readonly bytes: Uint8Array; readonly offset: number }[] = [];

  /** @param scratch - the queue's; its segments are copied */
  constructor(owner: ChainOwner, queue: number, scratch: DescriptorChain) {
    const segments = new DescriptorChain(scratch.count);
    segments.addresses.set(scratch.addresses.subarray(0, scratch.count));
    segments.lengths.set(scratch.lengths.subarray(0, scratch.count));
    segments.count = scratch.count;
    segments.firstWritable = scratch.firstWritable;
    this.#owner = owner;
    this.#segments = segments;
    this.queue = queue;
    this.head = scratch.head;
    this.readableBytes = scratch.readableBytes;
    this.writableBytes = scratch.writableBytes;
  }

  /** Whether it waits for its answer, and its driver for it. */
  get isOpen(): boolean {
    return this.#isOpen && this.#answer === undefined;
  }

  /** First byte after the last one written: what `complete` tells the driver unless told otherwise. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /**
   * A private copy of what the driver sent, from `offset` on, at most `sizeBytes` (default: all). Shorter
   * where there is less; empty when the chain is not open any more.
   */
  read(offset = 0, sizeBytes = this.readableBytes): Uint8Array {
    const from = wholeFrom(offset, this.readableBytes);
    const count = wholeFrom(sizeBytes, this.readableBytes - from);
    const out = new Uint8Array(this.isOpen ? count : 0);
    const range = { first: 0, end: this.#segments.firstWritable, skip: from };
    const isRead = this.#touch(() =>
      gather(this.#owner.memory, this.#segments, range, out, out.length),
    );
    return isRead ? out : new Uint8Array(0);
  }

  /**
   * Copies bytes into the driver's buffers, at `offset` (default: behind what was written so far). Returns
   * how many fitted: 0 when the chain is not open any more.
   */
  write(bytes: Uint8Array, offset = this.#writtenBytes): number {
    if (!this.isOpen) return 0;
    const at = wholeFrom(offset, this.writableBytes);
    const fitting = bytes.subarray(0, this.writableBytes - at);
    if (this.#owner.isPaused) this.#kept.push({ bytes: fitting.slice(), offset: at });
    else if (!this.#scatter(fitting, at)) return 0;
    this.#writtenBytes = Math.max(this.#writtenBytes, at + fitting.length);
    return fitting.length;
  }

  /**
   * Answers: the driver gets its buffers back, `writtenBytes` of them filled. False, and nothing done, when
   * it was answered before or its driver has reset the device.
   */
  complete(writtenBytes = this.#writtenBytes): boolean {
    if (!this.isOpen) return false;
    this.#answer = wholeFrom(writtenBytes, this.writableBytes);
    if (!this.#owner.isPaused) this.#finish();
    return true;
  }

  /** A pause has ended: what was kept takes effect. */
  resume(): void {
    if (!this.#isOpen) return;
    for (const { bytes, offset } of this.#kept.splice(0)) {
      if (!this.#scatter(bytes, offset)) return;
    }
    if (this.#answer !== undefined) this.#finish();
  }

  /** Its driver is gone: nothing is touched from now on. */
  drop(): void {
    this.#isOpen = false;
    this.#kept = [];
  }

  #scatter(bytes: Uint8Array, offset: number): boolean {
    return this.#touch(() => scatter(this.#owner.memory, this.#segments, bytes, offset));
  }

  /** Whether the guest's memory was there; without it nothing of the chain is left. */
  #touch(action: () => void): boolean {
    try {
      action();
      return true;
    } catch (error) {
      if (!isEstaloError(error) || error.family !== "guest") throw error;
      this.#owner.memoryGone(error);
      return false;
    }
  }

  #finish(): void {
    this.#isOpen = false;
    this.#owner.finish(this, this.#answer as number);
  }
}

/** A whole number from 0 to `most`, whatever was given. */
function wholeFrom(value: number, most: number): number {
  const whole = Math.trunc(value);
  return whole > 0 ? Math.min(whole, most) : 0;
}
