/**
 * Registers of the virtio-mmio transport, version 2. All are little-endian u32 and must be accessed
 * whole and aligned; configuration space takes 1, 2 and 4 bytes. Source: VirtIO 1.2 § 4.2.2, table
 * 4.1.
 */

/** RO: "virt". */
export const MAGIC_VALUE_OFFSET = 0x000;
/** RO: 2. */
export const VERSION_OFFSET = 0x004;
/** RO: device type, VirtIO 1.2 § 5. */
export const DEVICE_ID_OFFSET = 0x008;
/** RO: 0, as Firecracker has it. */
export const VENDOR_ID_OFFSET = 0x00c;
/** RO: the offered features that DEVICE_FEATURES_SEL selects. */
export const DEVICE_FEATURES_OFFSET = 0x010;
/** WO: 0 for bits 0 to 31, 1 for bits 32 to 63. */
export const DEVICE_FEATURES_SEL_OFFSET = 0x014;
/** WO: the accepted features that DRIVER_FEATURES_SEL selects. */
export const DRIVER_FEATURES_OFFSET = 0x020;
/** WO: 0 for bits 0 to 31, 1 for bits 32 to 63. */
export const DRIVER_FEATURES_SEL_OFFSET = 0x024;
/** WO: the queue that the queue registers mean. */
export const QUEUE_SEL_OFFSET = 0x030;
/** RO: largest size of the selected queue in entries; 0: no such queue. */
export const QUEUE_NUM_MAX_OFFSET = 0x034;
/** WO: the size that the driver uses, a power of two. */
export const QUEUE_NUM_OFFSET = 0x038;
/** RW: 1 when the selected queue's registers are set. */
export const QUEUE_READY_OFFSET = 0x044;
/** WO: index of a queue with new buffers. */
export const QUEUE_NOTIFY_OFFSET = 0x050;
/** RO: bit 0 used buffer, bit 1 configuration change. */
export const INTERRUPT_STATUS_OFFSET = 0x060;
/** WO: the bits of INTERRUPT_STATUS that the driver has handled. */
export const INTERRUPT_ACK_OFFSET = 0x064;
/** RW: device status, VirtIO 1.2 § 2.1; writing 0 resets. */
export const STATUS_OFFSET = 0x070;
/** WO: guest-physical address of the descriptor table, low and high half. */
export const QUEUE_DESC_LOW_OFFSET = 0x080;
export const QUEUE_DESC_HIGH_OFFSET = 0x084;
/** WO: guest-physical address of the available ring, low and high half. */
export const QUEUE_DRIVER_LOW_OFFSET = 0x090;
export const QUEUE_DRIVER_HIGH_OFFSET = 0x094;
/** WO: guest-physical address of the used ring, low and high half. */
export const QUEUE_DEVICE_LOW_OFFSET = 0x0a0;
export const QUEUE_DEVICE_HIGH_OFFSET = 0x0a4;
/** WO: the shared memory region that the next four registers mean; there is none. */
export const SHM_SEL_OFFSET = 0x0ac;
/** RO: length and base of that region, low and high half; all ones: no such region. */
export const SHM_LEN_LOW_OFFSET = 0x0b0;
export const SHM_LEN_HIGH_OFFSET = 0x0b4;
export const SHM_BASE_LOW_OFFSET = 0x0b8;
export const SHM_BASE_HIGH_OFFSET = 0x0bc;
/** RO: changes whenever configuration space does. */
export const CONFIG_GENERATION_OFFSET = 0x0fc;
/** RW: device-specific configuration space, up to `CONFIG_BYTES`. */
export const CONFIG_OFFSET = 0x100;
/** Most bytes of configuration space that a device here may have. */
export const CONFIG_BYTES = 256;
/** Size of the whole register window. */
export const WINDOW_BYTES = 0x1000;

/** "virt", little-endian. */
export const MAGIC_VALUE = 0x74726976;
/** virtio-mmio version of VirtIO 1.0 and later. */
export const VERSION_VALUE = 2;
/** What an absent shared memory region reads as, in each half. */
export const SHM_ABSENT_VALUE = 0xffffffff;

/** INTERRUPT_STATUS: a buffer was used. */
export const INTERRUPT_USED_BUFFER_MASK = 0x1;
/** INTERRUPT_STATUS: configuration space or the device status changed. */
export const INTERRUPT_CONFIG_CHANGE_MASK = 0x2;

/** Device status, VirtIO 1.2 § 2.1. */
export const STATUS_ACKNOWLEDGE_MASK = 0x01;
export const STATUS_DRIVER_MASK = 0x02;
export const STATUS_DRIVER_OK_MASK = 0x04;
export const STATUS_FEATURES_OK_MASK = 0x08;
export const STATUS_NEEDS_RESET_MASK = 0x40;
export const STATUS_FAILED_MASK = 0x80;

/**
 * Feature bits that any device may offer, VirtIO 1.2 § 6; the first two are bits of the low word.
 */
export const FEATURE_INDIRECT_DESC_BIT = 28;
export const FEATURE_EVENT_IDX_BIT = 29;
/** Bit 32: bit 0 of the high word. */
export const FEATURE_VERSION_1_HIGH_MASK = 0x1;
