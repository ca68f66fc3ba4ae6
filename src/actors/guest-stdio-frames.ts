/**
 * Frames: how the standard streams of the guest's command share the serial line with the guest's console.
 *
 *     +------+------+------+--------+------------------+
 *     | 0xE5 | 0x7A | type | length | length bytes     |     length: 0 to 255
 *     +------+------+------+--------+------------------+
 *
 * All other bytes are console text. The mark cannot be part of UTF-8 text: 0xE5 begins a character of three
 * bytes, and 0x7A cannot continue one. The guest's side is guest/init/frames.c.
 */

/** Guest to host. */
export const FRAME_STDOUT = 1;
export const FRAME_STDERR = 2;
/** The command runs; payload: its process id, u32 little-endian. */
export const FRAME_STARTED = 3;
/** Host to guest; no payload: end of input. */
export const FRAME_STDIN = 16;
/** Rows and columns, u16 little-endian each. */
export const FRAME_WINSIZE = 17;
/** The signal's number, u8. */
export const FRAME_SIGNAL = 18;

export const FRAME_PAYLOAD_BYTES_MAX = 255;

const MARK_0 = 0xe5;
const MARK_1 = 0x7a;
const HEADER_BYTES = 4;
const GUEST_TYPES: ReadonlySet<number> = new Set([FRAME_STDOUT, FRAME_STDERR, FRAME_STARTED]);

/** One frame of at most FRAME_PAYLOAD_BYTES_MAX bytes. */
export function encodeFrame(type: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  frame.set([MARK_0, MARK_1, type, payload.length]);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** As many frames as the bytes need. */
export function encodeFrames(type: number, bytes: Uint8Array): Uint8Array {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += FRAME_PAYLOAD_BYTES_MAX) {
    frames.push(encodeFrame(type, bytes.subarray(at, at + FRAME_PAYLOAD_BYTES_MAX)));
  }
  return Buffer.concat(frames);
}

/** Where a parser puts what it found, in order. Slices are views of what was pushed, or of a copy of it. */
export interface FrameHandlers {
  onFrame(type: number, payload: Uint8Array): void;
  onText(bytes: Uint8Array): void;
}

/**
 * Takes the serial line apart, however its bytes are split.
 *
 * A mark with a type that no guest sends is text: a guest that writes garbage gets its garbage shown. At
 * most one incomplete frame is kept.
 */
export class FrameParser {
  readonly #handlers: FrameHandlers;
  #kept: Uint8Array = new Uint8Array(0);

  constructor(handlers: FrameHandlers) {
    this.#handlers = handlers;
  }

  push(bytes: Uint8Array): void {
    const all = this.#kept.length === 0 ? bytes : Buffer.concat([this.#kept, bytes]);
    const done = this.#parse(all);
    this.#kept = all.subarray(done);
  }

  /** The line has ended: what was kept for a frame that did not come whole is text. */
  finish(): void {
    this.#text(this.#kept);
    this.#kept = new Uint8Array(0);
  }

  /** Returns where the incomplete frame at the end begins. */
  #parse(bytes: Uint8Array): number {
    let textStart = 0;
    let at = bytes.indexOf(MARK_0);
    while (at >= 0) {
      const length = frameLengthAt(bytes, at);
      if (length > 0) {
        this.#text(bytes.subarray(textStart, at));
        this.#handlers.onFrame(bytes[at + 2], bytes.subarray(at + HEADER_BYTES, at + length));
        textStart = at + length;
      } else if (length === INCOMPLETE) {
        this.#text(bytes.subarray(textStart, at));
        return at;
      }
      at = bytes.indexOf(MARK_0, length > 0 ? textStart : at + 1);
    }
    this.#text(bytes.subarray(textStart));
    return bytes.length;
  }

  #text(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#handlers.onText(bytes);
  }
}

const NO_FRAME = 0;
const INCOMPLETE = -1;

/** The whole length of the frame at `at`, NO_FRAME, or INCOMPLETE while it may still become one. */
function frameLengthAt(bytes: Uint8Array, at: number): number {
  const available = bytes.length - at;
  if (available >= 2 && bytes[at + 1] !== MARK_1) return NO_FRAME;
  if (available >= 3 && !GUEST_TYPES.has(bytes[at + 2])) return NO_FRAME;
  if (available < HEADER_BYTES) return INCOMPLETE;
  const length = HEADER_BYTES + bytes[at + 3];
  return available < length ? INCOMPLETE : length;
}
