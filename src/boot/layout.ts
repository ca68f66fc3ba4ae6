/**
 * The guest-physical map and the port map: every fixed address of the machine, with its reason.
 *
 * Addresses follow Firecracker's x86_64 map so that its kernels, its command lines and its users'
 * habits fit; the additions (report page, pvpanic, ACPI sleep registers) lie where Firecracker has
 * nothing.
 *
 *     0x0000_0500  boot GDT (32 B), then the boot IDT at 0x520
 *     0x0000_6000  PVH start info; 0x6040 PVH module list
 *     0x0000_7000  PVH memory map, or Linux's zero page: one of the two protocols is used
 *     0x0000_8ff0  boot stack, growing down (64-bit boot)
 *     0x0000_9000  PML4, PDPT, PD: identity map of the first GiB (64-bit boot)
 *     0x0002_0000  command line, 2 KiB
 *     0x0009_fc00  ┐ system area, reserved in the memory map: MP table,
 *                  │ ACPI tables from 0xa_0000, VMClock at 0xd_e000, VM generation id at 0xd_f000
 *     0x000e_0000  ┘ ACPI RSDP, where BIOS areas are searched for it
 *     0x0010_0000  kernel … initrd at the top of the first region
 *     0xc000_0000  end of RAM region 0 at most; report page (boot timer)
 *     0xc000_1000  virtio-mmio windows, 4 KiB apart, below 0xeec0_0000
 *     0xfec0_0000  IOAPIC; 0xfee0_0000 local APIC; 0xfffb_d000 KVM's TSS pages
 *   0x1_0000_0000  RAM region 1, up to 256 GiB; then, at a multiple of 2 GiB, what is plugged and
 *                  persistent memory
 */
import { GIB, type Gpa, type Gsi, KIB, MIB, PAGE_BYTES } from "../units.js";

/**
 * Boot GDT: four 8-byte descriptors. Above the interrupt vectors and BIOS data area of real mode.
 */
export const BOOT_GDT_GPA: Gpa = 0x500;
/**
 * Boot IDT: one null descriptor directly after the GDT; interrupts are off until the kernel has its
 * own.
 */
export const BOOT_IDT_GPA: Gpa = 0x520;

/** PVH `hvm_start_info`, 56 bytes. */
export const PVH_START_INFO_GPA: Gpa = 0x6000;
/** PVH module list: one entry, the initrd. */
export const PVH_MODLIST_GPA: Gpa = 0x6040;
/** PVH memory map. Shares its page with the zero page: only one protocol is used in a boot. */
export const PVH_MEMMAP_GPA: Gpa = 0x7000;
/** Linux's `boot_params`, 4 KiB. */
export const ZERO_PAGE_GPA: Gpa = 0x7000;

/** Initial stack pointer of a 64-bit boot: just below the page tables, with room to grow down. */
export const BOOT_STACK_GPA: Gpa = 0x8ff0;
/** Page tables of a 64-bit boot, one page each. */
export const PML4_GPA: Gpa = 0x9000;
export const PDPT_GPA: Gpa = 0xa000;
export const PD_GPA: Gpa = 0xb000;
/** What those page tables map: a 64-bit entry point must lie below. */
export const IDENTITY_MAP_BYTES = GIB;

/** The kernel command line. */
export const COMMAND_LINE_GPA: Gpa = 0x20000;
/** Room for it, terminating NUL included: Linux's COMMAND_LINE_SIZE on x86. */
export const COMMAND_LINE_BYTES_MAX = 2 * KIB;

/** End of conventional memory and start of the system area: where an EBDA would start on a PC. */
export const SYSTEM_AREA_GPA: Gpa = 0x9fc00;
/**
 * The MP table: Linux searches the last KiB of the first 640 KiB, so both parts fit in this KiB.
 */
export const MP_TABLE_GPA: Gpa = SYSTEM_AREA_GPA;
export const MP_TABLE_BYTES_MAX = KIB;
/** ACPI tables other than the RSDP. Ends well below text-mode video memory at 0xb8000. */
export const ACPI_TABLES_GPA: Gpa = 0xa0000;
export const ACPI_TABLES_BYTES_MAX = 64 * KIB;
/** VMClock's page, which a guest may map into its programs. */
export const VMCLOCK_GPA: Gpa = 0xde000;
export const VMCLOCK_BYTES = PAGE_BYTES;
/** VM generation id, 16 bytes, alone in its page so that a guest may map it by itself. */
export const VMGENID_GPA: Gpa = 0xdf000;
export const VMGENID_BYTES = 16;
/** ACPI RSDP: first address of the BIOS area 0xe0000 to 0xfffff that kernels search. */
export const RSDP_GPA: Gpa = 0xe0000;
export const SYSTEM_AREA_END_GPA: Gpa = RSDP_GPA;

/** 1 MiB: RAM above the BIOS area. No kernel segment may lie below. */
export const HIGH_MEMORY_GPA: Gpa = MIB;

/** Start of the MMIO gap: RAM region 0 ends here at the latest. */
export const MMIO_GAP_START_GPA: Gpa = 3 * GIB;
/** End of the MMIO gap: RAM region 1 starts here. */
export const MMIO_GAP_END_GPA: Gpa = 4 * GIB;

/** Report page: byte 123 at offset 0 is Firecracker's boot timer signal. */
export const REPORT_PAGE_GPA: Gpa = MMIO_GAP_START_GPA;
export const REPORT_PAGE_BYTES = PAGE_BYTES;
/** virtio-mmio windows, one page each, in attach order. */
export const VIRTIO_MMIO_GPA: Gpa = REPORT_PAGE_GPA + REPORT_PAGE_BYTES;
export const VIRTIO_MMIO_WINDOW_BYTES = PAGE_BYTES;
/** Users' own MMIO devices lie from here on, far above the last virtio window. */
export const USER_MMIO_GPA: Gpa = 0xd0000000;
/** No window at or above this: Firecracker's PCI MMCONFIG starts here. */
export const VIRTIO_MMIO_END_GPA: Gpa = 0xeec00000;

export const IOAPIC_GPA: Gpa = 0xfec00000;
export const LAPIC_GPA: Gpa = 0xfee00000;
/** Three pages for KVM_SET_TSS_ADDR, which Intel hosts without unrestricted guests need. */
export const KVM_TSS_GPA: Gpa = 0xfffbd000;

/** Ports that KVM answers, first and count: PICs, PIT with its gate, edge and level control. */
export const KVM_PORTS: readonly (readonly [number, number])[] = [
  [0x20, 2],
  [0x40, 4],
  [0x61, 1],
  [0xa0, 2],
  [0x4d0, 2],
];

/** COM1. */
export const SERIAL_PORT = 0x3f8;
export const SERIAL_PORT_COUNT = 8;
export const SERIAL_GSI: Gsi = 4;

/** Keyboard controller: data at 0x60, command and status at 0x64. */
export const I8042_DATA_PORT = 0x60;
export const I8042_COMMAND_PORT = 0x64;
export const I8042_PORT_COUNT = I8042_COMMAND_PORT - I8042_DATA_PORT + 1;
export const I8042_GSI: Gsi = 1;
/** Written to the command port, pulses the CPU's reset line. */
export const I8042_RESET_COMMAND = 0xfe;

/** pvpanic's port as QEMU places it. */
export const PVPANIC_PORT = 0x505;

/** ACPI's SLEEP_CONTROL_REG and SLEEP_STATUS_REG, a byte each. */
export const ACPI_SLEEP_CONTROL_PORT = 0x600;
export const ACPI_SLEEP_STATUS_PORT = 0x601;
/** SLP_TYP of S5 (soft off) in SLEEP_CONTROL_REG, named by `\_S5` in the DSDT. */
export const ACPI_S5_SLEEP_TYPE = 5;

/**
 * GSIs for virtio-mmio, the VM generation id and VMClock: above the ISA devices, up to the IOAPIC's
 * last pin.
 */
export const DEVICE_GSI_FIRST: Gsi = 5;
export const DEVICE_GSI_LAST: Gsi = 23;
/** Pins of KVM's IOAPIC. */
export const IOAPIC_PIN_COUNT = 24;

/** Memory of devices begins at a multiple of this: Linux' memory blocks are of 2 GiB at most. */
export const DEVICE_MEMORY_ALIGNMENT_BYTES = 2 * GIB;
/** Each persistent memory at one of this: Linux' memory sections, of which no two share one. */
export const PMEM_ALIGNMENT_BYTES = 128 * MIB;
/** KVM's memory slots: RAM has 0 and 1, then each persistent memory one, then plugged memory. */
export const PMEM_SLOT_FIRST = 2;
export const PLUGGED_SLOT_FIRST = 32;

/** Most vCPUs of a microVM, as in Firecracker. */
export const VCPU_COUNT_MAX = 32;
