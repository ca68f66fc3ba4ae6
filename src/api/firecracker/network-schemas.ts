/**
 * Schemas of network interfaces, the metadata service and the vsock device. The same rules as in schemas.ts.
 */
import Type, { type Static } from "typebox";
import { choice, closed, option, RateLimiter, struct, uint } from "./schemas.js";

/** A number of an IPv4 address. */
const OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

export const NetworkInterface = Type.Object(
  {
    iface_id: Type.String(),
    host_dev_name: Type.String({ description: "A TAP device." }),
    guest_mac: option(
      Type.String({
        pattern: "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$",
        "x-serde-fault": { words: "The provided MAC address is invalid.", at: "end of object" },
      }),
    ),
    mtu: option(uint(16, "68 to 65535.")),
    rx_rate_limiter: option(RateLimiter),
    tx_rate_limiter: option(RateLimiter),
  },
  { ...closed, title: "NetworkInterface", ...struct("NetworkInterfaceConfig") },
);

export const NetworkInterfaceUpdate = Type.Object(
  {
    iface_id: Type.String(),
    rx_rate_limiter: option(RateLimiter),
    tx_rate_limiter: option(RateLimiter),
  },
  { ...closed, title: "PartialNetworkInterface", ...struct("NetworkInterfaceUpdateConfig") },
);

export const Vsock = Type.Object(
  {
    guest_cid: uint(32, "3 or more."),
    uds_path: Type.String(),
    vsock_id: option(Type.String({ description: "Deprecated." })),
  },
  { ...closed, title: "Vsock", ...struct("VsockDeviceConfig") },
);

export const MmdsConfig = Type.Object(
  {
    network_interfaces: Type.Array(Type.String()),
    version: Type.Optional(choice(["V1", "V2"])),
    ipv4_address: option(
      Type.String({
        pattern: `^(${OCTET}\\.){3}${OCTET}$`,
        description: "169.254.1.0 to 169.254.254.255. Default: 169.254.169.254.",
        "x-serde": "IPv4 address",
        "x-serde-fault": { words: "invalid IPv4 address syntax", at: "value" },
      }),
    ),
    imds_compat: Type.Optional(Type.Boolean()),
  },
  { ...closed, title: "MmdsConfig", ...struct("MmdsConfig") },
);

/** Any JSON value; what is no object is refused by the store. */
export const MmdsContents = Type.Unknown({ title: "MmdsContents" });

export type MmdsConfigJson = Static<typeof MmdsConfig>;
export type NetworkInterfaceJson = Static<typeof NetworkInterface>;
export type NetworkInterfaceUpdateJson = Static<typeof NetworkInterfaceUpdate>;
export type VsockJson = Static<typeof Vsock>;
