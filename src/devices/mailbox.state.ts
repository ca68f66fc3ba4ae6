/**
 * Shared words of a user's port or MMIO device: its register image, and a mailbox for one access at a time,
 * that of the vCPU which holds the device's lock.
 *
 *     MODE              back, before any vCPU runs
 *     ACCESS, VALUE     front, before REQUEST
 *     REQUEST           front: number of the access that waits or was the last
 *     RESULT            back, before ANSWER
 *     ANSWER            back: number of the access that was answered last
 *     GONE              back: 1 when nobody will answer any more
 *     READ_COUNT, …     front
 *     image             back: what reads find that wait for nobody
 *
 * REQUEST, ANSWER and GONE are stored and loaded by Atomics. The front stores REQUEST and then looks at GONE;
 * the back stores GONE and then looks at REQUEST: one of them sees the other.
 */
import { FIRST_STATE_WORD } from "./device.js";

export const MODE_WORD = FIRST_STATE_WORD;
export const ACCESS_WORD = FIRST_STATE_WORD + 1;
export const VALUE_WORD = FIRST_STATE_WORD + 2;
export const REQUEST_WORD = FIRST_STATE_WORD + 3;
export const RESULT_WORD = FIRST_STATE_WORD + 4;
export const ANSWER_WORD = FIRST_STATE_WORD + 5;
export const GONE_WORD = FIRST_STATE_WORD + 6;
export const READ_COUNT_WORD = FIRST_STATE_WORD + 7;
export const WRITE_COUNT_WORD = FIRST_STATE_WORD + 8;

/** Bits of MODE: reads, and writes, wait for the back. */
export const MODE_READS_WAIT = 1;
export const MODE_WRITES_WAIT = 2;

/** Most bytes of a window. */
export const MAILBOX_WINDOW_BYTES_MAX = 4096;

/** What a read gives that nobody answers, as from a bus without a device. */
export const ALL_ONES = 2 ** 32 - 1;

const IMAGE_WORD = FIRST_STATE_WORD + 15;

export const MAILBOX_WORDS = IMAGE_WORD + MAILBOX_WINDOW_BYTES_MAX / Int32Array.BYTES_PER_ELEMENT;

/** The register image as bytes. */
export function imageBytes(state: Int32Array): Uint8Array {
  return new Uint8Array(
    state.buffer,
    state.byteOffset + IMAGE_WORD * Int32Array.BYTES_PER_ELEMENT,
    MAILBOX_WINDOW_BYTES_MAX,
  );
}

/** An access in one number: offset in the window, log2 of its size, direction. */
export function encodeAccess(offset: number, sizeBytes: number, isWrite: boolean): number {
  return offset + MAILBOX_WINDOW_BYTES_MAX * (Math.log2(sizeBytes) + (isWrite ? 4 : 0));
}

/** As above, the other way. */
export function decodeAccess(code: number) {
  const kind = Math.floor(code / MAILBOX_WINDOW_BYTES_MAX);
  return {
    offset: code % MAILBOX_WINDOW_BYTES_MAX,
    sizeBytes: 1 << (kind % 4),
    isWrite: kind >= 4,
  };
}
