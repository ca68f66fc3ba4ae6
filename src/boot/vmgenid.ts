/**
 * The VM generation id: 16 random bytes that change whenever a microVM starts or is restored.
 *
 * The guest finds the address in the DSDT (`VGEN.ADDR`) and learns of a change by the device's
 * interrupt. Specification: Microsoft's "Virtual Machine Generation ID"; Linux
 * drivers/virt/vmgenid.c.
 */
import { EstaloError } from "../errors.js";
import type { GuestMemory } from "../native/guest-memory.js";
import { VMGENID_BYTES, VMGENID_GPA } from "./layout.js";

/**
 * Places a new generation id. The caller brings the randomness and, after a restore, the interrupt.
 */
export function writeVmGenId(memory: GuestMemory, id: Uint8Array): void {
  if (id.length !== VMGENID_BYTES) {
    throw new EstaloError(
      "ERR_ESTALO_BUG",
      `a VM generation id has ${VMGENID_BYTES} bytes, not ${id.length}`,
    );
  }
  memory.write(VMGENID_GPA, id);
}
