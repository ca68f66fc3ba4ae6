/**
 * Taps on a bridge. Each is marked by its alias, with its guest's number in the network and, where `estalo run`
 * made it for itself, that process:
 *
 *     estalo tap host=2            until somebody removes it
 *     estalo tap host=3 pid=4711   as long as the process; what a killed one left is removed by the next
 */
import { command, type HostLink, hostAddresses, hostLinks, networkError } from "./host-links.js";
import { anySubnet, hostAddress, hostMax, networkOf } from "./subnet.js";

const TAP_MARK = "estalo tap";
/** Of a name at most, so that a tap's own fits: 15 characters with a dot and five digits. */
export const NETWORK_NAME_MAX = 9;
/** Others may take the number or the name meanwhile. */
const TRIES_MAX = 32;

/** A tap of a network. */
export interface NetworkTap {
  readonly name: string;
  readonly network: string;
  /** The guest's, `ADDRESS/BITS`, and its gateway; undefined on a bridge that is not Estalo's. */
  readonly address: string | undefined;
  readonly gateway: string | undefined;
  /** A program has it open. */
  readonly isUsed: boolean;
  /** Of the `estalo run` that made it. */
  readonly pid: number | undefined;
}

/** A tap to be made. */
export interface TapOptions {
  /** The bridge. */
  readonly network: string;
  /** Default: the network's name and the guest's number. */
  readonly name?: string;
  /** User who may open it. */
  readonly owner?: string;
  readonly hasSeveralQueues?: boolean;
  /** It is this process's own. */
  readonly isOwn?: boolean;
}

/** A value of its mark's; undefined: there is none. */
function marked({ ifalias }: HostLink, key: string): number | undefined {
  const word = ifalias?.split(" ").find((one) => one.startsWith(`${key}=`));
  return word === undefined ? undefined : Number(word.slice(key.length + 1));
}

export function isTap({ ifalias }: HostLink): boolean {
  return ifalias?.startsWith(`${TAP_MARK} `) ?? false;
}

export function isTapOf(link: HostLink, network: string): boolean {
  return isTap(link) && link.master === network;
}

/** Its link is up while a program has it. */
export function isTapUsed({ flags }: HostLink): boolean {
  return flags.includes("LOWER_UP");
}

export function tapInfo(link: HostLink, network: string, subnet: string | undefined): NetworkTap {
  const host = marked(link, "host");
  const own = subnet === undefined || host === undefined ? undefined : anySubnet(subnet);
  return {
    name: link.ifname,
    network,
    address: own && `${hostAddress(own, host as number)}/${own.bits}`,
    gateway: own && subnet?.split("/")[0],
    isUsed: isTapUsed(link),
    pid: marked(link, "pid"),
  };
}

/** Removes an interface, if it is still there. */
export function removeLink(name: string): void {
  const doing = { operation: "remove", object: name };
  try {
    command(doing, "ip", ["link", "delete", "dev", name]);
  } catch (error) {
    if (!hostLinks().some(({ ifname }) => ifname === name)) return;
    throw error;
  }
}

/** Removes a tap of ours; false: there is none of this name. */
export function removeTap(name: string, force: boolean): boolean {
  const doing = { operation: "remove tap", object: name };
  const link = hostLinks().find(({ ifname }) => ifname === name);
  if (link === undefined) return false;
  if (!isTap(link)) throw networkError(doing, "EPERM", `${name} is not Estalo's: it is left alone`);
  if (isTapUsed(link) && !force) {
    throw networkError(doing, "EBUSY", "a microVM has it; --force takes it away from it");
  }
  removeLink(name);
  return true;
}

/** Makes a tap on a bridge; one of ours that is there under its name is as good. Leaves nothing when it fails. */
export function addTap(options: TapOptions): NetworkTap {
  const { network, name } = options;
  const doing = { operation: "make tap on", object: network };
  removeLeftovers(network);
  const taken = new Set<number>();
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const links = hostLinks();
    const bridge = links.find(({ ifname }) => ifname === network);
    if (bridge?.linkinfo?.info_kind !== "bridge") {
      const hint = `${network} is no bridge: estalo net up --name ${network} makes one`;
      throw networkError(doing, "ENODEV", hint);
    }
    const isOurs = bridge.ifalias?.startsWith("estalo network") === true;
    const subnet = isOurs ? hostAddresses().get(network)?.[0] : undefined;
    const there = links.find(({ ifname }) => ifname === name);
    if (there !== undefined) {
      if (isTapOf(there, network)) return tapInfo(there, network, subnet);
      const hint = `there is an interface ${name} that is not of this network`;
      throw networkError({ operation: "make tap", object: name as string }, "EEXIST", hint);
    }
    const host = freeNumber(links, network, subnet, taken);
    if (host === undefined) throw networkError(doing, "EADDRNOTAVAIL", "every address has its tap");
    taken.add(host);
    const made = tryTap(options, host, name === undefined);
    if (made !== undefined) return tapInfo(made, network, subnet);
  }
  throw networkError(doing, "EAGAIN", "others take its taps all the time");
}

/** The least number that no tap has and that is not the host's own. */
function freeNumber(
  links: readonly HostLink[],
  network: string,
  subnet: string | undefined,
  taken: ReadonlySet<number>,
): number | undefined {
  const used = new Set(taken);
  for (const link of links) {
    const host = isTapOf(link, network) ? marked(link, "host") : undefined;
    if (host !== undefined) used.add(host);
    if (link.ifname.startsWith(autoName(network, ""))) used.add(Number(link.ifname.split(".")[1]));
  }
  const own = anySubnet(subnet ?? "10.0.0.1/16");
  used.add(own.address - networkOf(own));
  for (let host = 1; host <= hostMax(own); host++) if (!used.has(host)) return host;
  return undefined;
}

function autoName(network: string, host: number | string): string {
  return `${network.slice(0, NETWORK_NAME_MAX)}.${host}`;
}

/** Makes it with this number; undefined: somebody else has just taken the name or the number. */
function tryTap(options: TapOptions, host: number, mayFail: boolean): HostLink | undefined {
  const { network, owner, isOwn = false, hasSeveralQueues = false } = options;
  const name = options.name ?? autoName(network, host);
  const doing = { operation: "make tap", object: name };
  const words = ["tuntap", "add", "dev", name, "mode", "tap", "vnet_hdr"];
  if (hasSeveralQueues) words.push("multi_queue");
  if (owner !== undefined) words.push("user", owner);
  try {
    // Refused where there is one already: the name is a lock.
    command(doing, "ip", words);
  } catch (error) {
    if (mayFail && (error as { data?: { errno?: string } }).data?.errno === "EBUSY") return;
    throw error;
  }
  try {
    const alias = `${TAP_MARK} host=${host}${isOwn ? ` pid=${process.pid}` : ""}`;
    const set = ["link", "set", "dev", name, "alias", alias, "master", network, "up"];
    command(doing, "ip", set);
    const same = hostLinks().filter(
      (link) => isTapOf(link, network) && marked(link, "host") === host,
    );
    if (same.length === 1) return same[0];
  } catch (error) {
    removeLink(name);
    throw error;
  }
  // Two at once: both go, and look again.
  removeLink(name);
  return undefined;
}

/** What killed processes have left on a bridge. */
function removeLeftovers(network: string): void {
  for (const link of hostLinks()) {
    const pid = marked(link, "pid");
    if (!isTapOf(link, network) || pid === undefined || isTapUsed(link) || isRunning(pid)) continue;
    removeLink(link.ifname);
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}
