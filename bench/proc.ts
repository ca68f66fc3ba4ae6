/**
 * A process's memory as Linux accounts for it, without its guests' memory.
 *
 * Proportional set size: private pages whole, shared ones divided by their users. Guest memory is known by what
 * becomes of its mapping in a program that is started and in a core dump (nothing of either), or by its name: a
 * kernel's image, QEMU's memfd. Source: Linux Documentation/filesystems/proc.rst.
 */
import { readFileSync } from "node:fs";

/** In KiB; guest memory apart. */
export interface ProcessMemory {
  readonly pssKib: number;
  readonly privateKib: number;
  readonly guestPssKib: number;
}

const GUEST_NAME = /memfd:(estalo-guest-image|memory-backend-memfd)/;
/** VM_DONTCOPY and VM_DONTDUMP. */
const GUEST_FLAGS = /^VmFlags:.* dc.* dd/m;
const MAPPINGS = /(?=^[0-9a-f]+-[0-9a-f]+ )/m;

/** Reads /proc/PID/smaps; `self` is this process. */
export function memoryOf(pid: number | "self"): ProcessMemory {
  const sum = { pssKib: 0, privateKib: 0, guestPssKib: 0 };
  for (const mapping of readFileSync(`/proc/${pid}/smaps`, "latin1").split(MAPPINGS)) {
    const kib = (field: string) =>
      Number(new RegExp(`^${field}: +([0-9]+) kB`, "m").exec(mapping)?.[1] ?? 0);
    if (GUEST_NAME.test(mapping) || GUEST_FLAGS.test(mapping)) {
      sum.guestPssKib += kib("Pss");
    } else {
      sum.pssKib += kib("Pss");
      sum.privateKib += kib("Private_Clean") + kib("Private_Dirty");
    }
  }
  return sum;
}
