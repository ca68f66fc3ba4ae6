/**
 * A bzImage: real-mode setup, of which only the header is used, and the self-decompressing 64-bit
 * code.
 *
 *     file    │ setup header at 0x1f1 │ … setup sectors │ code (syssize × 16) │ signature …
 *     memory                                            │ 1 MiB, entry at + 0x200
 *                                                           │ pref_address … + init_size:
 *                                                             the kernel unpacks itself here
 *
 * Specification: Linux 6.1 Documentation/arch/x86/boot.rst, boot protocol 2.12 (xloadflags) or
 * later.
 */
import { hex } from "../units.js";
import { type OpenBootFile, readBytes } from "./boot-file.js";
import { checkInFile, type KernelImage, kernelError, readFileU64 } from "./kernel-file.js";
import { COMMAND_LINE_BYTES_MAX, HIGH_MEMORY_GPA } from "./layout.js";
import * as linux from "./linux.regs.js";

/** Reads the setup header; `probe` holds the file's first bytes. */
export function parseBzImage(file: OpenBootFile, probe: DataView): KernelImage {
  checkInFile(file, 0, linux.HEADER_BYTES, "the setup header");
  checkVersion(file, probe);
  const setupSectors = probe.getUint8(linux.SETUP_SECTS_OFFSET) || linux.SETUP_SECTS_DEFAULT;
  const codeOffset = (setupSectors + 1) * linux.SECTOR_BYTES;
  const codeBytes = probe.getUint32(linux.SYSSIZE_OFFSET, true) * linux.SYSSIZE_UNIT_BYTES;
  if (codeBytes <= linux.ENTRY_64_OFFSET) {
    throw kernelError("ERR_ESTALO_KERNEL_FORMAT", file, "is a bzImage with no code in it");
  }
  checkInFile(file, codeOffset, codeBytes, "the kernel's code");
  const entry = HIGH_MEMORY_GPA + linux.ENTRY_64_OFFSET;
  const prefAddress = readFileU64(file, probe, linux.PREF_ADDRESS_OFFSET, "preferred address");
  const unpackedEnd = prefAddress + probe.getUint32(linux.INIT_SIZE_OFFSET, true);
  if (unpackedEnd > Number.MAX_SAFE_INTEGER) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      `states an impossible preferred address, ${hex(prefAddress)}`,
    );
  }
  return {
    format: "bzimage",
    protocol: "linux64",
    entry,
    segments: [
      {
        fileOffset: codeOffset,
        fileBytes: codeBytes,
        gpa: HIGH_MEMORY_GPA,
        memoryBytes: codeBytes,
      },
    ],
    // The code moves itself to the end of its unpacking area first, so both must be there.
    endGpa: Math.max(HIGH_MEMORY_GPA + codeBytes, unpackedEnd),
    initrdLastGpa: probe.getUint32(linux.INITRD_ADDR_MAX_OFFSET, true),
    commandLineBytesMax: Math.min(
      probe.getUint32(linux.CMDLINE_SIZE_OFFSET, true),
      COMMAND_LINE_BYTES_MAX - 1,
    ),
    setupHeader: readSetupHeader(file, probe),
  };
}

function checkVersion(file: OpenBootFile, probe: DataView): void {
  const version = probe.getUint16(linux.VERSION_OFFSET, true);
  if (version < linux.VERSION_MIN) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      `is a bzImage of boot protocol ${version >> 8}.${version & 255}; 2.12 or later is needed`,
      "Linux 3.8 and later have it",
    );
  }
  if ((probe.getUint16(linux.XLOADFLAGS_OFFSET, true) & linux.XLF_KERNEL_64_MASK) === 0) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      "is a bzImage without a 64-bit entry point, a 32-bit kernel",
      "an x86-64 kernel is needed",
    );
  }
}

/** From 0x1f1 to the header's end, which the jump at 0x200 skips to. */
function readSetupHeader(file: OpenBootFile, probe: DataView): Uint8Array {
  const end = linux.HEADER_MAGIC_OFFSET + probe.getUint8(linux.JUMP_DISPLACEMENT_OFFSET);
  if (end < linux.INIT_SIZE_OFFSET + 4 || end > linux.HEADER_END_MAX_OFFSET) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      `is a bzImage whose setup header ends at ${hex(end)}, which no boot protocol has`,
    );
  }
  const header = readBytes(file, linux.SETUP_SECTS_OFFSET, end - linux.SETUP_SECTS_OFFSET);
  return new Uint8Array(header.buffer);
}
