/**
 * Network interfaces in a microVM's configuration: what can be said of them, and its checks.
 */
import { randomBytes } from "node:crypto";
import type { RateLimiterConfig } from "../devices/rate-limiter.js";
import { MTU_MAX, MTU_MIN, PAIRS_MAX } from "../devices/virtio/net.regs.js";
import { boolean, integer, invalid, oneOf, onlyFields, text } from "./config-checks.js";
import { checkRateLimiter } from "./config-rate-limiter.js";

/** A port of the host's that leads to one of the guest's. */
export interface PortForward {
  /** Default "tcp". */
  readonly protocol?: "tcp" | "udp";
  /** IPv4 address of the host's to listen on. Default "127.0.0.1". */
  readonly hostAddress?: string;
  /** 1 to 65,535. */
  readonly hostPort: number;
  readonly guestPort: number;
}

/** A network of sockets of this process's user, by passt: 10.0.2.15/24 for the guest, its gateway 10.0.2.2. */
export interface UserNetworkConfig {
  /** At most 64. Default: none. */
  readonly forwards?: readonly PortForward[];
  /** The guest reaches the host's loopback interface at its gateway's address. Default false. */
  readonly hostLoopback?: boolean;
}

/** One virtio network device, with a tap or a user's network behind it. */
export interface NetworkInterfaceConfig {
  /** Unique in the microVM; letters, digits and underscores, 1 to 64. Default: `net0`, `net1`, … */
  readonly id?: string;
  /** Name of an existing tap interface in this process's network namespace. */
  readonly tap?: string;
  /** Instead of a tap: needs no rights, but the program passt. */
  readonly user?: UserNetworkConfig;
  /** The guest's address, `06:00:…`, not a group's. Default: random, locally administered. */
  readonly mac?: string;
  /** 68 to 65,535. Default: the guest's own. */
  readonly mtu?: number;
  /**
   * Pairs of queues, 1 to 8 and no more than vCPUs; more than one needs a tap made with several queues. Default 1.
   */
  readonly queuePairs?: number;
  /** Limits of frames to the guest and from it, headers of 12 bytes included. Default: none. */
  readonly rxRateLimiter?: RateLimiterConfig;
  readonly txRateLimiter?: RateLimiterConfig;
}

/** What can be changed of an interface while the guest runs. */
export interface NetworkInterfaceChange {
  /** Buckets that are given replace the interface's; a bucket of size 0 lifts its limit. */
  readonly rxRateLimiter?: RateLimiterConfig;
  readonly txRateLimiter?: RateLimiterConfig;
  /** Plugs the cable in or out. */
  readonly isLinkUp?: boolean;
  /** Of a user's network: all of its forwards from now on. Its connections are lost. */
  readonly forwards?: readonly PortForward[];
}

/** A user's network with nothing left open. */
export interface CheckedUserNetwork {
  readonly forwards: readonly PortForward[];
  readonly hostLoopback: boolean;
}

/** An interface with nothing left open. */
export interface CheckedInterface {
  readonly id: string;
  /** One of the two. */
  readonly tap: string | undefined;
  readonly user: CheckedUserNetwork | undefined;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number | undefined;
  readonly queuePairs: number;
  readonly rxRateLimiter: RateLimiterConfig;
  readonly txRateLimiter: RateLimiterConfig;
}

const FIELDS = ["id", "tap", "user", "mac", "mtu", "queuePairs", "rxRateLimiter", "txRateLimiter"];
const GROUP_ADDRESS = 1;
const LOCALLY_ADMINISTERED = 2;

/** An Ethernet address as bytes; `undefined` when it is none, or a group's. */
export function parseMac(value: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value)) return undefined;
  const mac = Uint8Array.from(value.split(":"), (byte) => Number.parseInt(byte, 16));
  return (mac[0] & GROUP_ADDRESS) === 0 ? mac : undefined;
}

/** An Ethernet address as text. */
export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function randomMac(): Uint8Array {
  const mac = new Uint8Array(randomBytes(6));
  mac[0] = (mac[0] & ~GROUP_ADDRESS) | LOCALLY_ADMINISTERED;
  return mac;
}

function checkMac(where: string, value: string | undefined): Uint8Array {
  if (value === undefined) return randomMac();
  const mac = typeof value === "string" ? parseMac(value) : undefined;
  if (mac === undefined) throw invalid(where, "six bytes in hexadecimal, with colons", value);
  return mac;
}

const PORT_MAX = 65_535;
const FORWARDS_MAX = 64;

/** Forwards within their ranges, no two of one port of the host's; or ERR_ESTALO_CONFIG_INVALID. */
export function checkForwards(where: string, forwards: readonly PortForward[]): PortForward[] {
  if (!Array.isArray(forwards) || forwards.length > FORWARDS_MAX) {
    throw invalid(where, `a list of at most ${FORWARDS_MAX}`, forwards);
  }
  const checked = forwards.map((one: PortForward, index) => {
    const at = `${where}[${index}]`;
    onlyFields(at, one, ["protocol", "hostAddress", "hostPort", "guestPort"]);
    const { protocol = "tcp", hostAddress = "127.0.0.1" } = one;
    if (typeof hostAddress !== "string" || !IPV4.test(hostAddress)) {
      throw invalid(`${at}.hostAddress`, "an IPv4 address", hostAddress);
    }
    return {
      protocol: oneOf(`${at}.protocol`, protocol, ["tcp", "udp"]),
      hostAddress,
      hostPort: integer(`${at}.hostPort`, one.hostPort, 1, PORT_MAX),
      guestPort: integer(`${at}.guestPort`, one.guestPort, 1, PORT_MAX),
    };
  });
  for (const [index, one] of checked.entries()) {
    const isSame = (other: PortForward) =>
      (["protocol", "hostAddress", "hostPort"] as const).every((key) => other[key] === one[key]);
    if (checked.slice(0, index).some(isSame)) {
      throw invalid(
        `${where}[${index}].hostPort`,
        "a port that no other forward has",
        one.hostPort,
      );
    }
  }
  return checked;
}

const IPV4 = /^((25[0-5]|2[0-4]\d|1?\d?\d)(\.(?!$)|$)){4}$/;

function checkUser(where: string, user: UserNetworkConfig): CheckedUserNetwork {
  onlyFields(where, user, ["forwards", "hostLoopback"]);
  return {
    forwards: checkForwards(`${where}.forwards`, user.forwards ?? []),
    hostLoopback: boolean(`${where}.hostLoopback`, user.hostLoopback ?? false),
  };
}

function checkPairs(where: string, config: NetworkInterfaceConfig, vcpuCount: number): number {
  const pairs = integer(where, config.queuePairs ?? 1, 1, PAIRS_MAX);
  if (pairs > 1 && config.user !== undefined) throw invalid(where, "1 for a user's network", pairs);
  if (pairs > vcpuCount) {
    throw invalid(where, `no more than the microVM's vCPUs, ${vcpuCount}`, pairs);
  }
  return pairs;
}

function checkInterface(
  config: NetworkInterfaceConfig,
  index: number,
  vcpuCount: number,
): CheckedInterface {
  const where = `networkInterfaces[${index}]`;
  onlyFields(where, config, FIELDS);
  const id = config.id ?? `net${index}`;
  if (typeof id !== "string" || !/^[\p{L}\p{N}_]{1,64}$/u.test(id)) {
    throw invalid(`${where}.id`, "1 to 64 letters, digits and underscores", id);
  }
  if (config.tap !== undefined && config.user !== undefined) {
    throw invalid(`${where}.user`, "no tap beside it", config.user);
  }
  return {
    id,
    tap: config.user === undefined ? text(`${where}.tap`, config.tap) : undefined,
    user: config.user === undefined ? undefined : checkUser(`${where}.user`, config.user),
    mac: checkMac(`${where}.mac`, config.mac),
    mtu:
      config.mtu === undefined ? undefined : integer(`${where}.mtu`, config.mtu, MTU_MIN, MTU_MAX),
    queuePairs: checkPairs(`${where}.queuePairs`, config, vcpuCount),
    rxRateLimiter: checkRateLimiter(`${where}.rxRateLimiter`, config.rxRateLimiter ?? {}),
    txRateLimiter: checkRateLimiter(`${where}.txRateLimiter`, config.txRateLimiter ?? {}),
  };
}

/** The interfaces with their defaults, or ERR_ESTALO_CONFIG_INVALID; ids and addresses are unique. */
export function checkInterfaces(
  configs: readonly NetworkInterfaceConfig[],
  vcpuCount = 1,
): CheckedInterface[] {
  if (!Array.isArray(configs)) throw invalid("networkInterfaces", "a list", configs);
  const checked = configs.map((config, index) => checkInterface(config, index, vcpuCount));
  for (const [index, one] of checked.entries()) {
    const before = checked.slice(0, index);
    const where = `networkInterfaces[${index}]`;
    if (before.some(({ id }) => id === one.id)) {
      throw invalid(`${where}.id`, "an id that no other interface has", one.id);
    }
    const mac = formatMac(one.mac);
    if (before.some((other) => formatMac(other.mac) === mac)) {
      throw invalid(`${where}.mac`, "an address that no other interface has", mac);
    }
  }
  return checked;
}
