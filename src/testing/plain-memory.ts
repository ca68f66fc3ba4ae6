/** Guest memory without KVM: a plain SharedArrayBuffer, one region, or two around a gap. */
import { GuestMemory, type MemoryRegion } from "../native/guest-memory.js";
import { KIB } from "../units.js";

/** `sizeBytes` of RAM from address 0. */
export function createMemory(sizeBytes = 256 * KIB): GuestMemory {
  return createMemoryOf([{ start: 0, sizeBytes }]);
}

/** RAM in these regions; what lies between them is in the buffer, but no memory. */
export function createMemoryOf(regions: readonly MemoryRegion[]): GuestMemory {
  const end = Math.max(...regions.map((region) => region.start + region.sizeBytes));
  return new GuestMemory(new SharedArrayBuffer(end), regions);
}
