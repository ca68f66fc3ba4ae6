/**
 * Shared words of the 16550A: registers by the front, and a byte ring for each direction.
 *
 *     transmit   front ─▶ [ 4096 bytes ] ─▶ back        head: front, tail: back
 *     receive    back  ─▶ [  256 bytes ] ─▶ front       head: back,  tail: front
 *     loopback   front ─▶ [   16 bytes ] ─▶ front       only while MCR.LOOP
 *
 * Heads and tails count bytes and wrap as i32; a ring holds `head - tail`. Words that both sides
 * touch are loaded and stored with Atomics, sequentially consistent, because each handshake is of
 * the form "store mine, then load yours" on both sides.
 */
import { FIRST_STATE_WORD } from "./device.js";
import { FIFO_BYTES } from "./serial-16550.regs.js";

/** Capacity of the transmit ring. */
export const TRANSMIT_BYTES = 4096;
/**
 * With less room than this THRE is clear: the driver may send a FIFO's worth, and once more,
 * unseen.
 */
export const TRANSMIT_ROOM_BYTES = 4 * FIFO_BYTES;
/** A blocked transmitter is freed when no more than this is left in the ring. */
export const TRANSMIT_LOW_BYTES = TRANSMIT_BYTES / 2;
/** Capacity of the receive ring. */
export const RECEIVE_BYTES = 256;

/** Registers; front writes. IER and MCR are read by the back, hence stored with Atomics. */
export const IER_WORD = FIRST_STATE_WORD;
export const FCR_WORD = FIRST_STATE_WORD + 1;
export const LCR_WORD = FIRST_STATE_WORD + 2;
export const MCR_WORD = FIRST_STATE_WORD + 3;
export const SCRATCH_WORD = FIRST_STATE_WORD + 4;
export const DIVISOR_WORD = FIRST_STATE_WORD + 5;
/** LSR's sticky error bits; front writes. */
export const LSR_ERRORS_WORD = FIRST_STATE_WORD + 6;
/** MSR's change bits; front writes. */
export const MSR_DELTA_WORD = FIRST_STATE_WORD + 7;
/** 1: a THRE interrupt was not yet acknowledged; both sides, Atomics. */
export const THRE_PENDING_WORD = FIRST_STATE_WORD + 8;
/** 1: the ring is nearly full, THRE is clear; set by the front, cleared by the back, Atomics. */
export const TRANSMIT_BLOCKED_WORD = FIRST_STATE_WORD + 9;
/**
 * 1: the back has more to deliver and wants to hear of an empty receive ring; both sides, Atomics.
 */
export const RECEIVE_WAITING_WORD = FIRST_STATE_WORD + 10;
/** 1 once the guest has raised RTS outside loopback; front writes, Atomics. */
export const RTS_SEEN_WORD = FIRST_STATE_WORD + 11;

export const TRANSMIT_HEAD_WORD = FIRST_STATE_WORD + 12;
export const TRANSMIT_TAIL_WORD = FIRST_STATE_WORD + 13;
export const RECEIVE_HEAD_WORD = FIRST_STATE_WORD + 14;
export const RECEIVE_TAIL_WORD = FIRST_STATE_WORD + 15;
export const LOOP_HEAD_WORD = FIRST_STATE_WORD + 16;
export const LOOP_TAIL_WORD = FIRST_STATE_WORD + 17;

/** Counters under Firecracker's metric names; front writes. */
export const READ_COUNT_WORD = FIRST_STATE_WORD + 18;
export const WRITE_COUNT_WORD = FIRST_STATE_WORD + 19;
export const MISSED_READ_COUNT_WORD = FIRST_STATE_WORD + 20;
export const MISSED_WRITE_COUNT_WORD = FIRST_STATE_WORD + 21;
/** Bytes written to a full ring, and lost. */
export const ERROR_COUNT_WORD = FIRST_STATE_WORD + 22;

const RINGS_WORD = FIRST_STATE_WORD + 23;
const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT;

export const SERIAL_WORDS = RINGS_WORD + (TRANSMIT_BYTES + RECEIVE_BYTES + FIFO_BYTES) / WORD_BYTES;

/** The three rings' bytes. */
export interface SerialRings {
  readonly transmit: Uint8Array;
  readonly receive: Uint8Array;
  readonly loop: Uint8Array;
}

/** Views of the rings within the shared words. */
export function serialRings(state: Int32Array): SerialRings {
  const at = state.byteOffset + RINGS_WORD * WORD_BYTES;
  return {
    transmit: new Uint8Array(state.buffer, at, TRANSMIT_BYTES),
    receive: new Uint8Array(state.buffer, at + TRANSMIT_BYTES, RECEIVE_BYTES),
    loop: new Uint8Array(state.buffer, at + TRANSMIT_BYTES + RECEIVE_BYTES, FIFO_BYTES),
  };
}

// In the order of the words IER to RTS_SEEN.
const REGISTER_COUNT = RTS_SEEN_WORD - IER_WORD + 1;

/** The front's counters, u32 ones that wrap, by Firecracker's names. */
export function serialCounters(state: Int32Array) {
  return {
    read_count: state[READ_COUNT_WORD] >>> 0,
    write_count: state[WRITE_COUNT_WORD] >>> 0,
    missed_read_count: state[MISSED_READ_COUNT_WORD] >>> 0,
    missed_write_count: state[MISSED_WRITE_COUNT_WORD] >>> 0,
    error_count: state[ERROR_COUNT_WORD] >>> 0,
  };
}

/** The UART in a snapshot. */
export interface SerialState {
  readonly version: 1;
  /** Words IER to RTS_SEEN, in order. */
  readonly registers: readonly number[];
  /** Bytes sent but not yet taken by the back. */
  readonly transmit: readonly number[];
  /** Bytes received but not yet read by the guest. */
  readonly receive: readonly number[];
}

function pendingBytes(ring: Uint8Array, head: number, tail: number): number[] {
  const bytes: number[] = [];
  for (let at = tail; at !== head; at = (at + 1) | 0) bytes.push(ring[at & (ring.length - 1)]);
  return bytes;
}

/** The record of a UART whose vCPUs and back stand still. */
export function saveSerial(state: Int32Array): SerialState {
  const rings = serialRings(state);
  return {
    version: 1,
    registers: [...state.subarray(IER_WORD, IER_WORD + REGISTER_COUNT)],
    transmit: pendingBytes(rings.transmit, state[TRANSMIT_HEAD_WORD], state[TRANSMIT_TAIL_WORD]),
    receive: pendingBytes(rings.receive, state[RECEIVE_HEAD_WORD], state[RECEIVE_TAIL_WORD]),
  };
}

/** Writes a record into fresh shared words. */
export function restoreSerial(state: Int32Array, record: SerialState): void {
  const rings = serialRings(state);
  const transmit = record.transmit.slice(0, TRANSMIT_BYTES);
  const receive = record.receive.slice(0, RECEIVE_BYTES);
  state.set(record.registers.slice(0, REGISTER_COUNT), IER_WORD);
  rings.transmit.set(transmit);
  rings.receive.set(receive);
  state[TRANSMIT_TAIL_WORD] = 0;
  state[TRANSMIT_HEAD_WORD] = transmit.length;
  state[RECEIVE_TAIL_WORD] = 0;
  state[RECEIVE_HEAD_WORD] = receive.length;
}
