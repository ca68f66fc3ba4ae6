/**
 * Exits as binary frames, what `…/exits?format=binary` carries: a header and the columns of a batch, as they
 * lie in memory. docs/streams.md has every byte.
 *
 *     0 "EXIT" │ 4 version 1 │ 5 flags │ 6 u16 header's bytes │ 8 u32 exits │ 12 0 │ 16 f64 lost │ 24 f64 dropped
 */
import { ExitBatch, exitColumnsBytes } from "../actors/exit-batch.js";
import { EstaloError } from "../errors.js";

/** "EXIT", read as a little-endian word. */
const MAGIC = 0x54495845;
export const FRAME_VERSION = 1;
/** Flag: the columns have RIP. */
const HAS_RIP = 1;
const KNOWN_FLAGS = HAS_RIP;
const HEADER_BYTES = 32;

/** The frame of a batch. */
export function encodeExitFrame(batch: ExitBatch): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + batch.buffer.byteLength);
  const header = new DataView(frame.buffer);
  header.setUint32(0, MAGIC, true);
  header.setUint8(4, FRAME_VERSION);
  header.setUint8(5, batch.rip === undefined ? 0 : HAS_RIP);
  header.setUint16(6, HEADER_BYTES, true);
  header.setUint32(8, batch.length, true);
  header.setFloat64(16, batch.lost, true);
  header.setFloat64(24, batch.dropped, true);
  frame.set(new Uint8Array(batch.buffer), HEADER_BYTES);
  return frame;
}

/**
 * The batch of a frame; `devices` are the names that the stream's `hello` told. The bytes are copied. Raises
 * ERR_ESTALO_REPLY for what is no frame, or one of a later version.
 */
export function decodeExitFrame(bytes: Uint8Array, devices: readonly string[] = []): ExitBatch {
  const given = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < HEADER_BYTES || given.getUint32(0, true) !== MAGIC) {
    throw noFrame("it does not begin as one");
  }
  const version = given.getUint8(4);
  const flags = given.getUint8(5);
  if (version !== FRAME_VERSION || (flags & ~KNOWN_FLAGS) !== 0) {
    throw noFrame(`version ${version}, flags ${flags}`);
  }
  const headerBytes = given.getUint16(6, true);
  const length = given.getUint32(8, true);
  const hasRip = (flags & HAS_RIP) !== 0;
  // A header may grow; the columns stay aligned.
  if (headerBytes < HEADER_BYTES || headerBytes % 8 !== 0) {
    throw noFrame(`a header of ${headerBytes} bytes`);
  }
  if (headerBytes + exitColumnsBytes(length, hasRip) !== bytes.length) {
    throw noFrame(`${length} exits in ${bytes.length} bytes`);
  }
  const counters = { lost: given.getFloat64(16, true), dropped: given.getFloat64(24, true) };
  const buffer = new ArrayBuffer(bytes.length - headerBytes);
  new Uint8Array(buffer).set(bytes.subarray(headerBytes));
  return new ExitBatch({ length, hasRip, buffer }, devices, counters);
}

function noFrame(why: string): EstaloError {
  return new EstaloError("ERR_ESTALO_REPLY", `this is no frame of exits: ${why}`);
}
