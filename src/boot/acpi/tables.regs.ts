/**
 * ACPI tables: offsets, flags and codes.
 *
 * Citation: ACPI 6.5 §§ 5.2.3.2 (generic address), 5.2.5.3 (RSDP), 5.2.6 (header), 5.2.9 (FADT),
 * 5.2.12 (MADT).
 */

/** The header common to all tables but the RSDP. */
export const HEADER_BYTES = 36;
export const HEADER_LENGTH_OFFSET = 4;
export const HEADER_REVISION_OFFSET = 8;
export const HEADER_CHECKSUM_OFFSET = 9;
export const HEADER_OEM_ID_OFFSET = 10;
export const HEADER_OEM_TABLE_ID_OFFSET = 16;
export const HEADER_OEM_REVISION_OFFSET = 24;
export const HEADER_CREATOR_ID_OFFSET = 28;
export const HEADER_CREATOR_REVISION_OFFSET = 32;

/** RSDP of ACPI 2.0 and later. */
export const RSDP_BYTES = 36;
export const RSDP_CHECKSUM_OFFSET = 8;
/** What the first checksum covers: the RSDP of ACPI 1.0. */
export const RSDP_CHECKSUM_BYTES = 20;
export const RSDP_OEM_ID_OFFSET = 9;
export const RSDP_REVISION_OFFSET = 15;
export const RSDP_REVISION = 2;
export const RSDP_LENGTH_OFFSET = 20;
export const RSDP_XSDT_OFFSET = 24;
export const RSDP_EXTENDED_CHECKSUM_OFFSET = 32;

export const XSDT_REVISION = 1;
/** Revision 2: integers are 64 bits wide. */
export const DSDT_REVISION = 2;

export const FADT_BYTES = 276;
export const FADT_REVISION = 6;
export const FADT_MINOR_REVISION = 5;
/** IAPC_BOOT_ARCH, u16. */
export const FADT_BOOT_ARCH_OFFSET = 109;
export const BOOT_ARCH_8042_MASK = 0x2;
export const BOOT_ARCH_NO_VGA_MASK = 0x4;
export const BOOT_ARCH_NO_CMOS_RTC_MASK = 0x20;
/** Flags, u32. */
export const FADT_FLAGS_OFFSET = 112;
export const FADT_WBINVD_MASK = 0x1;
/** No fixed-hardware power button, no fixed-hardware sleep button. */
export const FADT_POWER_BUTTON_MASK = 0x10;
export const FADT_SLEEP_BUTTON_MASK = 0x20;
export const FADT_RESET_REGISTER_MASK = 0x400;
export const FADT_HW_REDUCED_MASK = 0x10_0000;
/** RESET_REG, generic address; RESET_VALUE, u8. */
export const FADT_RESET_REGISTER_OFFSET = 116;
export const FADT_RESET_VALUE_OFFSET = 128;
export const FADT_MINOR_REVISION_OFFSET = 131;
/** X_DSDT, u64. */
export const FADT_X_DSDT_OFFSET = 140;
/** SLEEP_CONTROL_REG and SLEEP_STATUS_REG, generic addresses. */
export const FADT_SLEEP_CONTROL_OFFSET = 244;
export const FADT_SLEEP_STATUS_OFFSET = 256;
/** Hypervisor vendor identity, 8 characters. */
export const FADT_HYPERVISOR_OFFSET = 268;

/** Generic address structure: space, bit width, bit offset, access size, address u64. */
export const GAS_SYSTEM_IO = 1;
export const GAS_ACCESS_BYTE = 1;

export const MADT_REVISION = 6;
/** Local APIC address and flags, u32 each, follow the header; flags 0: no 8259 needs masking. */
export const MADT_LAPIC_ADDRESS_OFFSET = 36;
export const MADT_ENTRIES_OFFSET = 44;
/** Interrupt controller structures: type, length, then their own fields. */
export const MADT_LAPIC = 0;
export const MADT_LAPIC_BYTES = 8;
export const MADT_LAPIC_ENABLED_MASK = 0x1;
export const MADT_IOAPIC = 1;
export const MADT_IOAPIC_BYTES = 12;
export const MADT_LAPIC_NMI = 4;
export const MADT_LAPIC_NMI_BYTES = 6;
export const MADT_ALL_PROCESSORS = 0xff;
