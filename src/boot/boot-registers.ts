/**
 * The state in which vCPU 0 starts a kernel, and what every vCPU gets.
 *
 * Plain records of the fields that a boot decides; the caller lays `sregs` over what KVM_GET_SREGS
 * returned (`{ ...current, ...boot.sregs }`), so that what KVM chose (apic_base above all) stays.
 * Only vCPU 0 takes `regs` and `sregs`: the others wait for the kernel's INIT and SIPI in their
 * reset state. MSRs, FPU state and the local APIC's LINT pins are set on every vCPU.
 *
 * Specification: Linux Documentation/arch/x86/boot.rst (64-bit boot protocol) and Xen's x86/HVM
 * direct boot ABI (docs/misc/pvh.pandoc), which asks for 32-bit protected mode, paging off, start
 * info in EBX.
 */
import type { GuestMemory } from "../native/guest-memory.js";
import type {
  KvmDtable,
  KvmFpu,
  KvmMsrEntry,
  KvmRegs,
  KvmSegment,
  KvmSregs,
} from "../native/kvm-structs.js";
import { type Gpa, MIB, PAGE_BYTES } from "../units.js";
import * as layout from "./layout.js";
import * as x86 from "./x86.regs.js";

/** How a kernel is entered: Xen's PVH (32-bit, paging off) or Linux's 64-bit entry. */
export type BootProtocol = "pvh" | "linux64";

/** What vCPU 0 starts with. */
export interface BootRegisters {
  /** All general-purpose registers; those not named by the protocol are 0. */
  readonly regs: KvmRegs;
  /** The fields to lay over KVM_GET_SREGS. */
  readonly sregs: Omit<KvmSregs, "cr2" | "cr8" | "apic_base" | "interrupt_bitmap" | "ldt">;
}

/** Registers for entering a kernel at `entry` (guest-physical). */
export function bootRegisters(protocol: BootProtocol, entry: Gpa): BootRegisters {
  return protocol === "pvh" ? pvhRegisters(entry) : linux64Registers(entry);
}

function pvhRegisters(entry: Gpa): BootRegisters {
  return {
    regs: {
      ...ZERO_REGS,
      rip: BigInt(entry),
      rbx: BigInt(layout.PVH_START_INFO_GPA),
      rflags: x86.RFLAGS_RESERVED_MASK,
    },
    sregs: {
      ...segments(false),
      cr0: x86.CR0_PE_MASK | x86.CR0_ET_MASK,
      cr3: 0n,
      cr4: 0n,
      efer: 0n,
    },
  };
}

function linux64Registers(entry: Gpa): BootRegisters {
  return {
    regs: {
      ...ZERO_REGS,
      rip: BigInt(entry),
      rsi: BigInt(layout.ZERO_PAGE_GPA),
      rsp: BigInt(layout.BOOT_STACK_GPA),
      rbp: BigInt(layout.BOOT_STACK_GPA),
      rflags: x86.RFLAGS_RESERVED_MASK,
    },
    sregs: {
      ...segments(true),
      cr0: x86.CR0_PE_MASK | x86.CR0_ET_MASK | x86.CR0_PG_MASK,
      cr3: BigInt(layout.PML4_GPA),
      cr4: x86.CR4_PAE_MASK,
      efer: x86.EFER_LME_MASK | x86.EFER_LMA_MASK,
    },
  };
}

const ZERO_REGS: KvmRegs = {
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: 0n,
};

/** Flat segments and their descriptor tables, for long mode or for 32-bit protected mode. */
function segments(longMode: boolean) {
  const flat: KvmSegment = {
    base: 0n,
    limit: x86.LIMIT_FLAT,
    selector: x86.SELECTOR_DATA,
    type: x86.SEGMENT_DATA,
    present: 1,
    dpl: 0,
    db: 1,
    s: 1,
    l: 0,
    g: 1,
    avl: 0,
    unusable: 0,
  };
  const cs: KvmSegment = {
    ...flat,
    selector: x86.SELECTOR_CODE,
    type: x86.SEGMENT_CODE,
    db: longMode ? 0 : 1,
    l: longMode ? 1 : 0,
  };
  const tr: KvmSegment = {
    ...flat,
    limit: x86.LIMIT_TSS,
    selector: x86.SELECTOR_TSS,
    type: x86.SEGMENT_TSS_BUSY,
    db: 0,
    s: 0,
    g: 0,
  };
  const gdt: KvmDtable = { base: BigInt(layout.BOOT_GDT_GPA), limit: GDT_ENTRIES * 8 - 1 };
  const idt: KvmDtable = { base: BigInt(layout.BOOT_IDT_GPA), limit: 7 };
  return { cs, ds: flat, es: flat, fs: flat, gs: flat, ss: flat, tr, gdt, idt };
}

const GDT_ENTRIES = 4;

/** Writes the boot GDT and IDT, and for a 64-bit boot the identity page tables. */
export function writeBootTables(memory: GuestMemory, protocol: BootProtocol): void {
  const { cs, ds, tr } = segments(protocol === "linux64");
  const gdt = new BigUint64Array(GDT_ENTRIES);
  for (const segment of [tr, cs, ds]) gdt[segment.selector / 8] = descriptor(segment);
  memory.write(layout.BOOT_GDT_GPA, new Uint8Array(gdt.buffer));
  memory.writeU64(layout.BOOT_IDT_GPA, 0);
  if (protocol === "linux64") writeIdentityMap(memory);
}

/** The 8-byte descriptor that matches a segment's hidden part. Intel SDM volume 3A § 3.4.5. */
function descriptor(segment: KvmSegment): bigint {
  const limit = BigInt(segment.g === 1 ? Math.floor(segment.limit / PAGE_BYTES) : segment.limit);
  const access = segment.type | (segment.s << 4) | (segment.dpl << 5) | (segment.present << 7);
  const flags = segment.avl | (segment.l << 1) | (segment.db << 2) | (segment.g << 3);
  return (
    BigInt.asUintN(16, limit) |
    (BigInt.asUintN(24, segment.base) << 16n) |
    (BigInt(access) << 40n) |
    ((limit >> 16n) << 48n) |
    (BigInt(flags) << 52n) |
    ((segment.base >> 24n) << 56n)
  );
}

/** One PML4, one PDPT, one PD: 512 pages of 2 MiB map the first GiB onto itself. */
function writeIdentityMap(memory: GuestMemory): void {
  memory.writeU64(layout.PML4_GPA, layout.PDPT_GPA + x86.PTE_TABLE);
  memory.writeU64(layout.PDPT_GPA, layout.PD_GPA + x86.PTE_TABLE);
  const directory = new Uint32Array(PAGE_BYTES / 4);
  for (let i = 0; i < layout.IDENTITY_MAP_BYTES / (2 * MIB); i++) {
    directory[i * 2] = i * 2 * MIB + x86.PDE_LARGE_PAGE;
  }
  memory.write(layout.PD_GPA, new Uint8Array(directory.buffer));
}

/** MSRs of every vCPU at boot: nothing left over from firmware, fast strings on. */
export const BOOT_MSRS: readonly KvmMsrEntry[] = [
  { index: x86.MSR_IA32_SYSENTER_CS, data: 0n },
  { index: x86.MSR_IA32_SYSENTER_ESP, data: 0n },
  { index: x86.MSR_IA32_SYSENTER_EIP, data: 0n },
  { index: x86.MSR_STAR, data: 0n },
  { index: x86.MSR_CSTAR, data: 0n },
  { index: x86.MSR_KERNEL_GS_BASE, data: 0n },
  { index: x86.MSR_SYSCALL_MASK, data: 0n },
  { index: x86.MSR_LSTAR, data: 0n },
  { index: x86.MSR_IA32_TSC, data: 0n },
  { index: x86.MSR_IA32_MISC_ENABLE, data: x86.MISC_ENABLE_FAST_STRINGS },
];

/** FPU state of every vCPU at boot; all other fields are 0. */
export const BOOT_FPU: Partial<KvmFpu> = { fcw: x86.FPU_CONTROL_WORD, mxcsr: x86.MXCSR_RESET };

/**
 * Edits a `struct kvm_lapic_state` (1,024 bytes, as KVM_GET_LAPIC returned it) in place: LINT0
 * takes the PIC's interrupts, LINT1 the NMI, as firmware leaves them. Done on every vCPU.
 */
export function setLapicPins(lapic: Uint8Array): void {
  const view = new DataView(lapic.buffer, lapic.byteOffset, x86.LAPIC_STATE_BYTES);
  const setMode = (offset: number, mode: number) => {
    const old = view.getUint32(offset, true) & ~x86.LAPIC_DELIVERY_MODE_MASK;
    view.setUint32(offset, old | (mode << x86.LAPIC_DELIVERY_MODE_SHIFT), true);
  };
  setMode(x86.LAPIC_LVT_LINT0_OFFSET, x86.LAPIC_DELIVERY_EXTINT);
  setMode(x86.LAPIC_LVT_LINT1_OFFSET, x86.LAPIC_DELIVERY_NMI);
}
