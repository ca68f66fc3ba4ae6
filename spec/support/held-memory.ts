/**
 * Guest memory that the host holds for this process. Its mappings are those that neither a program that is started
 * nor a core dump gets (VmFlags `dc` and `dd`); a kernel's image over them has a name.
 */
import { readFileSync } from "node:fs";
import { KIB } from "../../src/units.js";

const IMAGE = "memfd:estalo-guest-image";

/** In bytes; what several processes share is divided by them. */
export function heldBytes(): number {
  const mappings = readFileSync("/proc/self/smaps", "latin1").split(/(?=^[0-9a-f]+-[0-9a-f]+ )/m);
  const ofGuests = mappings.filter((mapping) => {
    const flags = /^VmFlags:(.*)$/m.exec(mapping)?.[1] ?? "";
    return (flags.includes(" dc") && flags.includes(" dd")) || mapping.includes(IMAGE);
  });
  const kib = ofGuests.map((mapping) => Number(/^Pss:\s+(\d+)/m.exec(mapping)?.[1] ?? 0));
  return kib.reduce((sum, one) => sum + one, 0) * KIB;
}

export const heldMib = (): number => heldBytes() / KIB / KIB;
