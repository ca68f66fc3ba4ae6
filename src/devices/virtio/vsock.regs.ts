/**
 * Numbers of the virtio socket device. Source: VirtIO 1.2 § 5.10; limits as Firecracker's.
 *
 *     packet   struct virtio_vsock_hdr, 44 bytes | payload
 */

export const DEVICE_TYPE = 19;

export const RECEIVE_QUEUE = 0;
export const TRANSMIT_QUEUE = 1;
export const EVENT_QUEUE = 2;

/** Configuration space: u64 guest_cid, RO. */
export const CONFIG_BYTES = 8;

/** Context ids: the host's, and the first that a guest may have. */
export const HOST_CID = 2;
export const GUEST_CID_MIN = 3;
export const GUEST_CID_MAX = 0xffff_fffe;

/** struct virtio_vsock_hdr, § 5.10.6; u64, u64, u32, u32, u32, u16, u16, u32, u32, u32. */
export const HEADER_BYTES = 44;
export const HEADER_SOURCE_CID_OFFSET = 0;
export const HEADER_DESTINATION_CID_OFFSET = 8;
export const HEADER_SOURCE_PORT_OFFSET = 16;
export const HEADER_DESTINATION_PORT_OFFSET = 20;
export const HEADER_LENGTH_OFFSET = 24;
export const HEADER_TYPE_OFFSET = 28;
export const HEADER_OPERATION_OFFSET = 30;
export const HEADER_FLAGS_OFFSET = 32;
export const HEADER_BUFFER_OFFSET = 36;
export const HEADER_FORWARDED_OFFSET = 40;

export const TYPE_STREAM = 1;

/** Operations. */
export const REQUEST = 1;
export const RESPONSE = 2;
export const RESET = 3;
export const SHUTDOWN = 4;
export const DATA = 5;
export const CREDIT_UPDATE = 6;
export const CREDIT_REQUEST = 7;

/** Flags of SHUTDOWN: will not receive, will not send any more. */
export const SHUTDOWN_RECEIVE_MASK = 1;
export const SHUTDOWN_SEND_MASK = 2;

/** Events, § 5.10.6.7: u32 id. */
export const EVENT_BYTES = 4;
export const EVENT_TRANSPORT_RESET = 0;

/** Largest payload of a packet. */
export const PAYLOAD_BYTES_MAX = 65_536;
/** Bytes of the guest's that wait on the host's side of a connection at most. */
export const BUFFER_BYTES = 65_536;
/** The guest is told of room once there is so much more of it. */
export const CREDIT_UPDATE_BYTES = 4096;

/** Ports of the host's own connections. */
export const HOST_PORT_FIRST = 0x4000_0000;
export const HOST_PORT_LAST = 0x7fff_ffff;

/** How long an answer to REQUEST and to SHUTDOWN may take. */
export const ANSWER_TIMEOUT_MS = 2000;
