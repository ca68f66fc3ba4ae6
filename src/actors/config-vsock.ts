/**
 * The virtio socket device in a microVM's configuration, and its checks.
 */
import { GUEST_CID_MAX, GUEST_CID_MIN } from "../devices/virtio/vsock.regs.js";
import { integer, invalid, onlyFields, text } from "./config-checks.js";

/** One virtio socket device. */
export interface VsockConfig {
  /** The guest's context id: 3 to 4,294,967,294. Default 3. */
  readonly guestCid?: number;
  /**
   * Path of a Unix socket on which programs of the host reach the guest's ports (`CONNECT port`); the guest
   * reaches port P of the host at this path followed by `_P`. At most 96 bytes. Default: none; connections
   * are then made and taken by this process alone.
   */
  readonly udsPath?: string;
  /** Most connections at once, 1 to 65,536. Default 1023. */
  readonly connectionsMax?: number;
}

/** A socket device with nothing left open. */
export interface CheckedVsock {
  readonly guestCid: number;
  readonly udsPath: string | undefined;
  readonly connectionsMax: number;
}

/** unix(7)'s 107 bytes, less an underscore and the digits of a port. */
export const UDS_PATH_MAX_BYTES = 96;

const CONNECTIONS_MAX = 1023;
const CONNECTIONS_LIMIT = 65_536;

/** The device with its defaults, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkVsock(vsock: VsockConfig): CheckedVsock {
  onlyFields("vsock", vsock, ["guestCid", "udsPath", "connectionsMax"]);
  const udsPath = vsock.udsPath === undefined ? undefined : text("vsock.udsPath", vsock.udsPath);
  if (udsPath !== undefined && Buffer.byteLength(udsPath) > UDS_PATH_MAX_BYTES) {
    throw invalid("vsock.udsPath", `a path of at most ${UDS_PATH_MAX_BYTES} bytes`, udsPath);
  }
  const most = vsock.connectionsMax ?? CONNECTIONS_MAX;
  return {
    guestCid: integer(
      "vsock.guestCid",
      vsock.guestCid ?? GUEST_CID_MIN,
      GUEST_CID_MIN,
      GUEST_CID_MAX,
    ),
    udsPath,
    connectionsMax: integer("vsock.connectionsMax", most, 1, CONNECTIONS_LIMIT),
  };
}
