/**
 * A minimal AML encoder: what a DSDT of fixed devices needs, and nothing that could vary at run
 * time.
 *
 * Each function returns the bytes of one term; terms nest by being passed as contents. Names are
 * given as in ASL (`_SB`, `\_SB.VGEN`) and padded with underscores. Specification: ACPI 6.5 § 20.2;
 * resources § 6.4.
 */
import type { Gpa, Gsi } from "../../units.js";
import * as op from "./aml.regs.js";

/** One encoded term. */
export type Aml = Buffer;

/** A number in its shortest form: Zero, One, or a byte, word or double-word constant. */
export function integer(value: number): Aml {
  if (value === 0) return Buffer.of(op.ZERO_OP);
  if (value === 1) return Buffer.of(op.ONE_OP);
  const bytes = Buffer.alloc(5);
  bytes.writeUInt32LE(value, 1);
  const [prefix, width] =
    value < 2 ** 8
      ? [op.BYTE_PREFIX, 1]
      : value < 2 ** 16
        ? [op.WORD_PREFIX, 2]
        : [op.DWORD_PREFIX, 4];
  bytes[0] = prefix;
  return bytes.subarray(0, 1 + width);
}

/** An ASCII string constant. */
export function string(text: string): Aml {
  return Buffer.concat([Buffer.of(op.STRING_PREFIX), Buffer.from(`${text}\0`, "latin1")]);
}

/**
 * A compressed EISA id, `PNP0501`: three letters of 5 bits, four hexadecimal digits, stored
 * big-endian.
 */
export function eisaId(id: string): Aml {
  const letters = [...id.slice(0, 3)].reduce(
    (bits, letter) => (bits << 5) | (letter.charCodeAt(0) - "@".charCodeAt(0)),
    0,
  );
  const bytes = Buffer.alloc(5);
  bytes[0] = op.DWORD_PREFIX;
  bytes.writeUInt16BE(letters, 1);
  bytes.writeUInt16BE(Number.parseInt(id.slice(3), 16), 3);
  return bytes;
}

/** A name path: segments of up to four characters, with a leading `\` for the root. */
export function namePath(path: string): Aml {
  const absolute = path.startsWith("\\");
  const segments = path
    .slice(absolute ? 1 : 0)
    .split(".")
    .map((segment) => segment.padEnd(4, "_"));
  const prefix = absolute ? [op.ROOT_CHAR] : [];
  if (segments.length === 2) prefix.push(op.DUAL_NAME_PREFIX);
  else if (segments.length > 2) prefix.push(op.MULTI_NAME_PREFIX, segments.length);
  return Buffer.concat([Buffer.from(prefix), Buffer.from(segments.join(""), "latin1")]);
}

/** `Name (path, value)`. */
export function name(path: string, value: Aml): Aml {
  return Buffer.concat([Buffer.of(op.NAME_OP), namePath(path), value]);
}

/** `Package () { … }`. */
export function packageOf(...elements: Aml[]): Aml {
  return sized([op.PACKAGE_OP], Buffer.of(elements.length), ...elements);
}

/** `Scope (path) { … }`. */
export function scope(path: string, ...contents: Aml[]): Aml {
  return sized([op.SCOPE_OP], namePath(path), ...contents);
}

/** `Device (name) { … }`. */
export function device(path: string, ...contents: Aml[]): Aml {
  return sized([op.EXT_OP_PREFIX, op.EXT_DEVICE_OP], namePath(path), ...contents);
}

/** `Method (name, argumentCount, Serialized) { … }`. */
export function method(path: string, argumentCount: number, ...contents: Aml[]): Aml {
  const flags = Buffer.of(argumentCount | op.METHOD_SERIALIZED_MASK);
  return sized([op.METHOD_OP], namePath(path), flags, ...contents);
}

/** `If (Arg0 == value) { … }`. */
export function ifArg0Equals(value: number, ...contents: Aml[]): Aml {
  return sized([op.IF_OP], Buffer.of(op.LEQUAL_OP, op.ARG0_OP), integer(value), ...contents);
}

/** `Notify (path, 0x80)`: a device-specific event. */
export function notify(path: string): Aml {
  return Buffer.concat([
    Buffer.of(op.NOTIFY_OP),
    namePath(path),
    integer(op.NOTIFY_DEVICE_SPECIFIC),
  ]);
}

/** `ResourceTemplate () { … }`: a buffer of descriptors and the end tag. */
export function resources(...descriptors: Aml[]): Aml {
  const bytes = Buffer.concat([...descriptors, Buffer.of(op.RESOURCE_END, 0)]);
  return sized([op.BUFFER_OP], integer(bytes.length), bytes);
}

/** `Memory32Fixed (ReadWrite, base, sizeBytes)`. */
export function memory32Fixed(base: Gpa, sizeBytes: number): Aml {
  const bytes = Buffer.alloc(3 + op.RESOURCE_MEMORY32_FIXED_BYTES);
  bytes[0] = op.RESOURCE_MEMORY32_FIXED;
  bytes.writeUInt16LE(op.RESOURCE_MEMORY32_FIXED_BYTES, 1);
  bytes[3] = op.RESOURCE_MEMORY_READ_WRITE;
  bytes.writeUInt32LE(base, 4);
  bytes.writeUInt32LE(sizeBytes, 8);
  return bytes;
}

/** `Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { gsi }`. */
export function interrupt(gsi: Gsi): Aml {
  const bytes = Buffer.alloc(3 + op.RESOURCE_INTERRUPT_BYTES);
  bytes[0] = op.RESOURCE_INTERRUPT;
  bytes.writeUInt16LE(op.RESOURCE_INTERRUPT_BYTES, 1);
  bytes[3] = op.RESOURCE_INTERRUPT_CONSUMER_EDGE;
  bytes[4] = 1;
  bytes.writeUInt32LE(gsi, 5);
  return bytes;
}

/** `IO (Decode16, port, port, 1, count)`. */
export function ioPorts(port: number, count: number): Aml {
  const bytes = Buffer.alloc(8);
  bytes[0] = op.RESOURCE_IO;
  bytes[1] = op.RESOURCE_IO_DECODE16;
  bytes.writeUInt16LE(port, 2);
  bytes.writeUInt16LE(port, 4);
  bytes[6] = 1;
  bytes[7] = count;
  return bytes;
}

/** An opcode, the length of all that follows it, and that. */
function sized(opcode: number[], ...contents: Aml[]): Aml {
  const body = Buffer.concat(contents);
  return Buffer.concat([Buffer.from(opcode), packageLength(body.length), body]);
}

/**
 * PkgLength counts its own bytes. One byte holds up to 63; else the lead byte has the number of
 * bytes that follow it in its top two bits and the length's low nibble below.
 */
function packageLength(bodyBytes: number): Buffer {
  if (bodyBytes + 1 <= op.PKG_LENGTH_SHORT_MAX) return Buffer.of(bodyBytes + 1);
  for (let following = 1; following <= 3; following++) {
    const length = bodyBytes + 1 + following;
    if (length >= 2 ** (4 + 8 * following)) continue;
    const lead = (following << op.PKG_LENGTH_FOLLOW_SHIFT) | (length & op.PKG_LENGTH_NIBBLE_MASK);
    const rest = Buffer.alloc(following);
    rest.writeUIntLE(Math.floor(length / 16), 0, following);
    return Buffer.concat([Buffer.of(lead), rest]);
  }
  throw new RangeError(`an AML term of ${bodyBytes} bytes`);
}
