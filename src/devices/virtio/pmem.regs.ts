/**
 * Numbers of the persistent memory device. Source: VirtIO 1.2 § 5.19, linux/virtio_pmem.h.
 */

export const DEVICE_TYPE = 27;

/** Configuration space, § 5.19.4: u64 each, where the memory is and how long. */
export const CONFIG_START_OFFSET = 0x00;
export const CONFIG_SIZE_OFFSET = 0x08;
export const CONFIG_BYTES = 16;

/** struct virtio_pmem_req, § 5.19.6: u32 type. */
export const REQUEST_BYTES = 4;
export const REQUEST_FLUSH = 0;

/** struct virtio_pmem_resp: u32, 0 or -1. */
export const RESPONSE_BYTES = 4;
export const RESPONSE_DONE = 0;
export const RESPONSE_FAILED = 0xffff_ffff;
