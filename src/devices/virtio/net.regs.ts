/**
 * Numbers of the virtio network device. Source: VirtIO 1.2 § 5.1.
 *
 *     frame   struct virtio_net_hdr_v1, 12 bytes | Ethernet frame without its checksum
 */

export const DEVICE_TYPE = 1;

/** Feature bits, VirtIO 1.2 § 5.1.3: what the device takes from its driver … */
export const FEATURE_CSUM_BIT = 0;
export const FEATURE_HOST_TSO4_BIT = 11;
export const FEATURE_HOST_TSO6_BIT = 12;
export const FEATURE_HOST_UFO_BIT = 14;
/** … what the driver takes … */
export const FEATURE_GUEST_CSUM_BIT = 1;
export const FEATURE_GUEST_TSO4_BIT = 7;
export const FEATURE_GUEST_TSO6_BIT = 8;
export const FEATURE_GUEST_UFO_BIT = 10;
/** … and what both know. */
export const FEATURE_MTU_BIT = 3;
export const FEATURE_MAC_BIT = 5;
export const FEATURE_MRG_RXBUF_BIT = 15;
export const FEATURE_STATUS_BIT = 16;
export const FEATURE_CTRL_VQ_BIT = 17;
export const FEATURE_MQ_BIT = 22;

/**
 * Queues of the first pair: the driver receives from the first and transmits to the second. The other pairs
 * follow, and after the last of them the control queue (VirtIO 1.2 § 5.1.2); after the first pair, where the
 * driver has not taken MQ.
 */
export const RECEIVE_QUEUE = 0;
export const TRANSMIT_QUEUE = 1;
export const QUEUES_OF_PAIR = 2;
/** The control queue of a driver without MQ. */
export const SINGLE_CONTROL_QUEUE = 2;
/** Most pairs: what the transport's words have room for. */
export const PAIRS_MAX = 8;

/** A command on the control queue, VirtIO 1.2 § 5.1.6.5: u8 class, u8 command, what it needs | u8 answer. */
export const CONTROL_HEADER_BYTES = 2;
export const CONTROL_CLASS_MQ = 4;
export const CONTROL_MQ_PAIRS_SET = 0;
/** u16: pairs from now on. */
export const CONTROL_PAIRS_BYTES = 2;
export const CONTROL_OK = 0;
export const CONTROL_ERROR = 1;

/** Configuration space, VirtIO 1.2 § 5.1.4; all RO and little-endian. u8[6]. */
export const CONFIG_MAC_OFFSET = 0x00;
/** u16: LINK_UP or nothing. */
export const CONFIG_STATUS_OFFSET = 0x06;
/** u16: pairs of queues, with the MQ feature. */
export const CONFIG_MAX_PAIRS_OFFSET = 0x08;
/** u16: largest packet without the Ethernet header. */
export const CONFIG_MTU_OFFSET = 0x0a;
export const CONFIG_BYTES = 12;
export const STATUS_LINK_UP_MASK = 0x01;

/** struct virtio_net_hdr_v1, VirtIO 1.2 § 5.1.6. */
export const HEADER_BYTES = 12;
/** u16: descriptor chains that hold the frame, with MRG_RXBUF; else 1. */
export const HEADER_NUM_BUFFERS_OFFSET = 10;

export const MAC_BYTES = 6;
/** Destination, source and type of an Ethernet frame. */
export const ETHERNET_HEADER_BYTES = 14;
export const ETHERNET_SOURCE_OFFSET = 6;
/** The largest frame with its header: 64 KiB of IP less one, an Ethernet header, a tag. */
export const FRAME_BYTES_MAX = 65_562;

/** What a link may carry, VirtIO 1.2 § 5.1.4.1. */
export const MTU_MIN = 68;
export const MTU_MAX = 65_535;
