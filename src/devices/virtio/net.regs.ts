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

/** Queues of the one pair: the driver receives from the first and transmits to the second. */
export const RECEIVE_QUEUE = 0;
export const TRANSMIT_QUEUE = 1;

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
