/**
 * Numbers of the virtio block device. Source: VirtIO 1.2 § 5.2.
 *
 *     request   u32 type | u32 reserved | u64 sector      device-readable, 16 bytes
 *               data                                      either way, by type
 *               u8 status                                 device-writable, the last byte
 */

export const DEVICE_TYPE = 2;

/** Feature bits, VirtIO 1.2 § 5.2.3. */
export const FEATURE_SEG_MAX_BIT = 2;
export const FEATURE_RO_BIT = 5;
export const FEATURE_FLUSH_BIT = 9;
export const FEATURE_DISCARD_BIT = 13;
export const FEATURE_WRITE_ZEROES_BIT = 14;

/** Configuration space, VirtIO 1.2 § 5.2.4; all RO and little-endian. u64: size in sectors. */
export const CONFIG_CAPACITY_OFFSET = 0x00;
/** u32: most data segments in a request. */
export const CONFIG_SEG_MAX_OFFSET = 0x0c;
/** u32: most sectors in one range of a discard. */
export const CONFIG_MAX_DISCARD_SECTORS_OFFSET = 0x24;
/** u32: most ranges in a discard. */
export const CONFIG_MAX_DISCARD_SEG_OFFSET = 0x28;
/** u32: sectors that a discard is best aligned to. */
export const CONFIG_DISCARD_SECTOR_ALIGNMENT_OFFSET = 0x2c;
/** u32: most sectors in one range of a write-zeroes. */
export const CONFIG_MAX_WRITE_ZEROES_SECTORS_OFFSET = 0x30;
/** u32: most ranges in a write-zeroes. */
export const CONFIG_MAX_WRITE_ZEROES_SEG_OFFSET = 0x34;
/** u8: 1 if write-zeroes may deallocate. */
export const CONFIG_WRITE_ZEROES_MAY_UNMAP_OFFSET = 0x38;
export const CONFIG_BYTES = 60;

/** Request header. */
export const HEADER_BYTES = 16;
/** In u32 words of the header: type, and the sector's halves. */
export const HEADER_TYPE_WORD = 0;
export const HEADER_SECTOR_LOW_WORD = 2;
export const HEADER_SECTOR_HIGH_WORD = 3;
export const STATUS_BYTES = 1;
export const SECTOR_BYTES = 512;

/** Request types, VirtIO 1.2 § 5.2.6. */
export const TYPE_IN = 0;
export const TYPE_OUT = 1;
export const TYPE_FLUSH = 4;
export const TYPE_GET_ID = 8;
export const TYPE_DISCARD = 11;
export const TYPE_WRITE_ZEROES = 13;

/** Request status. */
export const STATUS_OK = 0;
export const STATUS_IOERR = 1;
export const STATUS_UNSUPP = 2;

/** Length of the identity that GET_ID returns. */
export const ID_BYTES = 20;

/** A range of DISCARD and WRITE_ZEROES: u64 sector | u32 sectors | u32 flags. */
export const RANGE_BYTES = 16;
/** In u32 words of a range: the sector's halves come first. */
export const RANGE_WORDS = 4;
export const RANGE_SECTORS_WORD = 2;
export const RANGE_FLAGS_WORD = 3;
/** Range flag: blocks may be deallocated (WRITE_ZEROES only). */
export const RANGE_UNMAP_MASK = 0x1;

/** A backend's result for an operation that its file system lacks: Linux's EOPNOTSUPP. */
export const ERRNO_EOPNOTSUPP = 95;
