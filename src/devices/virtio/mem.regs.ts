/**
 * Numbers of the memory device. Source: VirtIO 1.2 § 5.15, linux/virtio_mem.h.
 */

export const DEVICE_TYPE = 24;

/** Feature bit, § 5.15.3: the driver touches no unplugged memory. */
export const FEATURE_UNPLUGGED_INACCESSIBLE_BIT = 1;

/** Configuration space, § 5.15.4: u64 each, but for the node (u16, which without ACPI_PXM nobody reads). */
export const CONFIG_BLOCK_SIZE_OFFSET = 0x00;
export const CONFIG_ADDRESS_OFFSET = 0x10;
export const CONFIG_REGION_SIZE_OFFSET = 0x18;
export const CONFIG_USABLE_SIZE_OFFSET = 0x20;
export const CONFIG_PLUGGED_SIZE_OFFSET = 0x28;
export const CONFIG_REQUESTED_SIZE_OFFSET = 0x30;
export const CONFIG_BYTES = 56;

/** struct virtio_mem_req, § 5.15.6: u16 type; u64 address and u16 count of blocks, but for UNPLUG_ALL. */
export const REQUEST_TYPE_OFFSET = 0;
export const REQUEST_ADDRESS_OFFSET = 8;
export const REQUEST_BLOCKS_OFFSET = 16;
export const REQUEST_BYTES = 24;
export const REQUEST_PLUG = 0;
export const REQUEST_UNPLUG = 1;
export const REQUEST_UNPLUG_ALL = 2;
export const REQUEST_STATE = 3;

/** struct virtio_mem_resp: u16 type, u16 state at 8. */
export const RESPONSE_TYPE_OFFSET = 0;
export const RESPONSE_STATE_OFFSET = 8;
export const RESPONSE_BYTES = 10;
export const RESPONSE_ACK = 0;
export const RESPONSE_NACK = 1;
export const RESPONSE_ERROR = 3;
export const STATE_PLUGGED = 0;
export const STATE_UNPLUGGED = 1;
export const STATE_MIXED = 2;
