/**
 * Single frames of a network device in the host's memory: for those who look at them, and for those that the
 * host itself sends to the guest.
 */
import type { GuestMemory } from "../../native/guest-memory.js";
import type { Gpa } from "../../units.js";
import type { ChainTable } from "./chain-table.js";
import * as regs from "./net.regs.js";
import type { DescriptorChain } from "./queue.js";

/** Bytes of a frame that a detour sees first: Ethernet, IPv4 or IPv6 and TCP headers. */
export const START_BYTES = 64;

/** Copies bytes into the table's chains from its first on, `skip` bytes in; returns how many fitted. */
export function copyIn(
  memory: GuestMemory,
  table: ChainTable,
  chains: number,
  skip: number,
  bytes: Uint8Array,
): number {
  let copied = 0;
  let left = skip;
  const end = table.startOf(table.first + chains);
  for (let index = table.startOf(table.first); index < end && copied < bytes.length; index++) {
    const length = table.lengths[index];
    if (left >= length) {
      left -= length;
      continue;
    }
    const count = Math.min(length - left, bytes.length - copied);
    memory.write(table.addresses[index] + left, bytes.subarray(copied, copied + count));
    copied += count;
    left = 0;
  }
  return copied;
}

/** Whether the frame's source is not this address; false also where the driver split it oddly. */
export function isSpoofed(memory: GuestMemory, chain: DescriptorChain, mac: Uint8Array): boolean {
  let left = regs.HEADER_BYTES + regs.ETHERNET_SOURCE_OFFSET;
  for (let index = 0; index < chain.firstWritable; index++) {
    const length = chain.lengths[index];
    if (left >= length) {
      left -= length;
      continue;
    }
    if (left + regs.MAC_BYTES > length) return false;
    const source: Gpa = chain.addresses[index] + left;
    for (let byte = 0; byte < regs.MAC_BYTES; byte++) {
      if (memory.readU8(source + byte) !== mac[byte]) return true;
    }
    return false;
  }
  return false;
}
