/**
 * The split virtqueue in guest memory; all fields little-endian. Source: VirtIO 1.2 §§ 2.7.5 to
 * 2.7.8.
 *
 *     descriptor  u64 address | u32 length | u16 flags | u16 next     16-aligned
 *     available   u16 flags | u16 index | u16 heads[size] | u16 used_event   2-aligned
 *     used        u16 flags | u16 index | { u32 head, u32 length }[size] | u16 avail_event
 *                 (4-aligned)
 */

export const DESCRIPTOR_BYTES = 16;
export const DESCRIPTOR_ALIGN_BYTES = 16;
export const AVAIL_ALIGN_BYTES = 2;
export const USED_ALIGN_BYTES = 4;
/** Bytes of a ring without its entries: flags, index, and the event field at the end. */
export const RING_FIXED_BYTES = 6;
export const AVAIL_ENTRY_BYTES = 2;
export const USED_ENTRY_BYTES = 8;
/** Most entries a split queue may have, VirtIO 1.2 § 2.7. */
export const QUEUE_SIZE_MAX = 32768;

/** Descriptor flag: another descriptor follows, named by `next`. */
export const DESC_NEXT_MASK = 0x1;
/** Descriptor flag: the device writes this buffer (else it reads it). */
export const DESC_WRITE_MASK = 0x2;
/** Descriptor flag: the buffer is a table of descriptors. */
export const DESC_INDIRECT_MASK = 0x4;

/** Flags of the available ring: the driver wants no interrupts (without EVENT_IDX). */
export const AVAIL_NO_INTERRUPT_MASK = 0x1;
/** Flags of the used ring: the device wants no notifications (without EVENT_IDX). */
export const USED_NO_NOTIFY_MASK = 0x1;

/** Ring indices count modulo 2^16. */
export const INDEX_MASK = 0xffff;
