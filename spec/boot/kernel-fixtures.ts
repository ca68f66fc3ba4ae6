/**
 * Kernel files made for the specs: a vmlinux and a bzImage with every field in reach, and where to
 * put them.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { type OpenBootFile, withBootFile } from "../../src/boot/boot-file.js";
import type { KernelImage } from "../../src/boot/kernel-file.js";
import { parseKernelImage } from "../../src/boot/kernel-image.js";

/** What an ELF kernel of the specs has; every field may be set to nonsense. */
export interface ElfOptions {
  readonly machine?: number;
  readonly fileClass?: number;
  readonly data?: number;
  readonly type?: number;
  readonly entry?: bigint;
  readonly paddr?: bigint;
  /** Contents of the only PT_LOAD segment. */
  readonly code?: Uint8Array;
  /** p_memsz; the code's length when absent. */
  readonly memoryBytes?: bigint;
  /** Contents of a PT_NOTE segment. */
  readonly notes?: Uint8Array;
}

const SEGMENTS_OFFSET = 0x200;

/** An ELF64 file with one loadable segment and, where given, one of notes. */
export function elfKernel(options: ElfOptions = {}): Buffer {
  const code = options.code ?? Buffer.alloc(64, 0x90);
  const notes = options.notes ?? Buffer.alloc(0);
  const header = Buffer.alloc(SEGMENTS_OFFSET);
  header.write("\x7fELF", 0, "latin1");
  header.set([options.fileClass ?? 2, options.data ?? 1, 1], 4);
  header.writeUInt16LE(options.type ?? 2, 16);
  header.writeUInt16LE(options.machine ?? 62, 18);
  header.writeBigUInt64LE(options.entry ?? 0x100_0000n, 24);
  header.writeBigUInt64LE(64n, 32);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(options.notes === undefined ? 1 : 2, 56);
  programHeader(header, 64, {
    type: 1,
    offset: SEGMENTS_OFFSET,
    paddr: options.paddr ?? 0x100_0000n,
    fileBytes: code.length,
    memoryBytes: options.memoryBytes ?? BigInt(code.length),
  });
  programHeader(header, 64 + 56, {
    type: 4,
    offset: SEGMENTS_OFFSET + code.length,
    paddr: 0n,
    fileBytes: notes.length,
    memoryBytes: BigInt(notes.length),
  });
  return Buffer.concat([header, code, notes]);
}

interface ProgramHeader {
  readonly type: number;
  readonly offset: number;
  readonly paddr: bigint;
  readonly fileBytes: number;
  readonly memoryBytes: bigint;
}

function programHeader(into: Buffer, at: number, header: ProgramHeader): void {
  into.writeUInt32LE(header.type, at);
  into.writeBigUInt64LE(BigInt(header.offset), at + 8);
  into.writeBigUInt64LE(header.paddr, at + 24);
  into.writeBigUInt64LE(BigInt(header.fileBytes), at + 32);
  into.writeBigUInt64LE(header.memoryBytes, at + 40);
  into.writeBigUInt64LE(4n, at + 48);
}

/** One ELF note, name and descriptor padded to 4 bytes. */
export function elfNote(name: string, type: number, desc: Uint8Array): Buffer {
  const padded = (bytes: Uint8Array) =>
    Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const nameBytes = Buffer.from(`${name}\0`, "latin1");
  const head = Buffer.alloc(12);
  head.writeUInt32LE(nameBytes.length, 0);
  head.writeUInt32LE(desc.length, 4);
  head.writeUInt32LE(type, 8);
  return Buffer.concat([head, padded(nameBytes), padded(desc)]);
}

/** XEN_ELFNOTE_PHYS32_ENTRY, as Linux writes it. */
export function pvhNote(entry: number): Buffer {
  const desc = Buffer.alloc(4);
  desc.writeUInt32LE(entry);
  return elfNote("Xen", 18, desc);
}

export interface BzImageOptions {
  readonly version?: number;
  readonly xloadflags?: number;
  readonly setupSectors?: number;
  readonly code?: Uint8Array;
  /** In 16-byte units; the code's when absent. */
  readonly syssize?: number;
  readonly initSizeBytes?: number;
  readonly initrdAddrMax?: number;
  readonly cmdlineSize?: number;
  readonly headerEnd?: number;
}

/** A bzImage whose code is 4 KiB of NOPs. */
export function bzImage(options: BzImageOptions = {}): Buffer {
  const setupSectors = options.setupSectors ?? 4;
  const code = options.code ?? Buffer.alloc(4096, 0x90);
  const setup = Buffer.alloc(((setupSectors || 4) + 1) * 512);
  setup[0x1f1] = setupSectors;
  setup.writeUInt32LE(options.syssize ?? code.length / 16, 0x1f4);
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup[0x200] = 0xeb;
  setup[0x201] = (options.headerEnd ?? 0x26c) - 0x202;
  setup.write("HdrS", 0x202, "latin1");
  setup.writeUInt16LE(options.version ?? 0x20f, 0x206);
  setup.writeUInt32LE(options.initrdAddrMax ?? 0x7fff_ffff, 0x22c);
  setup.writeUInt16LE(options.xloadflags ?? 1, 0x236);
  setup.writeUInt32LE(options.cmdlineSize ?? 2047, 0x238);
  setup.writeBigUInt64LE(0x100_0000n, 0x258);
  setup.writeUInt32LE(options.initSizeBytes ?? 0x20_0000, 0x260);
  return Buffer.concat([setup, code]);
}

/** A directory that goes away with the spec file, and files in it. */
export function temporaryFiles(): (name: string, contents: Uint8Array) => string {
  const directory = mkdtempSync(join(tmpdir(), "estalo-boot-"));
  afterAll(() => rmSync(directory, { recursive: true }));
  return (name, contents) => {
    const path = join(directory, name);
    writeFileSync(path, contents);
    return path;
  };
}

/** Parses the kernel file at `path`. */
export function parseAt(path: string): KernelImage {
  return withBootFile("kernel", { path }, (file: OpenBootFile) => parseKernelImage(file));
}
