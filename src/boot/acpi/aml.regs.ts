/**
 * ACPI Machine Language: opcodes, and the tags of resource descriptors.
 *
 * Citation: ACPI 6.5 §§ 20.2 (AML grammar) and 6.4 (resource data types).
 */

export const ZERO_OP = 0x00;
export const ONE_OP = 0x01;
export const NAME_OP = 0x08;
export const BYTE_PREFIX = 0x0a;
export const WORD_PREFIX = 0x0b;
export const DWORD_PREFIX = 0x0c;
export const STRING_PREFIX = 0x0d;
export const SCOPE_OP = 0x10;
export const BUFFER_OP = 0x11;
export const PACKAGE_OP = 0x12;
export const METHOD_OP = 0x14;
export const DUAL_NAME_PREFIX = 0x2e;
export const MULTI_NAME_PREFIX = 0x2f;
export const ROOT_CHAR = 0x5c;
export const EXT_OP_PREFIX = 0x5b;
/** After EXT_OP_PREFIX. */
export const EXT_DEVICE_OP = 0x82;
export const ARG0_OP = 0x68;
export const NOTIFY_OP = 0x86;
export const LEQUAL_OP = 0x93;
export const IF_OP = 0xa0;

/** PkgLength: largest length in one byte, and in the form with a lead byte and 1 to 3 more. */
export const PKG_LENGTH_SHORT_MAX = 0x3f;
export const PKG_LENGTH_NIBBLE_MASK = 0xf;
export const PKG_LENGTH_FOLLOW_SHIFT = 6;

/** Method flags: argument count in bits 0 to 2, serialized in bit 3. */
export const METHOD_SERIALIZED_MASK = 0x8;

/** Notify value of a device-specific event, the first of them. */
export const NOTIFY_DEVICE_SPECIFIC = 0x80;

/** I/O port descriptor: small, 7 bytes follow; info bit 0: 16-bit decoding. */
export const RESOURCE_IO = 0x47;
export const RESOURCE_IO_DECODE16 = 0x1;
/** End tag: small, one checksum byte follows, 0 meaning unchecked. */
export const RESOURCE_END = 0x79;
/** 32-bit fixed memory range: large, 9 bytes follow; info bit 0: read and write. */
export const RESOURCE_MEMORY32_FIXED = 0x86;
export const RESOURCE_MEMORY32_FIXED_BYTES = 9;
export const RESOURCE_MEMORY_READ_WRITE = 0x1;
/** Extended interrupt: large, 6 bytes follow for one interrupt; bit 0 consumer, bit 1 edge. */
export const RESOURCE_INTERRUPT = 0x89;
export const RESOURCE_INTERRUPT_BYTES = 6;
export const RESOURCE_INTERRUPT_CONSUMER_EDGE = 0x3;
