/** IPv4 networks as `ADDRESS/BITS`, the address being the host's own in it. */
import { isIPv4 } from "node:net";

/** Room for one guest at least, and no more guests than fit into a tap's name. */
const BITS_MIN = 16;
const BITS_MAX = 30;

/** An IPv4 network with an address of the host's in it. */
export interface Subnet {
  readonly address: number;
  readonly bits: number;
}

/** `ADDRESS/BITS`, of 16 to 30 bits, the address a host's; `undefined`: it is none. */
export function parseSubnet(text: string): Subnet | undefined {
  const [address, bits, ...more] = text.split("/");
  if (!isIPv4(address) || more.length > 0 || !/^[0-9]{1,2}$/.test(bits ?? "")) return undefined;
  const subnet = { address: toNumber(address), bits: Number(bits) };
  if (subnet.bits < BITS_MIN || subnet.bits > BITS_MAX) return undefined;
  const host = subnet.address - networkOf(subnet);
  return host >= 1 && host <= hostMax(subnet) ? subnet : undefined;
}

/** The network's first address. */
export function networkOf({ address, bits }: Subnet): number {
  return address - (address % 2 ** (32 - bits));
}

/** The last host's number in it. */
export function hostMax({ bits }: Subnet): number {
  return 2 ** (32 - bits) - 2;
}

/** The address of a host by its number in the network. */
export function hostAddress(subnet: Subnet, host: number): string {
  return toText(networkOf(subnet) + host);
}

/** As `ADDRESS/BITS`, of the host and of the network. */
export function subnetText({ address, bits }: Subnet): string {
  return `${toText(address)}/${bits}`;
}
export function networkText(subnet: Subnet): string {
  return `${toText(networkOf(subnet))}/${subnet.bits}`;
}

/** Whether two networks have an address in common; the second may be of any size. */
export function overlaps(one: Subnet, other: Subnet): boolean {
  const bits = Math.min(one.bits, other.bits);
  return networkOf({ ...one, bits }) === networkOf({ ...other, bits });
}

/** Any `ADDRESS/BITS` that the kernel printed. */
export function anySubnet(text: string): Subnet {
  const [address, bits] = text.split("/");
  return { address: toNumber(address), bits: Number(bits) };
}

function toNumber(address: string): number {
  return address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}
