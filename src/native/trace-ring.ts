/**
 * Reading a vCPU's trace ring: its last exits, and the live stream of them.
 *
 * The run loop in vcpu_loop.c is the only writer and never waits; a reader that is too slow loses records
 * and is told how many. The layout is in shared_layout.h.
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
  TRACE_RECORDS,
} from "./layouts.js";

/** Records that can be read: the slot after the newest may be half written. */
const KEPT = TRACE_RECORDS - 1;

/** One exit of a vCPU. */
export interface ExitRecord {
  /** KVM_EXIT_*. */
  readonly reason: number;
  /** Port or guest-physical address; 0 when the exit is not an access. */
  readonly address: number;
  /** 1, 2, 4 or 8 bytes; 0 when the exit is not an access. */
  readonly sizeBytes: number;
  readonly isWrite: boolean;
  /** Repetitions of a string port instruction, at most 255; else 1. */
  readonly count: number;
  /** What was written, or what the read was answered with. */
  readonly data: bigint;
  /** The guest's RIP, 0 unless somebody asked for it. */
  readonly rip: bigint;
  /** The host's TSC at the exit. */
  readonly exitTsc: bigint;
  /** TSC ticks spent in the guest before the exit, at most 2^32 - 1. */
  readonly guestTicks: number;
  /** TSC ticks from the exit until the guest went on, at most 2^32 - 1. */
  readonly hostTicks: number;
}

/** A reader of one vCPU's trace ring; any number may read at once. */
export class TraceReader {
  readonly #bytes: DataView;
  #next: bigint;
  #lost = 0n;

  /** Starts `back` records before the newest one, or as far back as there are (0: what comes from now on). */
  constructor(buffer: SharedArrayBuffer, offsetBytes: number, back = 0) {
    this.#bytes = new DataView(
      buffer,
      offsetBytes,
      TRACE_HEADER_BYTES + TRACE_RECORDS * TRACE_RECORD_BYTES,
    );
    const written = this.#written();
    const wanted = BigInt(Math.min(back, KEPT));
    this.#next = written > wanted ? written - wanted : 0n;
  }

  /** Records that were overwritten before they could be read. */
  get lost(): bigint {
    return this.#lost;
  }

  /** All records since the last call, oldest first. */
  read(): ExitRecord[] {
    const records: ExitRecord[] = [];
    const written = this.#written();
    const oldest = written - BigInt(KEPT);
    if (this.#next < oldest) {
      this.#lost += oldest - this.#next;
      this.#next = oldest;
    }
    for (; this.#next < written; this.#next += 1n) {
      const record = this.#record(Number(this.#next % BigInt(TRACE_RECORDS)));
      if (this.#written() - this.#next > BigInt(KEPT)) this.#lost += 1n;
      else records.push(record);
    }
    return records;
  }

  #written(): bigint {
    return this.#bytes.getBigUint64(0, true);
  }

  #record(slot: number): ExitRecord {
    const bytes = this.#bytes;
    const at = TRACE_HEADER_BYTES + slot * TRACE_RECORD_BYTES;
    return {
      reason: bytes.getUint32(at + TRACE_RECORD_REASON_OFFSET, true),
      address: Number(bytes.getBigUint64(at + TRACE_RECORD_ADDRESS_OFFSET, true)),
      sizeBytes: bytes.getUint8(at + TRACE_RECORD_SIZE_BYTES_OFFSET),
      isWrite: bytes.getUint8(at + TRACE_RECORD_IS_WRITE_OFFSET) !== 0,
      count: bytes.getUint8(at + TRACE_RECORD_COUNT_OFFSET),
      data: bytes.getBigUint64(at + TRACE_RECORD_DATA_OFFSET, true),
      rip: bytes.getBigUint64(at + TRACE_RECORD_RIP_OFFSET, true),
      exitTsc: bytes.getBigUint64(at + TRACE_RECORD_EXIT_TSC_OFFSET, true),
      guestTicks: bytes.getUint32(at + TRACE_RECORD_GUEST_TICKS_OFFSET, true),
      hostTicks: bytes.getUint32(at + TRACE_RECORD_HOST_TICKS_OFFSET, true),
    };
  }
}
