/**
 * What a kernel file is: an ELF vmlinux with or without a PVH entry, or a bzImage.
 *
 * Reads headers only and changes nothing; `load-kernel.ts` puts the result into memory. Every
 * number of the file is checked against the file's size, the low memory and 2^53 here, so that what
 * leaves is sound. The protocols are tried in Firecracker's order: PVH note, ELF's 64-bit entry,
 * bzImage's 64-bit entry.
 *
 * Errors: ERR_ESTALO_KERNEL_FORMAT for what cannot be a kernel for this machine,
 * ERR_ESTALO_KERNEL_TRUNCATED for a kernel whose contents reach beyond its end. Specifications:
 * System V ABI (ELF), Linux Documentation/arch/x86/boot.rst (bzImage).
 */
import type { EstaloError } from "../errors.js";
import { type OpenBootFile, readBytes } from "./boot-file.js";
import { parseBzImage } from "./bzimage.js";
import * as elf from "./elf.regs.js";
import { parseElf } from "./elf-image.js";
import { type KernelImage, kernelError } from "./kernel-file.js";
import * as linux from "./linux.regs.js";

/** First bytes of the file that decide what it is. */
const PROBE_BYTES = linux.HEADER_BYTES;

/** Understands an open kernel file. */
export function parseKernelImage(file: OpenBootFile): KernelImage {
  if (file.sizeBytes === 0) {
    throw kernelError("ERR_ESTALO_KERNEL_TRUNCATED", file, "is empty");
  }
  const probe = readBytes(file, 0, Math.min(PROBE_BYTES, file.sizeBytes));
  if (probe.byteLength >= 4 && probe.getUint32(0, true) === elf.ELF_MAGIC) {
    return parseElf(file, probe);
  }
  if (hasSetupHeader(probe)) return parseBzImage(file, probe);
  throw notAKernel(file, probe);
}

function hasSetupHeader(probe: DataView): boolean {
  return (
    probe.byteLength >= linux.HEADER_MAGIC_OFFSET + 4 &&
    probe.getUint16(linux.BOOT_FLAG_OFFSET, true) === linux.BOOT_FLAG &&
    probe.getUint32(linux.HEADER_MAGIC_OFFSET, true) === linux.HEADER_MAGIC
  );
}

/** Starts of files that people take for kernels. */
const LOOKALIKES: readonly (readonly [start: string, what: string, hint: string])[] = [
  ["\x1f\x8b", "gzip data", "decompress it first (gunzip)"],
  ["\x28\xb5\x2f\xfd", "zstd data", "decompress it first (unzstd)"],
  ["\xfd7zXZ\0", "xz data", "decompress it first (unxz)"],
  ["\x02\x21\x4c\x18", "lz4 data", "decompress it first (unlz4)"],
  ["\x04\x22\x4d\x18", "lz4 data", "decompress it first (unlz4)"],
  ["\x89LZO\0", "lzop data", "decompress it first (lzop -d)"],
  ["BZh", "bzip2 data", "decompress it first (bunzip2)"],
  ["\x5d\0\0", "lzma data", "decompress it first (unlzma)"],
  ["070701", "a cpio archive", "this looks like an initrd, which goes beside the kernel"],
  ["QFI\xfb", "a qcow2 disk image", "give the kernel's own file"],
  ["MZ", "a PE file without Linux's setup header", "an x86-64 bzImage or vmlinux is needed"],
];
const ARM64_MAGIC_OFFSET = 56;

function notAKernel(file: OpenBootFile, probe: DataView): EstaloError {
  const start = Buffer.from(probe.buffer).toString("latin1");
  if (start.startsWith("ARM\x64", ARM64_MAGIC_OFFSET)) {
    return kernelError("ERR_ESTALO_KERNEL_FORMAT", file, "is a kernel for aarch64, not x86-64");
  }
  for (const [magic, what, hint] of LOOKALIKES) {
    if (start.startsWith(magic)) {
      return kernelError("ERR_ESTALO_KERNEL_FORMAT", file, `is ${what}, not a kernel`, hint);
    }
  }
  const text = /^[\t\n\r -~]*$/.test(start);
  return kernelError(
    "ERR_ESTALO_KERNEL_FORMAT",
    file,
    text ? "is a text file, not a kernel" : "is neither an ELF file nor a bzImage",
    "give an x86-64 vmlinux (ELF) or bzImage",
  );
}
