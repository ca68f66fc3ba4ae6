/**
 * Operations on network interfaces and the vsock device.
 */
import { existsSync } from "node:fs";
import { TapBackend } from "../../actors/backends/tap.js";
import { parseMac } from "../../actors/config-net.js";
import { UDS_PATH_MAX_BYTES } from "../../actors/config-vsock.js";
import { MTU_MAX, MTU_MIN } from "../../devices/virtio/net.regs.js";
import { GUEST_CID_MAX, GUEST_CID_MIN } from "../../devices/virtio/vsock.regs.js";
import { toEstaloError } from "../../errors.js";
import { type Draft, type Interface, withInterface } from "./draft.js";
import { Fault, hostText } from "./faults.js";
import * as schemas from "./network-schemas.js";
import { NO_CONTENT, type Operation } from "./operation.js";
import { shownLimiter, toLimiter, withChange } from "./rate-limiters.js";

const INTERFACE_ID = {
  field: "iface_id",
  mismatch: (path: string, body: string) =>
    `The id from the path [${path}] does not match the id from the body [${body}]!`,
} as const;

function networkFault(what: string): Fault {
  return new Fault(`Network config error: ${what}`);
}

/** The interface with Firecracker's defaults; raises what is wrong with its address or MTU. */
function complete(json: schemas.NetworkInterfaceJson): Interface {
  const { guest_mac: mac, mtu } = json;
  if (mac != null && parseMac(mac) === undefined) {
    throw networkFault(`The MAC address is not one of a single interface: ${mac}`);
  }
  if (mtu != null && (mtu < MTU_MIN || mtu > MTU_MAX)) {
    throw networkFault(`Invalid MTU: ${mtu}, must be between ${MTU_MIN} and ${MTU_MAX}`);
  }
  return {
    iface_id: json.iface_id,
    host_dev_name: json.host_dev_name,
    guest_mac: mac?.toLowerCase() ?? null,
    mtu: mtu ?? null,
    rx_rate_limiter: shownLimiter(json.rx_rate_limiter),
    tx_rate_limiter: shownLimiter(json.tx_rate_limiter),
  };
}

const putInterface: Operation = {
  operationId: "putGuestNetworkInterfaceByID",
  method: "PUT",
  path: "/network-interfaces/{iface_id}",
  tag: "Devices",
  summary: "Adds a network interface over a tap, or replaces the one with this id.",
  body: schemas.NetworkInterface,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "network",
  id: INTERFACE_ID,
  run({ target, body }) {
    const one = complete(body as schemas.NetworkInterfaceJson);
    const { interfaces } = target.draft;
    const isTaken = (other: Interface) =>
      other.iface_id !== one.iface_id && other.guest_mac === one.guest_mac;
    if (one.guest_mac !== null && interfaces.some(isTaken)) {
      throw networkFault(`The MAC address is already in use: ${one.guest_mac}`);
    }
    try {
      // Only looked at: the machine opens it when it starts.
      new TapBackend(one.host_dev_name).close();
    } catch (error) {
      throw networkFault(
        `Could not create the network device: Open tap device failed: ${hostText(error)} ` +
          `Invalid TUN/TAP Backend provided by ${one.host_dev_name}.`,
      );
    }
    target.draft = { ...target.draft, interfaces: withInterface(interfaces, one) };
  },
};

const patchInterface: Operation = {
  operationId: "patchGuestNetworkInterfaceByID",
  method: "PATCH",
  path: "/network-interfaces/{iface_id}",
  tag: "Devices",
  summary: "Changes a running interface's limits.",
  body: schemas.NetworkInterfaceUpdate,
  replies: NO_CONTENT,
  when: "after boot",
  counter: "network",
  id: INTERFACE_ID,
  async run({ target, body }) {
    const {
      iface_id: id,
      rx_rate_limiter,
      tx_rate_limiter,
    } = body as schemas.NetworkInterfaceUpdateJson;
    try {
      await target.updateInterface(id, {
        ...(rx_rate_limiter == null ? {} : { rxRateLimiter: toLimiter(rx_rate_limiter) }),
        ...(tx_rate_limiter == null ? {} : { txRateLimiter: toLimiter(tx_rate_limiter) }),
      });
    } catch (error) {
      throw networkFault(`Device manager error: ${toEstaloError(error).message}`);
    }
    target.draft = withUpdate(target.draft, body as schemas.NetworkInterfaceUpdateJson);
  },
};

/** The draft as `GET /vm/config` tells it after the update. */
function withUpdate(draft: Draft, update: schemas.NetworkInterfaceUpdateJson): Draft {
  const { rx_rate_limiter: rx, tx_rate_limiter: tx } = update;
  const interfaces = draft.interfaces.map((one) =>
    one.iface_id !== update.iface_id
      ? one
      : {
          ...one,
          rx_rate_limiter: rx == null ? one.rx_rate_limiter : withChange(one.rx_rate_limiter, rx),
          tx_rate_limiter: tx == null ? one.tx_rate_limiter : withChange(one.tx_rate_limiter, tx),
        },
  );
  return { ...draft, interfaces };
}

const putVsock: Operation = {
  operationId: "putGuestVsock",
  method: "PUT",
  path: "/vsock",
  tag: "Devices",
  summary: "Adds the vsock device, or replaces it. Its socket is bound when the machine starts.",
  body: schemas.Vsock,
  replies: NO_CONTENT,
  when: "before boot",
  counter: "vsock",
  run({ target, body, deprecated }) {
    const { guest_cid, uds_path, vsock_id } = body as schemas.VsockJson;
    if (guest_cid < GUEST_CID_MIN || guest_cid > GUEST_CID_MAX) {
      throw vsockFault(`Invalid guest CID: ${guest_cid}`);
    }
    const bytes = Buffer.byteLength(uds_path);
    if (bytes === 0 || bytes > UDS_PATH_MAX_BYTES || uds_path.includes("\0")) {
      throw vsockFault(socketText("path must be shorter than SUN_LEN"));
    }
    if (existsSync(uds_path)) throw vsockFault(socketText("Address in use (os error 98)"));
    if (vsock_id != null) deprecated("PUT /vsock: vsock_id field is deprecated.");
    target.draft = { ...target.draft, vsock: { guest_cid, uds_path } };
  },
};

function vsockFault(what: string): Fault {
  return new Fault(`Vsock config error: Cannot create backend for vsock device: ${what}`);
}

function socketText(why: string): string {
  return `Error binding to the host-side Unix socket: ${why}`;
}

export const NETWORK_OPERATIONS: readonly Operation[] = [putInterface, patchInterface, putVsock];
