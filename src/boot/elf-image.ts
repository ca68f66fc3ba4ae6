/**
 * An ELF64 vmlinux: loadable segments and entry point.
 *
 * The entry is the PVH note's where there is one (`XEN_ELFNOTE_PHYS32_ENTRY`, Linux's CONFIG_PVH),
 * else `e_entry`, which in a vmlinux is the physical address of `startup_64`. Segments go to their
 * physical addresses. Specification: System V ABI chapters 4 and 5; Xen public/elfnote.h.
 */
import { alignUp, GIB, type Gpa, hex, KIB } from "../units.js";
import { type OpenBootFile, readBytes } from "./boot-file.js";
import * as elf from "./elf.regs.js";
import {
  checkInFile,
  type KernelImage,
  type KernelSegment,
  kernelError,
  readFileU64,
} from "./kernel-file.js";
import { COMMAND_LINE_BYTES_MAX, HIGH_MEMORY_GPA, IDENTITY_MAP_BYTES } from "./layout.js";

/** A vmlinux has 4 or 5; more than this is not a kernel but somebody's joke. */
const PROGRAM_HEADERS_MAX = 64;
/** Notes of a vmlinux are a few hundred bytes. */
const NOTES_BYTES_MAX = 64 * KIB;
/** linux64 and PVH kernels alike reach an initrd through 32-bit fields or early page tables. */
const INITRD_LAST_GPA: Gpa = 4 * GIB - 1;

const MACHINE_NAMES: Readonly<Record<number, string>> = {
  [elf.EM_386]: "32-bit x86",
  [elf.EM_AARCH64]: "aarch64",
  [elf.EM_RISCV]: "RISC-V",
};

/** Reads program headers and notes; `probe` holds the file's first bytes. */
export function parseElf(file: OpenBootFile, probe: DataView): KernelImage {
  checkInFile(file, 0, elf.ELF_HEADER_BYTES, "the ELF header");
  checkIdentity(file, probe);
  const headers = readProgramHeaders(file, probe);
  const segments: KernelSegment[] = [];
  let pvhEntry: Gpa | undefined;
  for (let at = 0; at < headers.byteLength; at += elf.PROGRAM_HEADER_BYTES) {
    const type = headers.getUint32(at + elf.P_TYPE_OFFSET, true);
    if (type === elf.PT_LOAD) {
      const segment = readSegment(file, headers, at);
      if (segment.memoryBytes > 0) segments.push(segment);
    } else if (type === elf.PT_NOTE) {
      pvhEntry ??= readPvhEntry(file, headers, at);
    }
  }
  if (segments.length === 0) {
    throw kernelError("ERR_ESTALO_KERNEL_FORMAT", file, "is an ELF file with nothing to load");
  }
  checkApart(file, segments);
  const entry = pvhEntry ?? readFileU64(file, probe, elf.E_ENTRY_OFFSET, "entry point");
  const protocol = pvhEntry === undefined ? "linux64" : "pvh";
  checkEntry(file, entry, segments, protocol === "pvh" ? 4 * GIB : IDENTITY_MAP_BYTES);
  return {
    format: "elf",
    protocol,
    entry,
    segments,
    endGpa: Math.max(...segments.map((segment) => segment.gpa + segment.memoryBytes)),
    initrdLastGpa: INITRD_LAST_GPA,
    commandLineBytesMax: COMMAND_LINE_BYTES_MAX - 1,
  };
}

/** Class, byte order, type and machine. */
function checkIdentity(file: OpenBootFile, probe: DataView): void {
  const machine = probe.getUint16(elf.E_MACHINE_OFFSET, true);
  const type = probe.getUint16(elf.E_TYPE_OFFSET, true);
  const problem = (): string | undefined => {
    if (probe.getUint8(elf.EI_DATA_OFFSET) !== elf.ELFDATA2LSB) return "is a big-endian ELF file";
    if (machine !== elf.EM_X86_64) {
      return `is an ELF file for ${MACHINE_NAMES[machine] ?? `machine ${machine}`}, not x86-64`;
    }
    if (probe.getUint8(elf.EI_CLASS_OFFSET) !== elf.ELFCLASS64) return "is a 32-bit ELF file";
    if (type !== elf.ET_EXEC && type !== elf.ET_DYN) {
      return `is an ELF file of type ${type}, not an executable`;
    }
    return undefined;
  };
  const found = problem();
  if (found !== undefined) {
    throw kernelError("ERR_ESTALO_KERNEL_FORMAT", file, found, "an x86-64 kernel is needed");
  }
}

function readProgramHeaders(file: OpenBootFile, probe: DataView): DataView {
  const offset = readFileU64(file, probe, elf.E_PHOFF_OFFSET, "program header offset");
  const entryBytes = probe.getUint16(elf.E_PHENTSIZE_OFFSET, true);
  const count = probe.getUint16(elf.E_PHNUM_OFFSET, true);
  if (count === 0 || count > PROGRAM_HEADERS_MAX || entryBytes !== elf.PROGRAM_HEADER_BYTES) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      `is an ELF file with ${count} program headers of ${entryBytes} bytes, not a kernel`,
    );
  }
  const sizeBytes = count * elf.PROGRAM_HEADER_BYTES;
  checkInFile(file, offset, sizeBytes, "the program header table");
  return readBytes(file, offset, sizeBytes);
}

function readSegment(file: OpenBootFile, headers: DataView, at: number): KernelSegment {
  const read = (offset: number, what: string) => readFileU64(file, headers, at + offset, what);
  const fileOffset = read(elf.P_OFFSET_OFFSET, "segment offset");
  const fileBytes = read(elf.P_FILESZ_OFFSET, "segment size");
  const memoryBytes = read(elf.P_MEMSZ_OFFSET, "segment size");
  const gpa = read(elf.P_PADDR_OFFSET, "segment address");
  if (fileBytes > memoryBytes || gpa + memoryBytes > Number.MAX_SAFE_INTEGER) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      `has an impossible segment: ${fileBytes} bytes of file in ${memoryBytes} at ${hex(gpa)}`,
    );
  }
  if (memoryBytes > 0 && gpa < HIGH_MEMORY_GPA) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      `has a segment at ${hex(gpa)}, below 1 MiB, where boot tables lie`,
    );
  }
  checkInFile(file, fileOffset, fileBytes, `the segment for ${hex(gpa)}`);
  return { fileOffset, fileBytes, gpa, memoryBytes };
}

/**
 * The PVH entry among the notes of one PT_NOTE segment. Malformed notes end the search, as in
 * Linux.
 */
function readPvhEntry(file: OpenBootFile, headers: DataView, header: number): Gpa | undefined {
  const offset = readFileU64(file, headers, header + elf.P_OFFSET_OFFSET, "note offset");
  const sizeBytes = readFileU64(file, headers, header + elf.P_FILESZ_OFFSET, "note size");
  checkInFile(file, offset, sizeBytes, "a note segment");
  const padding = headers.getBigUint64(header + elf.P_ALIGN_OFFSET, true) === 8n ? 8 : 4;
  const notes = readBytes(file, offset, Math.min(sizeBytes, NOTES_BYTES_MAX));
  let at = 0;
  while (at + elf.NOTE_HEADER_BYTES <= notes.byteLength) {
    const nameBytes = notes.getUint32(at + elf.N_NAMESZ_OFFSET, true);
    const descBytes = notes.getUint32(at + elf.N_DESCSZ_OFFSET, true);
    const type = notes.getUint32(at + elf.N_TYPE_OFFSET, true);
    const nameAt = at + elf.NOTE_HEADER_BYTES;
    const descAt = alignUp(nameAt + nameBytes, padding);
    if (descAt + descBytes > notes.byteLength) return undefined;
    if (type === elf.XEN_ELFNOTE_PHYS32_ENTRY && isXenName(notes, nameAt, nameBytes)) {
      if (descBytes === 4) return notes.getUint32(descAt, true);
      if (descBytes === 8) return readFileU64(file, notes, descAt, "PVH entry point");
      throw kernelError(
        "ERR_ESTALO_KERNEL_FORMAT",
        file,
        `has a PVH entry note of ${descBytes} bytes; 4 or 8 are possible`,
      );
    }
    at = alignUp(descAt + descBytes, padding);
  }
  return undefined;
}

function isXenName(notes: DataView, at: number, sizeBytes: number): boolean {
  const name = "Xen\0";
  if (sizeBytes !== name.length) return false;
  return [...name].every((char, i) => notes.getUint8(at + i) === char.charCodeAt(0));
}

/** No byte of memory is loaded twice, or a small file would take as long as 64 kernels. */
function checkApart(file: OpenBootFile, segments: readonly KernelSegment[]): void {
  let endGpa: Gpa = 0;
  for (const { gpa, memoryBytes } of segments.toSorted((a, b) => a.gpa - b.gpa)) {
    if (gpa < endGpa) {
      throw kernelError(
        "ERR_ESTALO_KERNEL_FORMAT",
        file,
        `has segments that overlap at ${hex(gpa)}`,
      );
    }
    endGpa = gpa + memoryBytes;
  }
}

/** The first instruction must lie in what is loaded, below what the start state can reach. */
function checkEntry(
  file: OpenBootFile,
  entry: Gpa,
  segments: readonly KernelSegment[],
  reachBytes: number,
): void {
  const inside = segments.some(
    (segment) => entry >= segment.gpa && entry < segment.gpa + segment.memoryBytes,
  );
  if (!inside || entry >= reachBytes) {
    throw kernelError(
      "ERR_ESTALO_KERNEL_FORMAT",
      file,
      inside
        ? `has its entry point at ${hex(entry)}, above the ${hex(reachBytes)} a boot can reach`
        : `has its entry point at ${hex(entry)}, outside of its segments`,
    );
  }
}
