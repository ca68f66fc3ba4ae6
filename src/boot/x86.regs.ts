/**
 * x86-64 registers and descriptors that a boot sets: bits and numbers only.
 *
 * Citations: Intel SDM (volume 3A §§ 2.5 control registers, 3.4.5 descriptors, 4.5 paging, 11.5
 * APIC local vector table; volume 4 for MSRs) and AMD APM volume 2 for EFER and the SYSCALL MSRs,
 * of the same values.
 */

/** CR0: protection enable. */
export const CR0_PE_MASK = 0x1n;
/** CR0: extension type, always 1 on today's processors. */
export const CR0_ET_MASK = 0x10n;
/** CR0: paging. */
export const CR0_PG_MASK = 0x8000_0000n;
/** CR4: physical address extension, required by long mode. */
export const CR4_PAE_MASK = 0x20n;
/** EFER: long mode enable. */
export const EFER_LME_MASK = 0x100n;
/** EFER: long mode active. */
export const EFER_LMA_MASK = 0x400n;

/** RFLAGS: bit 1 always reads 1; interrupts are off. */
export const RFLAGS_RESERVED_MASK = 0x2n;

/** Segment type: execute, read, accessed. */
export const SEGMENT_CODE = 0xb;
/** Segment type: read, write, accessed. */
export const SEGMENT_DATA = 0x3;
/** System segment type: busy TSS (32-bit outside long mode, 64-bit inside). */
export const SEGMENT_TSS_BUSY = 0xb;

/** Selectors. Linux's 64-bit boot protocol names 0x10 for code and 0x18 for data. */
export const SELECTOR_TSS = 0x8;
export const SELECTOR_CODE = 0x10;
export const SELECTOR_DATA = 0x18;

/** Limits: 4 GiB in bytes (KVM's hidden part is not scaled), and a minimal TSS. */
export const LIMIT_FLAT = 0xffff_ffff;
export const LIMIT_TSS = 0x67;

/** Page-table entry: present and writable. */
export const PTE_TABLE = 0x3;
/** Page-directory entry: present, writable, maps 2 MiB. */
export const PDE_LARGE_PAGE = 0x83;

/** MSR numbers. */
export const MSR_IA32_TSC = 0x10;
export const MSR_IA32_SYSENTER_CS = 0x174;
export const MSR_IA32_SYSENTER_ESP = 0x175;
export const MSR_IA32_SYSENTER_EIP = 0x176;
export const MSR_IA32_MISC_ENABLE = 0x1a0;
export const MSR_STAR = 0xc000_0081;
export const MSR_LSTAR = 0xc000_0082;
export const MSR_CSTAR = 0xc000_0083;
export const MSR_SYSCALL_MASK = 0xc000_0084;
export const MSR_KERNEL_GS_BASE = 0xc000_0102;
/** IA32_MISC_ENABLE bit 0: fast string operations. */
export const MISC_ENABLE_FAST_STRINGS = 0x1n;

/** x87 control word after FNINIT: all exceptions masked, 64-bit precision. */
export const FPU_CONTROL_WORD = 0x37f;
/** MXCSR at reset: all SSE exceptions masked. */
export const MXCSR_RESET = 0x1f80;

/** struct kvm_lapic_state: the local APIC's register page, first KiB. */
export const LAPIC_STATE_BYTES = 1024;
export const LAPIC_LVT_LINT0_OFFSET = 0x350;
export const LAPIC_LVT_LINT1_OFFSET = 0x360;
/** LVT delivery mode, bits 8 to 10. */
export const LAPIC_DELIVERY_MODE_MASK = 0x700;
export const LAPIC_DELIVERY_MODE_SHIFT = 8;
export const LAPIC_DELIVERY_NMI = 4;
export const LAPIC_DELIVERY_EXTINT = 7;
