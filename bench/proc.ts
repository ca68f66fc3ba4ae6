/**
 * A process's memory as Linux accounts for it, without its guests' memory.
 *
 * Proportional set size: private pages whole, shared ones divided by their users. Guest memory is known by
 * the name of its mapping: the memfd of Estalo or QEMU. Source: Linux Documentation/filesystems/proc.rst.
 */
import { readFileSync } from "node:fs";

/** In KiB; guest memory apart. */
export interface ProcessMemory {
  readonly pssKib: number;
  readonly privateKib: number;
  readonly guestPssKib: number;
}

const GUEST_MAPPING = /memfd:(estalo-guest|memory-backend-memfd)/;
const MAPPING_HEADER = /^[0-9a-f]+-[0-9a-f]+ /;
const FIELD = /^(Pss|Private_Clean|Private_Dirty): +([0-9]+) kB/;

/** Reads /proc/PID/smaps; `self` is this process. */
export function memoryOf(pid: number | "self"): ProcessMemory {
  let pssKib = 0;
  let privateKib = 0;
  let guestPssKib = 0;
  let isGuest = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, "latin1").split("\n")) {
    if (MAPPING_HEADER.test(line)) isGuest = GUEST_MAPPING.test(line);
    const field = FIELD.exec(line);
    if (field === null) continue;
    const kib = Number(field[2]);
    if (isGuest) guestPssKib += field[1] === "Pss" ? kib : 0;
    else if (field[1] === "Pss") pssKib += kib;
    else privateKib += kib;
  }
  return { pssKib, privateKib, guestPssKib };
}
