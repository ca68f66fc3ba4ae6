/**
 * Guest memory that the host holds for this process, as the benches tell it from the process's own.
 */
import { memoryOf } from "../../bench/proc.js";
import { KIB } from "../../src/units.js";

/** In bytes; what several processes share is divided by them. */
export const heldBytes = (): number => memoryOf("self").guestPssKib * KIB;

export const heldMib = (): number => heldBytes() / KIB / KIB;
