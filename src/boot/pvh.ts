/**
 * Xen's PVH start info: what a kernel entered through its PVH note finds at the address in EBX.
 *
 * Three pieces: the start info, the module list (the initrd, if any) and the memory map.
 * Specification: Xen public/arch-x86/hvm/start_info.h, version 1; docs/misc/pvh.pandoc.
 */
import type { GuestMemory } from "../native/guest-memory.js";
import type { BootInformation } from "./boot-params.js";
import { PVH_MEMMAP_GPA, PVH_MODLIST_GPA, PVH_START_INFO_GPA } from "./layout.js";
import * as pvh from "./pvh.regs.js";

/** Writes start info, module list and memory map to their places in the layout. */
export function writePvhInfo(memory: GuestMemory, info: BootInformation): void {
  memory.write(PVH_START_INFO_GPA, startInfo(info));
  memory.write(PVH_MEMMAP_GPA, memoryMapTable(info));
  if (info.initrd === undefined) return;
  const module = new DataView(new ArrayBuffer(pvh.MODULE_BYTES));
  module.setBigUint64(pvh.MODULE_PADDR_OFFSET, BigInt(info.initrd.gpa), true);
  module.setBigUint64(pvh.MODULE_SIZE_OFFSET, BigInt(info.initrd.sizeBytes), true);
  memory.write(PVH_MODLIST_GPA, new Uint8Array(module.buffer));
}

function startInfo(info: BootInformation): Uint8Array {
  const view = new DataView(new ArrayBuffer(pvh.START_INFO_BYTES));
  view.setUint32(pvh.MAGIC_OFFSET, pvh.START_INFO_MAGIC, true);
  view.setUint32(pvh.VERSION_OFFSET, pvh.START_INFO_VERSION, true);
  view.setBigUint64(pvh.CMDLINE_PADDR_OFFSET, BigInt(info.commandLineGpa), true);
  view.setBigUint64(pvh.RSDP_PADDR_OFFSET, BigInt(info.rsdpGpa), true);
  view.setBigUint64(pvh.MEMMAP_PADDR_OFFSET, BigInt(PVH_MEMMAP_GPA), true);
  view.setUint32(pvh.MEMMAP_ENTRIES_OFFSET, info.memoryMap.length, true);
  if (info.initrd !== undefined) {
    view.setUint32(pvh.NR_MODULES_OFFSET, 1, true);
    view.setBigUint64(pvh.MODLIST_PADDR_OFFSET, BigInt(PVH_MODLIST_GPA), true);
  }
  return new Uint8Array(view.buffer);
}

function memoryMapTable(info: BootInformation): Uint8Array {
  const view = new DataView(new ArrayBuffer(info.memoryMap.length * pvh.MEMMAP_ENTRY_BYTES));
  for (const [i, entry] of info.memoryMap.entries()) {
    const at = i * pvh.MEMMAP_ENTRY_BYTES;
    view.setBigUint64(at + pvh.MEMMAP_ADDR_OFFSET, BigInt(entry.start), true);
    view.setBigUint64(at + pvh.MEMMAP_SIZE_OFFSET, BigInt(entry.sizeBytes), true);
    view.setUint32(at + pvh.MEMMAP_TYPE_OFFSET, entry.type, true);
  }
  return new Uint8Array(view.buffer);
}
