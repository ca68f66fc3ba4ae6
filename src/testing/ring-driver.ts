/**
 * Plays the driver's side of one split virtqueue in guest memory: chains in, used entries out.
 *
 * It writes what it is told, right or wrong; see `raw` fields for breaking rules on purpose.
 */

import { type QueueLayout, VirtQueue } from "../devices/virtio/queue.js";
import * as regs from "../devices/virtio/queue.regs.js";
import type { GuestMemory } from "../native/guest-memory.js";
import { alignUp, PAGE_BYTES } from "../units.js";

/** One descriptor: a buffer, or (with `table`) an indirect table of descriptors. */
export interface Segment {
  readonly address: number;
  readonly length: number;
  readonly writable?: boolean;
}

/** A chain that the device gave back. */
export interface UsedEntry {
  readonly head: number;
  readonly length: number;
}

/** How a queue is laid out. */
export interface RingDriverOptions {
  readonly size?: number;
  readonly eventIdx?: boolean;
  /** Where the rings start (default 4096); see `endOfRings` for where they end. */
  readonly start?: number;
}

const INDEX_MODULUS = regs.INDEX_MASK + 1;

/** See the file's header. */
export class RingDriver {
  readonly size: number;
  readonly eventIdx: boolean;
  readonly descriptorTable: number;
  readonly availRing: number;
  readonly usedRing: number;
  /** First page behind the rings. */
  readonly endOfRings: number;

  readonly #memory: GuestMemory;
  #availIndex = 0;
  #usedIndex = 0;
  #kickedAt = 0;
  #nextDescriptor = 0;

  constructor(memory: GuestMemory, options: RingDriverOptions = {}) {
    this.#memory = memory;
    this.size = options.size ?? 256;
    this.eventIdx = options.eventIdx ?? true;
    this.descriptorTable = options.start ?? PAGE_BYTES;
    this.availRing = this.descriptorTable + this.size * regs.DESCRIPTOR_BYTES;
    const availBytes = regs.RING_FIXED_BYTES + this.size * regs.AVAIL_ENTRY_BYTES;
    this.usedRing = alignUp(this.availRing + availBytes, regs.USED_ALIGN_BYTES);
    const usedBytes = regs.RING_FIXED_BYTES + this.size * regs.USED_ENTRY_BYTES;
    this.endOfRings = alignUp(this.usedRing + usedBytes, PAGE_BYTES);
    memory.fill(this.descriptorTable, this.usedRing + usedBytes - this.descriptorTable, 0);
  }

  /** The device's view of this queue, as a transport would make it. */
  createQueue(overrides: Partial<QueueLayout> = {}): VirtQueue {
    return new VirtQueue(this.#memory, {
      index: 0,
      size: this.size,
      maxSize: this.size,
      descriptorTable: this.descriptorTable,
      availRing: this.availRing,
      usedRing: this.usedRing,
      eventIdx: this.eventIdx,
      indirect: true,
      ...overrides,
    });
  }

  /** Writes a descriptor, at any table. */
  writeDescriptor(
    table: number,
    index: number,
    segment: Segment,
    flags: number,
    next: number,
  ): void {
    const at = table + index * regs.DESCRIPTOR_BYTES;
    const write = segment.writable === true ? regs.DESC_WRITE_MASK : 0;
    this.#memory.writeU64(at, segment.address);
    this.#memory.writeU32(at + 8, segment.length);
    this.#memory.writeU16(at + 12, flags | write);
    this.#memory.writeU16(at + 14, next);
  }

  /** Lays a chain into the descriptor table; returns its head. */
  writeChain(segments: readonly Segment[]): number {
    const head = this.#nextDescriptor;
    for (const [index, segment] of segments.entries()) {
      const at = (head + index) % this.size;
      const more = index < segments.length - 1;
      const next = (at + 1) % this.size;
      const flags = more ? regs.DESC_NEXT_MASK : 0;
      this.writeDescriptor(this.descriptorTable, at, segment, flags, more ? next : 0);
    }
    this.#nextDescriptor = (head + segments.length) % this.size;
    return head;
  }

  /**
   * Lays a chain into an indirect table at `table`; returns the head of the one descriptor that
   * names it.
   */
  writeIndirect(table: number, segments: readonly Segment[]): number {
    for (const [index, segment] of segments.entries()) {
      const more = index < segments.length - 1;
      this.writeDescriptor(table, index, segment, more ? regs.DESC_NEXT_MASK : 0, index + 1);
    }
    const head = this.#nextDescriptor;
    const named = { address: table, length: segments.length * regs.DESCRIPTOR_BYTES };
    this.writeDescriptor(this.descriptorTable, head, named, regs.DESC_INDIRECT_MASK, 0);
    this.#nextDescriptor = (head + 1) % this.size;
    return head;
  }

  /** Puts a head into the available ring and shows it. */
  offer(head: number): void {
    const slot = this.#availIndex % this.size;
    this.#memory.writeU16(this.availRing + 4 + slot * regs.AVAIL_ENTRY_BYTES, head);
    this.#availIndex = (this.#availIndex + 1) % INDEX_MODULUS;
    this.#memory.storeIndex(this.availRing + 2, this.#availIndex);
  }

  /** Writes and offers a chain; returns its head. */
  add(...segments: Segment[]): number {
    const head = this.writeChain(segments);
    this.offer(head);
    return head;
  }

  /** Whether a driver would ring for what it offered since the last call: VirtIO 1.2 § 2.7.10. */
  needsKick(): boolean {
    const previous = this.#kickedAt;
    this.#kickedAt = this.#availIndex;
    if (!this.eventIdx) {
      return (this.#memory.readU16(this.usedRing) & regs.USED_NO_NOTIFY_MASK) === 0;
    }
    const at = this.usedRing + 4 + this.size * regs.USED_ENTRY_BYTES;
    const passed = (this.#availIndex - this.#memory.readU16(at) - 1) & regs.INDEX_MASK;
    return passed < ((this.#availIndex - previous) & regs.INDEX_MASK);
  }

  /** Takes the used entries that are new. */
  takeUsed(): UsedEntry[] {
    const index = this.#memory.loadIndex(this.usedRing + 2);
    const entries: UsedEntry[] = [];
    while (this.#usedIndex !== index) {
      const at = this.usedRing + 4 + (this.#usedIndex % this.size) * regs.USED_ENTRY_BYTES;
      entries.push({ head: this.#memory.readU32(at), length: this.#memory.readU32(at + 4) });
      this.#usedIndex = (this.#usedIndex + 1) % INDEX_MODULUS;
    }
    return entries;
  }

  /** Wants an interrupt when the used index passes `index` (EVENT_IDX). */
  setUsedEvent(index: number): void {
    const at = this.availRing + 4 + this.size * regs.AVAIL_ENTRY_BYTES;
    this.#memory.writeU16(at, index & regs.INDEX_MASK);
  }

  /** Wants no interrupts, or wants them again (without EVENT_IDX). */
  setNoInterrupt(on: boolean): void {
    this.#memory.writeU16(this.availRing, on ? regs.AVAIL_NO_INTERRUPT_MASK : 0);
  }

  /** Starts both indices elsewhere, as if that many entries had passed. */
  startAt(index: number): void {
    this.#availIndex = this.#usedIndex = this.#kickedAt = index & regs.INDEX_MASK;
    this.#memory.storeIndex(this.availRing + 2, this.#availIndex);
    this.#memory.storeIndex(this.usedRing + 2, this.#usedIndex);
  }

  /** Shows an index, true or not. */
  showAvailIndex(index: number): void {
    this.#memory.storeIndex(this.availRing + 2, index & regs.INDEX_MASK);
  }
}
