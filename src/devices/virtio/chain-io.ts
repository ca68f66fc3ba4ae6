/**
 * Small structures in and out of a descriptor chain, wherever the driver split them: VirtIO 1.2 §
 * 2.7.4 lets it cut a request into segments as it likes, so no device may expect a header in one
 * descriptor.
 */
import type { GuestMemory } from "../../native/guest-memory.js";
import type { DescriptorChain } from "./queue.js";

/**
 * Copies `count` bytes from the segments `first` to before `end` into `out`, starting `skip` bytes
 * in. Returns how many there were, at most `count`.
 */
export function gather(
  memory: GuestMemory,
  chain: DescriptorChain,
  range: { readonly first: number; readonly end: number; readonly skip: number },
  out: Uint8Array,
  count: number,
): number {
  let { skip } = range;
  let copied = 0;
  for (let index = range.first; index < range.end && copied < count; index++) {
    const length = chain.lengths[index];
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const bytes = Math.min(length - skip, count - copied);
    out.set(memory.read(chain.addresses[index] + skip, bytes), copied);
    copied += bytes;
    skip = 0;
  }
  return copied;
}

/** As `gather` from all device-readable segments, as many bytes as `out` holds. */
export function gatherReadable(
  memory: GuestMemory,
  chain: DescriptorChain,
  skip: number,
  out: Uint8Array,
): number {
  return gather(memory, chain, { first: 0, end: chain.firstWritable, skip }, out, out.length);
}

/**
 * Copies `bytes` into the device-writable segments, starting `skip` bytes in; returns how many
 * fitted.
 */
export function scatter(
  memory: GuestMemory,
  chain: DescriptorChain,
  bytes: Uint8Array,
  skip = 0,
): number {
  let left = skip;
  let copied = 0;
  for (let index = chain.firstWritable; index < chain.count && copied < bytes.length; index++) {
    const length = chain.lengths[index];
    if (left >= length) {
      left -= length;
      continue;
    }
    const count = Math.min(length - left, bytes.length - copied);
    memory.write(chain.addresses[index] + left, bytes.subarray(copied, copied + count));
    copied += count;
    left = 0;
  }
  return copied;
}
