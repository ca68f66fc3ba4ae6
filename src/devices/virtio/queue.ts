/**
 * A split virtqueue as its device sees it: heads in, chains out, used entries back, in batches.
 *
 *     available ring ─▶ next(chain) ─▶ device ─▶ addUsed(head, length) ─▶ publish() ─▶ used ring
 *                       one index load           plain stores             one index store,
 *                       for the whole batch                               one interrupt decision
 *
 * Nothing is allocated after construction. The rings are resolved to exact typed arrays once; every
 * value the driver wrote is read once into a local, checked, then used; a walk never takes more
 * descriptors than the queue has. A broken rule raises ERR_ESTALO_GUEST_FAULT; the transport
 * answers with NEEDS_RESET. Specification: VirtIO 1.2 §§ 2.7 (split virtqueues), 2.7.10
 * (used_event, avail_event).
 */
import { EstaloError } from "../../errors.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import type { Gpa } from "../../units.js";
import * as regs from "./queue.regs.js";

const DESCRIPTOR_WORDS = regs.DESCRIPTOR_BYTES / 4;
const TWO_POW_32 = 2 ** 32;
// Index of the first entry within each ring's view, after flags and index.
const AVAIL_FIRST = 2;
const USED_FIRST = 1;
const RING_FLAGS = 0;
const RING_INDEX = 1;

/**
 * Where a queue lies and how it is used; the values are the driver's and checked by the
 * constructor.
 */
export interface QueueLayout {
  readonly index: number;
  /** Entries: a power of two, at most `maxSize`. */
  readonly size: number;
  readonly maxSize: number;
  readonly descriptorTable: Gpa;
  readonly availRing: Gpa;
  readonly usedRing: Gpa;
  /** VIRTIO_F_EVENT_IDX was accepted. */
  readonly eventIdx: boolean;
  /** VIRTIO_F_INDIRECT_DESC was accepted. */
  readonly indirect: boolean;
}

/** Where a queue stands: the device's own counters, for a snapshot. */
export interface QueueState {
  readonly version: 1;
  /** Available entries taken so far, modulo 2^16. */
  readonly nextAvail: number;
  /** Used entries published so far, modulo 2^16. */
  readonly nextUsed: number;
}

/**
 * One request's buffers, as scratch that `VirtQueue.next` fills again and again: readable segments
 * first. A device may change the arrays within `count` (cut a header off) before it passes them on.
 */
export class DescriptorChain {
  /** What `addUsed` wants back. */
  head = 0;
  /** Number of segments. */
  count = 0;
  /** Index of the first device-writable segment; `count` if there is none. */
  firstWritable = 0;
  /** Total bytes of the device-readable segments, and of the device-writable ones. */
  readableBytes = 0;
  writableBytes = 0;
  /** Guest-physical address and length of each segment, in RAM (checked), length at least 1. */
  readonly addresses: Float64Array;
  readonly lengths: Uint32Array;

  /** @param capacity - largest size of the queues it is used with, in entries */
  constructor(capacity: number) {
    this.addresses = new Float64Array(capacity);
    this.lengths = new Uint32Array(capacity);
  }
}

function fault(queueIndex: number, what: string): EstaloError {
  return new EstaloError("ERR_ESTALO_GUEST_FAULT", `queue ${queueIndex}: ${what}`, {
    data: { queueIndex },
  });
}

/** An active queue; made by the transport when the driver sets DRIVER_OK, dropped at reset. */
export class VirtQueue {
  readonly index: number;
  /** Number of entries. */
  readonly size: number;

  readonly #memory: GuestMemory;
  readonly #eventIdx: boolean;
  readonly #indirect: boolean;
  readonly #descriptors: Uint32Array;
  readonly #avail: Uint16Array;
  readonly #usedHalves: Uint16Array;
  readonly #usedWords: Uint32Array;
  // An indirect table, copied here before it is walked.
  readonly #table: Uint32Array;

  #nextAvail = 0;
  // The driver's index as last loaded: heads up to it may be read without another acquire.
  #seenAvail = 0;
  #nextUsed = 0;
  #publishedUsed = 0;

  /**
   * Raises ERR_ESTALO_GUEST_FAULT if size, alignment or place in memory breaks the specification.
   */
  constructor(memory: GuestMemory, layout: QueueLayout) {
    const { index, size } = layout;
    if (
      !(size >= 1 && size <= layout.maxSize && size <= regs.QUEUE_SIZE_MAX) ||
      (size & (size - 1)) !== 0
    ) {
      throw fault(index, `size ${size} is not a power of two up to ${layout.maxSize}`);
    }
    if (layout.descriptorTable % regs.DESCRIPTOR_ALIGN_BYTES !== 0) {
      throw fault(index, "descriptor table is not 16-aligned");
    }
    const availBytes = regs.RING_FIXED_BYTES + size * regs.AVAIL_ENTRY_BYTES;
    const usedBytes = regs.RING_FIXED_BYTES + size * regs.USED_ENTRY_BYTES;
    this.index = index;
    this.size = size;
    this.#memory = memory;
    this.#eventIdx = layout.eventIdx;
    this.#indirect = layout.indirect;
    this.#descriptors = memory.ring32(layout.descriptorTable, size * regs.DESCRIPTOR_BYTES);
    this.#avail = memory.ring16(layout.availRing, availBytes);
    this.#usedHalves = memory.ring16(layout.usedRing, usedBytes);
    // All but the event field, which is no whole word.
    this.#usedWords = memory.ring32(layout.usedRing, usedBytes - 2);
    this.#table = new Uint32Array(layout.indirect ? size * DESCRIPTOR_WORDS : 0);
  }

  /** The device's counters. Everything added must have been published. */
  save(): QueueState {
    return { version: 1, nextAvail: this.#nextAvail, nextUsed: this.#publishedUsed };
  }

  /** Continues where a snapshot stopped; called before the first `next`. */
  restore(state: QueueState): void {
    this.#nextAvail = this.#seenAvail = state.nextAvail & regs.INDEX_MASK;
    this.#nextUsed = this.#publishedUsed = state.nextUsed & regs.INDEX_MASK;
  }

  /**
   * Takes the next available chain into `chain`; false if the driver has offered no more.
   * Raises ERR_ESTALO_GUEST_FAULT on a chain that breaks a rule, and on an index that cannot be
   * true.
   */
  next(chain: DescriptorChain): boolean {
    if (this.#nextAvail === this.#seenAvail && !this.#loadAvail()) return false;
    const head = this.#avail[AVAIL_FIRST + (this.#nextAvail & (this.size - 1))];
    if (head >= this.size) throw fault(this.index, `head ${head} is outside the table`);
    this.#nextAvail = (this.#nextAvail + 1) & regs.INDEX_MASK;
    chain.head = head;
    chain.count = 0;
    chain.firstWritable = -1;
    chain.readableBytes = 0;
    chain.writableBytes = 0;
    this.#walk(chain, this.#descriptors, this.size, head, false);
    if (chain.firstWritable < 0) chain.firstWritable = chain.count;
    return true;
  }

  /**
   * Puts back the chain that `next` has just returned: the next call returns it (read anew) again.
   */
  undoNext(): void {
    this.#nextAvail = (this.#nextAvail - 1) & regs.INDEX_MASK;
  }

  /** Whether the driver has offered chains that were not taken, as of now. */
  hasAvailable(): boolean {
    return this.#nextAvail !== this.#seenAvail || this.#loadAvail();
  }

  /**
   * Adds a used entry to the next `publish`. `writtenBytes`: how much of the writable part was
   * written.
   */
  addUsed(head: number, writtenBytes: number): void {
    const entry = USED_FIRST + (this.#nextUsed & (this.size - 1)) * 2;
    this.#usedWords[entry] = head;
    this.#usedWords[entry + 1] = writtenBytes;
    this.#nextUsed = (this.#nextUsed + 1) & regs.INDEX_MASK;
  }

  /**
   * Shows the driver all entries added since the last call; true if it wants an interrupt for them.
   */
  publish(): boolean {
    const previous = this.#publishedUsed;
    const next = this.#nextUsed;
    if (next === previous) return false;
    this.#publishedUsed = next;
    // Sequentially consistent: the entries before it, the driver's wish read after it (§ 2.7.7.2).
    Atomics.store(this.#usedHalves, RING_INDEX, next);
    if (!this.#eventIdx) {
      const flags = Atomics.load(this.#avail, RING_FLAGS);
      return (flags & regs.AVAIL_NO_INTERRUPT_MASK) === 0;
    }
    const usedEvent = Atomics.load(this.#avail, AVAIL_FIRST + this.size);
    const passed = (next - usedEvent - 1) & regs.INDEX_MASK;
    return passed < ((next - previous) & regs.INDEX_MASK);
  }

  /** Asks the driver not to ring while its queue is being worked on. */
  disableNotifications(): void {
    // With EVENT_IDX nothing is needed: it rings once when it passes avail_event, which stays
    // behind.
    if (!this.#eventIdx) {
      Atomics.store(this.#usedHalves, RING_FLAGS, regs.USED_NO_NOTIFY_MASK);
    }
  }

  /**
   * Asks the driver to ring for the next chain it offers. True if it offered one meanwhile, for
   * which it may not ring: process again.
   */
  enableNotifications(): boolean {
    if (this.#eventIdx) {
      const availEvent = this.#usedHalves.length - 1;
      Atomics.store(this.#usedHalves, availEvent, this.#nextAvail);
    } else {
      Atomics.store(this.#usedHalves, RING_FLAGS, 0);
    }
    return this.hasAvailable();
  }

  /** Loads the driver's index (acquire); true if it is ahead of what was taken. */
  #loadAvail(): boolean {
    const index = Atomics.load(this.#avail, RING_INDEX);
    const waiting = (index - this.#nextAvail) & regs.INDEX_MASK;
    if (waiting > this.size) {
      throw fault(this.index, `${waiting} entries available in a queue of ${this.size}`);
    }
    this.#seenAvail = index;
    return waiting !== 0;
  }

  /**
   * Appends the descriptors from `first` on to `chain`. Bounded: each step adds a segment, a chain
   * holds at most `size` of them, and an indirect table is entered once, as the chain's end.
   */
  #walk(
    chain: DescriptorChain,
    table: Uint32Array,
    tableSize: number,
    first: number,
    insideIndirect: boolean,
  ): void {
    let at = first;
    for (;;) {
      const word = at * DESCRIPTOR_WORDS;
      const address = table[word] + table[word + 1] * TWO_POW_32;
      const length = table[word + 2];
      const flagsAndNext = table[word + 3];
      if ((flagsAndNext & regs.DESC_INDIRECT_MASK) !== 0) {
        if (insideIndirect) throw fault(this.index, "indirect table inside an indirect table");
        this.#walkIndirect(chain, address, length, flagsAndNext);
        return;
      }
      this.#append(chain, address, length, (flagsAndNext & regs.DESC_WRITE_MASK) !== 0);
      if ((flagsAndNext & regs.DESC_NEXT_MASK) === 0) return;
      at = flagsAndNext >>> 16;
      if (at >= tableSize) throw fault(this.index, `next descriptor ${at} is outside its table`);
    }
  }

  #walkIndirect(chain: DescriptorChain, address: Gpa, length: number, flags: number): void {
    const entries = length / regs.DESCRIPTOR_BYTES;
    if (!this.#indirect) throw fault(this.index, "indirect descriptor was not negotiated");
    if ((flags & regs.DESC_NEXT_MASK) !== 0) {
      throw fault(this.index, "indirect descriptor has a next");
    }
    if (!Number.isInteger(entries) || entries < 1 || entries > this.size) {
      throw fault(this.index, `indirect table of ${length} bytes`);
    }
    this.#memory.copyWords(address, this.#table, entries * DESCRIPTOR_WORDS);
    this.#walk(chain, this.#table, entries, 0, true);
  }

  #append(chain: DescriptorChain, address: Gpa, length: number, writable: boolean): void {
    const at = chain.count;
    if (at >= this.size) throw fault(this.index, "chain is longer than the queue");
    if (length === 0) throw fault(this.index, "descriptor of no bytes");
    if (!this.#memory.contains(address, length)) {
      this.#memory.check(address, length);
    }
    if (writable) {
      if (chain.firstWritable < 0) chain.firstWritable = at;
      chain.writableBytes += length;
    } else {
      if (chain.firstWritable >= 0) {
        throw fault(this.index, "device-readable descriptor after a device-writable one");
      }
      chain.readableBytes += length;
    }
    chain.addresses[at] = address;
    chain.lengths[at] = length;
    chain.count = at + 1;
  }
}
