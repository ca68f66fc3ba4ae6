/**
 * What the parsers of kernel files share: their result, their errors and their checks.
 *
 * A parser reads headers into private buffers and hands every number through these checks before it
 * computes with it. Nothing here knows a format.
 */
import { EstaloError } from "../errors.js";
import { type Gpa, hex } from "../units.js";
import type { OpenBootFile } from "./boot-file.js";
import type { BootProtocol } from "./boot-registers.js";

/** A range of the file and where it goes; memory beyond `fileBytes` stays zero. */
export interface KernelSegment {
  readonly fileOffset: number;
  readonly fileBytes: number;
  readonly gpa: Gpa;
  /** At least `fileBytes`. */
  readonly memoryBytes: number;
}

/** A kernel file, understood. */
export interface KernelImage {
  readonly format: "elf" | "bzimage";
  readonly protocol: BootProtocol;
  /** First instruction, guest-physical. */
  readonly entry: Gpa;
  readonly segments: readonly KernelSegment[];
  /**
   * First address after everything the kernel needs in place to start, BSS and decompression
   * included.
   */
  readonly endGpa: Gpa;
  /** Last address an initrd may occupy. */
  readonly initrdLastGpa: Gpa;
  /** Longest command line it takes, without the NUL. */
  readonly commandLineBytesMax: number;
  /** A bzImage's setup header, from offset 0x1f1 to its stated end; absent for ELF. */
  readonly setupHeader?: Uint8Array;
}

/** An error about the kernel file: the sentence's subject is the file. */
export function kernelError(
  code: "ERR_ESTALO_KERNEL_FORMAT" | "ERR_ESTALO_KERNEL_TRUNCATED",
  file: OpenBootFile,
  problem: string,
  hint?: string,
): EstaloError {
  return new EstaloError(code, `kernel ${file.path} ${problem}`, {
    data: { path: file.path, sizeBytes: file.sizeBytes },
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Raises ERR_ESTALO_KERNEL_TRUNCATED unless `[offset, offset + sizeBytes)` lies in the file. */
export function checkInFile(
  file: OpenBootFile,
  offset: number,
  sizeBytes: number,
  what: string,
): void {
  if (!(offset + sizeBytes <= file.sizeBytes)) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_TRUNCATED",
      file,
      `is truncated: ${what} is at ${hex(offset)}, ${sizeBytes} bytes; ` +
        `the file has ${file.sizeBytes}`,
    );
  }
}

/** A u64 of the file as an exact number; ERR_ESTALO_KERNEL_FORMAT when it is 2^53 or more. */
export function readFileU64(
  file: OpenBootFile,
  view: DataView,
  offset: number,
  what: string,
): number {
  const value = view.getBigUint64(offset, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      `states an impossible ${what}, 0x${value.toString(16)}`,
    );
  }
  return Number(value);
}
