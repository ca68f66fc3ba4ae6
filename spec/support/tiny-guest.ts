/**
 * Guests of a few instructions: enough to end a microVM in every way there is, without a kernel.
 *
 * Each is a 64-bit ELF for Linux's 64-bit boot protocol, loaded at 1 MiB and entered in long mode with the
 * first GiB mapped onto itself. Only instructions that any KVM host can emulate are used.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const LOAD_GPA = 0x100000;
const CODE_FILE_OFFSET = 0x1000;

/** mov dx, port; mov al, value; out dx, al */
export function outByte(port: number, value: number): number[] {
  return [0x66, 0xba, port & 0xff, port >> 8, 0xb0, value, 0xee];
}

/** cli; hlt; and again should anything wake it. */
export const HALT = [0xfa, 0xf4, 0xeb, 0xfc];
/** jmp to itself. */
export const SPIN = [0xeb, 0xfe];
/** An undefined instruction with no handler: #UD, #GP, #DF, triple fault. */
export const TRIPLE_FAULT = [0x0f, 0x0b];

const SERIAL_PORT = 0x3f8;

/** The guest's programs by how they end. */
export const TINY_GUESTS = {
  /** ACPI sleep control: S5. */
  poweroff: [...outByte(0x600, 0x34), ...HALT],
  /** i8042 command FEh. */
  reboot: [...outByte(0x64, 0xfe), ...HALT],
  /** pvpanic: panicked. */
  panic: [...outByte(0x505, 0x01), ...HALT],
  tripleFault: TRIPLE_FAULT,
  halt: HALT,
  spin: SPIN,
} as const;

/** Writes `text` to the serial port, then goes on with `after`. */
export function print(text: string, after: readonly number[]): number[] {
  const bytes = [...new TextEncoder().encode(text)];
  return [...bytes.flatMap((byte) => outByte(SERIAL_PORT, byte)), ...after];
}

/** An ELF executable with one loadable segment: `code` at 1 MiB, entered at its first byte. */
export function elf(code: readonly number[]): Uint8Array {
  const file = new Uint8Array(CODE_FILE_OFFSET + code.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 62, true); // EM_X86_64
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(LOAD_GPA), true); // e_entry
  view.setBigUint64(32, 64n, true); // e_phoff
  view.setUint16(52, 64, true); // e_ehsize
  view.setUint16(54, 56, true); // e_phentsize
  view.setUint16(56, 1, true); // e_phnum
  view.setUint32(64, 1, true); // PT_LOAD
  view.setUint32(68, 5, true); // readable, executable
  view.setBigUint64(72, BigInt(CODE_FILE_OFFSET), true);
  view.setBigUint64(80, BigInt(LOAD_GPA), true); // p_vaddr
  view.setBigUint64(88, BigInt(LOAD_GPA), true); // p_paddr
  view.setBigUint64(96, BigInt(code.length), true);
  view.setBigUint64(104, BigInt(code.length), true);
  view.setBigUint64(112, BigInt(CODE_FILE_OFFSET), true);
  file.set(code, CODE_FILE_OFFSET);
  return file;
}

/** A folder for one spec file's images; `using` removes it. */
export class Scratch implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "estalo-spec-"));

  /** Writes a file and gives its path. */
  file(name: string, content: Uint8Array | string = ""): string {
    const path = join(this.path, name);
    writeFileSync(path, content);
    return path;
  }

  /** A tiny guest's path. */
  guest(name: string, code: readonly number[]): string {
    return this.file(`${name}.elf`, elf(code));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
