/**
 * Shared words of the i8042. Two byte queues, each with one producer, feed the one output buffer
 * that the guest sees: replies (front) are read before scan codes (back). Heads and tails count up
 * and wrap as i32.
 */
import { FIRST_STATE_WORD } from "./device.js";

/** Command byte; front writes. */
export const CTR_WORD = FIRST_STATE_WORD;
/** Output port; front writes. */
export const OUTPUT_PORT_WORD = FIRST_STATE_WORD + 1;
/** The command that waits for its parameter byte, or 0; front writes. */
export const PENDING_COMMAND_WORD = FIRST_STATE_WORD + 2;
/** 1 if the last write went to the command port; front writes. */
export const LAST_WAS_COMMAND_WORD = FIRST_STATE_WORD + 3;
/** Reply waiting to be read, plus 1; 0 if none; front writes. */
export const REPLY_WORD = FIRST_STATE_WORD + 4;
/** Scan codes ever queued; back writes. */
export const SCANCODE_HEAD_WORD = FIRST_STATE_WORD + 5;
/** Scan codes ever read; front writes. */
export const SCANCODE_TAIL_WORD = FIRST_STATE_WORD + 6;
/** The scan codes, one a word. */
export const SCANCODE_FIRST_WORD = FIRST_STATE_WORD + 7;
/** Capacity of the scan code queue (Firecracker's buffer is 16 bytes). */
export const SCANCODE_COUNT = 16;

/** Counters under Firecracker's metric names; front writes. */
export const READ_COUNT_WORD = SCANCODE_FIRST_WORD + SCANCODE_COUNT;
export const WRITE_COUNT_WORD = READ_COUNT_WORD + 1;
export const MISSED_READ_COUNT_WORD = READ_COUNT_WORD + 2;
export const MISSED_WRITE_COUNT_WORD = READ_COUNT_WORD + 3;
export const RESET_COUNT_WORD = READ_COUNT_WORD + 4;

export const I8042_WORDS = READ_COUNT_WORD + 5;

/** The front's counters, u32 ones that wrap, by Firecracker's names. */
export function i8042Counters(state: Int32Array) {
  return {
    read_count: state[READ_COUNT_WORD] >>> 0,
    write_count: state[WRITE_COUNT_WORD] >>> 0,
    missed_read_count: state[MISSED_READ_COUNT_WORD] >>> 0,
    missed_write_count: state[MISSED_WRITE_COUNT_WORD] >>> 0,
    reset_count: state[RESET_COUNT_WORD] >>> 0,
  };
}

/** The controller in a snapshot. */
export interface I8042State {
  readonly version: 1;
  readonly ctr: number;
  readonly outputPort: number;
  readonly pendingCommand: number;
  readonly lastWasCommand: boolean;
  /** The reply not yet read, or null. */
  readonly reply: number | null;
  /** Scan codes not yet read. */
  readonly scancodes: readonly number[];
}

/** The record of a controller whose vCPUs stand still. */
export function saveI8042(state: Int32Array): I8042State {
  const scancodes: number[] = [];
  for (let at = state[SCANCODE_TAIL_WORD]; at !== state[SCANCODE_HEAD_WORD]; at = (at + 1) | 0) {
    scancodes.push(state[SCANCODE_FIRST_WORD + (at & (SCANCODE_COUNT - 1))]);
  }
  const reply = state[REPLY_WORD];
  return {
    version: 1,
    ctr: state[CTR_WORD],
    outputPort: state[OUTPUT_PORT_WORD],
    pendingCommand: state[PENDING_COMMAND_WORD],
    lastWasCommand: state[LAST_WAS_COMMAND_WORD] !== 0,
    reply: reply === 0 ? null : reply - 1,
    scancodes,
  };
}

/** Writes a record into fresh shared words. */
export function restoreI8042(state: Int32Array, record: I8042State): void {
  state[CTR_WORD] = record.ctr;
  state[OUTPUT_PORT_WORD] = record.outputPort;
  state[PENDING_COMMAND_WORD] = record.pendingCommand;
  state[LAST_WAS_COMMAND_WORD] = record.lastWasCommand ? 1 : 0;
  state[REPLY_WORD] = record.reply === null ? 0 : record.reply + 1;
  const scancodes = record.scancodes.slice(0, SCANCODE_COUNT);
  for (const [index, code] of scancodes.entries()) state[SCANCODE_FIRST_WORD + index] = code;
  state[SCANCODE_TAIL_WORD] = 0;
  state[SCANCODE_HEAD_WORD] = scancodes.length;
}
