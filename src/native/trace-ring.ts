/**
 * Trace rings: the last exits of a vCPU, and the live stream of them.
 *
 * The run loop in vcpu_loop.c is the only writer of a vCPU's ring and never waits; a reader that is too slow
 * loses records and is told how many. `TraceCursor` copies records out in bulk, `TraceReader` makes an object
 * of each, `TraceWriter` is the run loop's side for what the device host has to tell. The layout is in
 * shared_layout.h.
 */
import {
  TRACE_HEADER_BYTES,
  TRACE_RECORD_ADDRESS_OFFSET,
  TRACE_RECORD_BYTES,
  TRACE_RECORD_COUNT_OFFSET,
  TRACE_RECORD_DATA_OFFSET,
  TRACE_RECORD_EXIT_TSC_OFFSET,
  TRACE_RECORD_GUEST_TICKS_OFFSET,
  TRACE_RECORD_HOST_TICKS_OFFSET,
  TRACE_RECORD_IS_WRITE_OFFSET,
  TRACE_RECORD_REASON_OFFSET,
  TRACE_RECORD_RIP_OFFSET,
  TRACE_RECORD_SIZE_BYTES_OFFSET,
  TRACE_RECORD_VCPU_OFFSET,
  TRACE_RECORDS,
} from "./layouts.js";

/** Records that can be read: the slot after the newest may be half written. */
const KEPT = TRACE_RECORDS - 1;

/** A record in 32-bit words. */
export const TRACE_RECORD_WORDS = TRACE_RECORD_BYTES / 4;

/** One exit of a vCPU. */
export interface ExitRecord {
  /** KVM_EXIT_*; KVM_EXIT_INTR: the vCPU left the guest for a signal, to be paused or stopped. */
  readonly reason: number;
  /** Port or guest-physical address; 0 when the exit is not an access. */
  readonly address: number;
  /** 1, 2, 4 or 8 bytes; 0 when the exit is not an access. */
  readonly sizeBytes: number;
  readonly isWrite: boolean;
  /** Repetitions of a string port instruction; else 1. */
  readonly count: number;
  /** What was written, or what the read was answered with. */
  readonly data: bigint;
  /** The guest's RIP, 0 unless somebody asked for it. */
  readonly rip: bigint;
  /** The host's TSC at the exit; 0, as the two below, for exits from before anybody watched. */
  readonly exitTsc: bigint;
  /** TSC ticks spent in the guest before the exit. */
  readonly guestTicks: number;
  /** TSC ticks from the exit until the guest went on; 0 for an exit that was the last of its run. */
  readonly hostTicks: number;
}

/** A place in one trace ring from which records are copied out; any number may read a ring at once. */
export class TraceCursor {
  /** Records that were overwritten before they were copied. */
  lost = 0;

  readonly #written: BigUint64Array;
  readonly #records: Uint32Array;
  #next: number;

  /** Starts `back` records before the newest one, or as far back as there are (0: what comes from now on). */
  constructor(buffer: ArrayBufferLike, offsetBytes: number, back = 0) {
    this.#written = new BigUint64Array(buffer, offsetBytes, 1);
    this.#records = new Uint32Array(
      buffer,
      offsetBytes + TRACE_HEADER_BYTES,
      TRACE_RECORDS * TRACE_RECORD_WORDS,
    );
    this.#next = Math.max(0, this.#load() - Math.min(back, KEPT));
  }

  /** Which record of the ring's life comes next, from 0. */
  get next(): number {
    return this.#next;
  }

  /** Records there are to copy, those that may be lost included. */
  get waiting(): number {
    return this.#load() - this.#next;
  }

  /**
   * Copies the records since the last call to `target` from word `at`, oldest first, as many as fit; returns
   * how many. They are `next - count` to `next - 1` of the ring's life.
   */
  copy(target: Uint32Array, at = 0): number {
    this.#skipTo(this.#load() - KEPT);
    const room = Math.floor((target.length - at) / TRACE_RECORD_WORDS);
    const count = Math.min(this.#load() - this.#next, room, KEPT);
    const first = this.#next % TRACE_RECORDS;
    const beforeWrap = Math.min(count, TRACE_RECORDS - first);
    this.#copySlots(first, beforeWrap, target, at);
    this.#copySlots(0, count - beforeWrap, target, at + beforeWrap * TRACE_RECORD_WORDS);
    // What has been overwritten meanwhile may have been copied half old, half new.
    const torn = Math.min(count, Math.max(0, this.#load() - KEPT - this.#next));
    if (torn > 0) {
      const end = at + count * TRACE_RECORD_WORDS;
      target.copyWithin(at, at + torn * TRACE_RECORD_WORDS, end);
      this.lost += torn;
    }
    this.#next += count;
    return count - torn;
  }

  #load(): number {
    return Number(Atomics.load(this.#written, 0));
  }

  #skipTo(oldest: number): void {
    if (this.#next >= oldest) return;
    this.lost += oldest - this.#next;
    this.#next = oldest;
  }

  #copySlots(slot: number, count: number, target: Uint32Array, at: number): void {
    if (count === 0) return;
    const begin = slot * TRACE_RECORD_WORDS;
    target.set(this.#records.subarray(begin, begin + count * TRACE_RECORD_WORDS), at);
  }
}

/** A reader of one vCPU's trace ring; any number may read at once. */
export class TraceReader {
  readonly #cursor: TraceCursor;
  readonly #copy = new Uint32Array(KEPT * TRACE_RECORD_WORDS);
  readonly #bytes = new DataView(this.#copy.buffer);

  /** Starts `back` records before the newest one, or as far back as there are (0: what comes from now on). */
  constructor(buffer: SharedArrayBuffer, offsetBytes: number, back = 0) {
    this.#cursor = new TraceCursor(buffer, offsetBytes, back);
  }

  /** Records that were overwritten before they could be read. */
  get lost(): bigint {
    return BigInt(this.#cursor.lost);
  }

  /** All records since the last call, oldest first. */
  read(): ExitRecord[] {
    const count = this.#cursor.copy(this.#copy);
    return Array.from({ length: count }, (_, i) => this.#record(i * TRACE_RECORD_BYTES));
  }

  #record(at: number): ExitRecord {
    const bytes = this.#bytes;
    return {
      reason: bytes.getUint32(at + TRACE_RECORD_REASON_OFFSET, true),
      address: Number(bytes.getBigUint64(at + TRACE_RECORD_ADDRESS_OFFSET, true)),
      sizeBytes: bytes.getUint8(at + TRACE_RECORD_SIZE_BYTES_OFFSET),
      isWrite: bytes.getUint8(at + TRACE_RECORD_IS_WRITE_OFFSET) !== 0,
      count: bytes.getUint32(at + TRACE_RECORD_COUNT_OFFSET, true),
      data: bytes.getBigUint64(at + TRACE_RECORD_DATA_OFFSET, true),
      rip: bytes.getBigUint64(at + TRACE_RECORD_RIP_OFFSET, true),
      exitTsc: bytes.getBigUint64(at + TRACE_RECORD_EXIT_TSC_OFFSET, true),
      guestTicks: Number(bytes.getBigUint64(at + TRACE_RECORD_GUEST_TICKS_OFFSET, true)),
      hostTicks: Number(bytes.getBigUint64(at + TRACE_RECORD_HOST_TICKS_OFFSET, true)),
    };
  }
}

/** What the device host tells in a ring of its own; what is absent is 0. */
export interface HostRecord {
  /** KVM_EXIT_* or EXIT_NOTIFY. */
  readonly reason: number;
  /** Whose, or TRACE_NO_VCPU. */
  readonly vcpu: number;
  /** How many are told as one. */
  readonly count: number;
  /** Host TSC when it was noticed, low and high word. */
  readonly tscLow: number;
  readonly tscHigh: number;
  readonly address?: number;
  /** 4 when there is an address: a write. */
  readonly sizeBytes?: number;
  readonly data?: number;
}

/** The writer of a trace ring; a ring has one. */
export class TraceWriter {
  readonly #written: BigUint64Array;
  readonly #bytes: DataView;
  #count = 0;

  constructor(buffer: ArrayBufferLike) {
    this.#written = new BigUint64Array(buffer, 0, 1);
    this.#bytes = new DataView(buffer, TRACE_HEADER_BYTES, TRACE_RECORDS * TRACE_RECORD_BYTES);
  }

  write(record: HostRecord): void {
    const at = (this.#count % TRACE_RECORDS) * TRACE_RECORD_BYTES;
    const bytes = this.#bytes;
    const { address = 0, data = 0, sizeBytes = 0 } = record;
    bytes.setUint32(at + TRACE_RECORD_REASON_OFFSET, record.reason, true);
    bytes.setUint32(at + TRACE_RECORD_COUNT_OFFSET, record.count, true);
    bytes.setUint16(at + TRACE_RECORD_VCPU_OFFSET, record.vcpu, true);
    bytes.setUint32(at + TRACE_RECORD_EXIT_TSC_OFFSET, record.tscLow, true);
    bytes.setUint32(at + TRACE_RECORD_EXIT_TSC_OFFSET + 4, record.tscHigh, true);
    // Addresses of windows and numbers of queues: both fit in 32 bits.
    bytes.setUint32(at + TRACE_RECORD_ADDRESS_OFFSET, address, true);
    bytes.setUint32(at + TRACE_RECORD_DATA_OFFSET, data, true);
    bytes.setUint8(at + TRACE_RECORD_SIZE_BYTES_OFFSET, sizeBytes);
    bytes.setUint8(at + TRACE_RECORD_IS_WRITE_OFFSET, sizeBytes === 0 ? 0 : 1);
    this.#count += 1;
    Atomics.store(this.#written, 0, BigInt(this.#count));
  }
}
