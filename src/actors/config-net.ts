/**
 * Network interfaces in a microVM's configuration: what can be said of them, and its checks.
 */
import { randomBytes } from "node:crypto";
import type { RateLimiterConfig } from "../devices/rate-limiter.js";
import { MTU_MAX, MTU_MIN } from "../devices/virtio/net.regs.js";
import { integer, invalid, onlyFields, text } from "./config-checks.js";
import { checkRateLimiter } from "./config-rate-limiter.js";

/** One virtio network device. */
export interface NetworkInterfaceConfig {
  /** Unique in the microVM; letters, digits and underscores, 1 to 64. Default: `net0`, `net1`, … */
  readonly id?: string;
  /** Name of an existing tap interface in this process's network namespace. */
  readonly tap: string;
  /** The guest's address, `06:00:…`, not a group's. Default: random, locally administered. */
  readonly mac?: string;
  /** 68 to 65,535. Default: the guest's own. */
  readonly mtu?: number;
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
}

/** An interface with nothing left open. */
export interface CheckedInterface {
  readonly id: string;
  readonly tap: string;
  /** Six bytes. */
  readonly mac: Uint8Array;
  readonly mtu: number | undefined;
  readonly rxRateLimiter: RateLimiterConfig;
  readonly txRateLimiter: RateLimiterConfig;
}

const FIELDS = ["id", "tap", "mac", "mtu", "rxRateLimiter", "txRateLimiter"];
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

function checkInterface(config: NetworkInterfaceConfig, index: number): CheckedInterface {
  const where = `networkInterfaces[${index}]`;
  onlyFields(where, config, FIELDS);
  const id = config.id ?? `net${index}`;
  if (typeof id !== "string" || !/^[\p{L}\p{N}_]{1,64}$/u.test(id)) {
    throw invalid(`${where}.id`, "1 to 64 letters, digits and underscores", id);
  }
  return {
    id,
    tap: text(`${where}.tap`, config.tap),
    mac: checkMac(`${where}.mac`, config.mac),
    mtu:
      config.mtu === undefined ? undefined : integer(`${where}.mtu`, config.mtu, MTU_MIN, MTU_MAX),
    rxRateLimiter: checkRateLimiter(`${where}.rxRateLimiter`, config.rxRateLimiter ?? {}),
    txRateLimiter: checkRateLimiter(`${where}.txRateLimiter`, config.txRateLimiter ?? {}),
  };
}

/** The interfaces with their defaults, or ERR_ESTALO_CONFIG_INVALID; ids and addresses are unique. */
export function checkInterfaces(configs: readonly NetworkInterfaceConfig[]): CheckedInterface[] {
  if (!Array.isArray(configs)) throw invalid("networkInterfaces", "a list", configs);
  const checked = configs.map(checkInterface);
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
