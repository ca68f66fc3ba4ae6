/**
 * VMClock: a page of guest memory that tells a guest, and any program in it, that its machine was restored.
 *
 * It gives no time of its own (status unknown, no counter), as Firecracker's: what there is are the disruption
 * marker, whose change says that clocks have jumped, and the generation counter, whose change says that this
 * may be one of several copies. Both begin at 0. A pause is no disruption: the counters run on.
 *
 * Nothing changes the page as long as there are no snapshots to restore from. Specification: Linux
 * include/uapi/linux/vmclock-abi.h, drivers/ptp/ptp_vmclock.c.
 */
import type { GuestMemory } from "../native/guest-memory.js";
import { VMCLOCK_BYTES, VMCLOCK_GPA } from "./layout.js";
import * as regs from "./vmclock.regs.js";

/** Places the page of a machine that starts; its memory is zero. */
export function writeVmClock(memory: GuestMemory): void {
  memory.writeU32(VMCLOCK_GPA + regs.MAGIC_OFFSET, regs.MAGIC);
  memory.writeU32(VMCLOCK_GPA + regs.SIZE_OFFSET, VMCLOCK_BYTES);
  memory.writeU16(VMCLOCK_GPA + regs.VERSION_OFFSET, regs.VERSION);
  memory.writeU8(VMCLOCK_GPA + regs.COUNTER_ID_OFFSET, regs.COUNTER_INVALID);
  memory.writeU8(VMCLOCK_GPA + regs.TIME_TYPE_OFFSET, regs.TIME_UTC);
  memory.writeU64(
    VMCLOCK_GPA + regs.FLAGS_OFFSET,
    regs.FLAG_GENERATION_PRESENT_MASK + regs.FLAG_NOTIFICATION_PRESENT_MASK,
  );
  memory.writeU8(VMCLOCK_GPA + regs.CLOCK_STATUS_OFFSET, regs.STATUS_UNKNOWN);
}
