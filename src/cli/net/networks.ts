/**
 * Networks for microVMs on this host: a bridge with an address, and where asked for a way out by NAT.
 *
 * What is here is in the host's kernel and nowhere else. What was made here is known by its marks: the alias of
 * an interface (`estalo network …`, `estalo tap …`) and the name of an nftables table (`estalo_NAME`); nothing
 * without them is changed. Forwarding (net.ipv4.ip_forward) is turned on when a network with NAT needs it, and
 * off again with the last of them if it was off before.
 */
import { readFileSync, writeFileSync } from "node:fs";
import type { EstaloError } from "../../errors.js";
import {
  command,
  type Doing,
  type HostLink,
  hostAddresses,
  hostLinks,
  networkError,
} from "./host-links.js";
import { anySubnet, networkText, overlaps, type Subnet, subnetText } from "./subnet.js";
import { isTapOf, isTapUsed, type NetworkTap, removeLink, tapInfo } from "./taps.js";

const NETWORK_MARK = "estalo network";
/** Words after the mark: it has NAT; it has turned forwarding on. */
const NAT_WORD = "nat";
const FORWARD_WORD = "forward";
const IP_FORWARD = "/proc/sys/net/ipv4/ip_forward";

/** A network to be made. */
export interface NetworkOptions {
  /** Of the bridge. */
  readonly name: string;
  /** The bridge's address, the guests' gateway. */
  readonly subnet: Subnet;
  readonly nat: boolean;
}

/** A network that is there. */
export interface Network {
  readonly name: string;
  /** `ADDRESS/BITS`; undefined where somebody has taken it away. */
  readonly subnet: string | undefined;
  readonly nat: boolean;
  readonly taps: readonly NetworkTap[];
}

function isNetwork({ ifalias }: HostLink): boolean {
  return ifalias === NETWORK_MARK || (ifalias?.startsWith(`${NETWORK_MARK} `) ?? false);
}

function hasWord(link: HostLink, word: string): boolean {
  return link.ifalias?.split(" ").includes(word) ?? false;
}

/** The networks that are there, by name. */
export function listNetworks(): Network[] {
  const links = hostLinks();
  const addresses = hostAddresses();
  return links
    .filter(isNetwork)
    .map((link) => {
      const subnet = addresses.get(link.ifname)?.[0];
      const ours = links.filter((one) => isTapOf(one, link.ifname));
      const taps = ours.map((one) => tapInfo(one, link.ifname, subnet));
      return { name: link.ifname, subnet, nat: hasWord(link, NAT_WORD), taps };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Makes a network, or what is missing of it; whether it is new. Leaves nothing when it fails. */
export function upNetwork(options: NetworkOptions): { readonly isNew: boolean } {
  const { name } = options;
  const doing = { operation: "set up network", object: name };
  const links = hostLinks();
  const there = links.find(({ ifname }) => ifname === name);
  if (there !== undefined && !isNetwork(there)) {
    throw networkError(doing, "EEXIST", `${name} is not Estalo's: choose another --name`);
  }
  if (there !== undefined) checkSame(doing, options);
  else checkFree(doing, options.subnet);
  try {
    if (there === undefined) command(doing, "ip", ["link", "add", name, "type", "bridge"]);
    arrange(doing, options, there);
  } catch (error) {
    if (there === undefined) removeQuietly(name, error as EstaloError);
    throw error;
  }
  return { isNew: there === undefined };
}

/** A failed set-up's first error is what is told. One that could not even make the bridge made nothing. */
function removeQuietly(name: string, { data }: EstaloError): void {
  try {
    if (data.errno === "EEXIST") return;
    if (hostLinks().some(({ ifname }) => ifname === name)) removeLink(name);
    removeTable(name);
  } catch {
    // Whoever could not make it cannot remove it either.
  }
}

function arrange(doing: Doing, { name, subnet, nat }: NetworkOptions, there?: HostLink): void {
  const turnsForwardOn = nat && readFileSync(IP_FORWARD, "utf8").trim() === "0";
  const forwards = turnsForwardOn || (there !== undefined && hasWord(there, FORWARD_WORD));
  const words = [NETWORK_MARK, ...(nat ? [NAT_WORD] : []), ...(forwards ? [FORWARD_WORD] : [])];
  command(doing, "ip", ["link", "set", "dev", name, "alias", words.join(" ")]);
  const address = subnetText(subnet);
  if (hostAddresses().get(name)?.[0] !== address) {
    command(doing, "ip", ["addr", "add", address, "broadcast", "+", "dev", name]);
  }
  // Its ports pass frames on at once.
  command(doing, "ip", ["link", "set", "dev", name, "type", "bridge", "forward_delay", "0"]);
  command(doing, "ip", ["link", "set", "dev", name, "up"]);
  if (nat) command(doing, "nft", ["-f", "-"], natRules(name, subnet));
  if (turnsForwardOn) setForwarding(doing, "1");
}

/** One that is there under this name has to be the one that is asked for. */
function checkSame(doing: Doing, { name, subnet, nat }: NetworkOptions): void {
  const found = listNetworks().find((one) => one.name === name);
  const isSame = found?.nat === nat && (found.subnet ?? subnetText(subnet)) === subnetText(subnet);
  if (isSame) return;
  const is = `${found?.subnet ?? "no address"}${found?.nat ? " with NAT" : ""}`;
  throw networkError(doing, "EEXIST", `it has ${is}: estalo net down --name ${name} first`);
}

/** No other interface may have addresses of this network. */
function checkFree(doing: Doing, subnet: Subnet): void {
  for (const [ifname, addresses] of hostAddresses()) {
    if (!addresses.some((one) => overlaps(subnet, anySubnet(one)))) continue;
    const hint = `${ifname} has ${addresses.join(", ")}: choose another --subnet`;
    throw networkError({ ...doing, object: subnetText(subnet) }, "EADDRINUSE", hint);
  }
}

/** Guests reach everything and are answered; nobody outside reaches a guest first. */
function natRules(name: string, subnet: Subnet): string {
  const table = `table ip ${tableOf(name)}`;
  return `${table}
delete ${table}
${table} {
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr ${networkText(subnet)} oifname != "${name}" masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    oifname "${name}" iifname != "${name}" ct state established,related accept
    oifname "${name}" iifname != "${name}" drop
  }
}
`;
}

function tableOf(name: string): string {
  return `estalo_${name}`;
}

function setForwarding(doing: Doing, value: "0" | "1"): void {
  try {
    writeFileSync(IP_FORWARD, value);
  } catch (error) {
    const { code = "EIO" } = error as NodeJS.ErrnoException;
    throw networkError({ ...doing, object: "net.ipv4.ip_forward" }, code);
  }
}

/** Removes a network with its taps; false: there is none. Taps that are in use keep it, unless `force`. */
export function downNetwork(name: string, force: boolean): boolean {
  const doing = { operation: "take down network", object: name };
  const links = hostLinks();
  const bridge = links.find(({ ifname }) => ifname === name);
  if (bridge === undefined) return removeTable(name);
  if (!isNetwork(bridge)) {
    throw networkError(doing, "EPERM", `${name} is not Estalo's: it is left alone`);
  }
  const taps = links.filter((link) => isTapOf(link, name));
  const used = taps.filter(isTapUsed).map(({ ifname }) => ifname);
  if (used.length > 0 && !force) {
    const hint = `a microVM has ${used.join(", ")}; --force takes it away from it`;
    throw networkError(doing, "EBUSY", hint);
  }
  for (const { ifname } of taps) removeLink(ifname);
  if (hasWord(bridge, NAT_WORD)) removeTable(name);
  if (hasWord(bridge, FORWARD_WORD)) leaveForwarding(doing, links, name);
  removeLink(name);
  return true;
}

/** Another network with NAT inherits forwarding and the duty to turn it off; without one it is turned off. */
function leaveForwarding(doing: Doing, links: readonly HostLink[], name: string): void {
  const heir = links.find(
    (link) => link.ifname !== name && isNetwork(link) && hasWord(link, NAT_WORD),
  );
  if (heir === undefined) setForwarding(doing, "0");
  else {
    const alias = `${NETWORK_MARK} ${NAT_WORD} ${FORWARD_WORD}`;
    command(doing, "ip", ["link", "set", "dev", heir.ifname, "alias", alias]);
  }
}

/** Removes the network's table, where there is one; whether there was. */
function removeTable(name: string): boolean {
  const doing = { operation: "remove table", object: tableOf(name) };
  let tables: string;
  try {
    tables = command(doing, "nft", ["list", "tables"]);
  } catch (error) {
    // Without the program there is none of ours.
    if ((error as EstaloError).data.errno === "ENOENT") return false;
    throw error;
  }
  if (!tables.split("\n").includes(`table ip ${tableOf(name)}`)) return false;
  command(doing, "nft", ["delete", "table", "ip", tableOf(name)]);
  return true;
}
