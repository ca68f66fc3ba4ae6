/**
 * Linux's zero page: `struct boot_params` for a 64-bit boot.
 *
 * A bzImage's own setup header is carried over as boot.rst demands; for a vmlinux, whose header is
 * not at hand, the few fields that the kernel looks at are set. Specification: Linux 6.1
 * Documentation/arch/x86/boot.rst § "64-bit boot protocol", zero-page.rst.
 */
import type { Gpa } from "../units.js";
import type { KernelImage } from "./kernel-file.js";
import { HIGH_MEMORY_GPA } from "./layout.js";
import * as linux from "./linux.regs.js";
import type { LoadedInitrd } from "./load-initrd.js";
import type { MemoryMapEntry } from "./memory-map.js";

/** What both boot protocols tell a kernel. */
export interface BootInformation {
  readonly commandLineGpa: Gpa;
  /** Bytes without the NUL. */
  readonly commandLineBytes: number;
  readonly rsdpGpa: Gpa;
  readonly initrd: LoadedInitrd | undefined;
  readonly memoryMap: readonly MemoryMapEntry[];
}

/** The page's 4,096 bytes. */
export function buildBootParams(image: KernelImage, info: BootInformation): Uint8Array {
  const page = new Uint8Array(linux.BOOT_PARAMS_BYTES);
  const view = new DataView(page.buffer);
  if (image.setupHeader !== undefined) {
    page.set(image.setupHeader, linux.SETUP_SECTS_OFFSET);
    view.setUint32(linux.CODE32_START_OFFSET, HIGH_MEMORY_GPA, true);
  } else {
    view.setUint16(linux.BOOT_FLAG_OFFSET, linux.BOOT_FLAG, true);
    view.setUint32(linux.HEADER_MAGIC_OFFSET, linux.HEADER_MAGIC, true);
    view.setUint32(linux.KERNEL_ALIGNMENT_OFFSET, linux.KERNEL_ALIGNMENT_BYTES, true);
    view.setUint32(linux.CMDLINE_SIZE_OFFSET, info.commandLineBytes, true);
  }
  view.setUint8(linux.TYPE_OF_LOADER_OFFSET, linux.TYPE_OF_LOADER_UNDEFINED);
  view.setUint32(linux.CMD_LINE_PTR_OFFSET, info.commandLineGpa, true);
  // Both lie in the first region, below 4 GiB; the fields for more stay 0.
  view.setUint32(linux.RAMDISK_IMAGE_OFFSET, info.initrd?.gpa ?? 0, true);
  view.setUint32(linux.RAMDISK_SIZE_OFFSET, info.initrd?.sizeBytes ?? 0, true);
  view.setBigUint64(linux.ACPI_RSDP_ADDR_OFFSET, BigInt(info.rsdpGpa), true);
  view.setUint8(linux.E820_ENTRIES_OFFSET, info.memoryMap.length);
  for (const [i, entry] of info.memoryMap.entries()) {
    const at = linux.E820_TABLE_OFFSET + i * linux.E820_ENTRY_BYTES;
    view.setBigUint64(at, BigInt(entry.start), true);
    view.setBigUint64(at + 8, BigInt(entry.sizeBytes), true);
    view.setUint32(at + 16, entry.type, true);
  }
  return page;
}
