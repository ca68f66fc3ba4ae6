/**
 * Frames between a server and a cell, its jailed process: 12 bytes, then the payload.
 *
 *     0 u32 payload's bytes │ 4 u32 stream │ 8 u8 type │ 9 zero, 3 bytes
 *
 * Whoever is in the cell may send anything: a frame that is longer than its reader takes, or of no known type,
 * ends the connection.
 */
import { EstaloError } from "../errors.js";

export const FRAME_HEADER_BYTES = 12;

/** MESSAGE: JSON, on stream 0. BYTES, CREDIT (u32: how many more may be sent), END: of a stream. */
export const FRAME = { MESSAGE: 1, BYTES: 2, CREDIT: 3, END: 4 } as const;
const TYPE_MAX = FRAME.END;

/** One frame. */
export interface Frame {
  readonly type: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** The other end does not keep to the protocol. */
export function frameError(what: string): EstaloError {
  return new EstaloError("ERR_ESTALO_CELL", `a cell's connection: ${what}`, { data: { what } });
}

/** A frame's bytes. */
export function encodeFrame(type: number, stream: number, payload: Uint8Array): Buffer {
  const frame = Buffer.alloc(FRAME_HEADER_BYTES + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame.writeUInt32LE(stream, 4);
  frame.writeUInt8(type, 8);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

/** Puts frames together from bytes as they come. */
export class FrameReader {
  readonly #payloadBytesMax: number;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #headerBytes = 0;
  #payload: Buffer | undefined;
  #payloadBytes = 0;

  constructor(payloadBytesMax: number) {
    this.#payloadBytesMax = payloadBytesMax;
  }

  /** The frames that `bytes` complete; raises ERR_ESTALO_CELL, and then is of no use any more. */
  *take(bytes: Uint8Array): Generator<Frame, void, undefined> {
    for (let at = 0; at < bytes.length || this.#isComplete; ) {
      if (this.#payload === undefined) {
        const part = bytes.subarray(at, at + FRAME_HEADER_BYTES - this.#headerBytes);
        this.#header.set(part, this.#headerBytes);
        this.#headerBytes += part.length;
        at += part.length;
        if (this.#headerBytes === FRAME_HEADER_BYTES) this.#payload = this.#begin();
      } else {
        const part = bytes.subarray(at, at + this.#payload.length - this.#payloadBytes);
        this.#payload.set(part, this.#payloadBytes);
        this.#payloadBytes += part.length;
        at += part.length;
        if (this.#isComplete) yield this.#end(this.#payload);
      }
    }
  }

  get #isComplete(): boolean {
    return this.#payload !== undefined && this.#payloadBytes === this.#payload.length;
  }

  #begin(): Buffer {
    const bytes = this.#header.readUInt32LE(0);
    const type = this.#header.readUInt8(8);
    if (bytes > this.#payloadBytesMax) throw frameError(`a frame of ${bytes} bytes`);
    if (type === 0 || type > TYPE_MAX || this.#header.readUIntLE(9, 3) !== 0) {
      throw frameError(`a frame of type ${type}`);
    }
    return Buffer.allocUnsafe(bytes);
  }

  #end(payload: Buffer): Frame {
    const frame = {
      type: this.#header.readUInt8(8),
      stream: this.#header.readUInt32LE(4),
      payload,
    };
    this.#payload = undefined;
    this.#payloadBytes = 0;
    this.#headerBytes = 0;
    return frame;
  }
}

/** The value that a payload is; raises ERR_ESTALO_CELL for what is no JSON. */
export function parseJson(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString("utf8"));
  } catch {
    throw frameError("a message that is no JSON");
  }
}
