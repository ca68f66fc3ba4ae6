/**
 * VMClock's page. Source: Linux include/uapi/linux/vmclock-abi.h, version 1; all fields are little-endian.
 */

/** "VCLK" in memory order. */
export const MAGIC = 0x4b4c4356;
export const VERSION = 1;

export const MAGIC_OFFSET = 0x00;
/** u32: bytes of the page. */
export const SIZE_OFFSET = 0x04;
/** u16. */
export const VERSION_OFFSET = 0x08;
/** u8: which counter the times belong to. */
export const COUNTER_ID_OFFSET = 0x0a;
/** u8. */
export const TIME_TYPE_OFFSET = 0x0b;
/** u32: odd while something below it changes. */
export const SEQUENCE_OFFSET = 0x0c;
/** u64: another value after each jump of the guest's counters. */
export const DISRUPTION_MARKER_OFFSET = 0x10;
/** u64. */
export const FLAGS_OFFSET = 0x18;
/** u8. */
export const CLOCK_STATUS_OFFSET = 0x22;
/** u64: another value for each copy of the machine. */
export const GENERATION_OFFSET = 0x68;

export const COUNTER_INVALID = 0xff;
/** Of the time that there would be with a counter. */
export const TIME_UTC = 0;
export const STATUS_UNKNOWN = 0;

/** `vm_generation_counter` is there; changes are told by a notification. */
export const FLAG_GENERATION_PRESENT_MASK = 0x100;
export const FLAG_NOTIFICATION_PRESENT_MASK = 0x200;
