/**
 * The MP table's offsets, entry types and codes.
 *
 * Citation: Intel MultiProcessor Specification 1.4, §§ 4.1 (floating pointer), 4.2 (header), 4.3
 * (entries).
 */

/** Lengths in the floating pointer count 16-byte paragraphs. */
export const PARAGRAPH_BYTES = 16;
/** Revision 1.4, as a number. */
export const REVISION_1_4 = 4;

export const FLOATING_POINTER_BYTES = 16;
/** Address of the configuration table, u32. */
export const FLOATING_ADDRESS_OFFSET = 4;
export const FLOATING_LENGTH_OFFSET = 8;
export const FLOATING_REVISION_OFFSET = 9;
export const FLOATING_CHECKSUM_OFFSET = 10;

export const CONFIGURATION_HEADER_BYTES = 44;
/** Length of the base table with its header, u16. */
export const CONFIGURATION_LENGTH_OFFSET = 4;
export const CONFIGURATION_REVISION_OFFSET = 6;
export const CONFIGURATION_CHECKSUM_OFFSET = 7;
/** OEM id, 8 characters; product id, 12 characters. */
export const CONFIGURATION_OEM_OFFSET = 8;
export const CONFIGURATION_PRODUCT_OFFSET = 16;
/** Number of entries, u16. */
export const CONFIGURATION_ENTRY_COUNT_OFFSET = 34;
/** Address of the local APICs, u32. */
export const CONFIGURATION_LAPIC_OFFSET = 36;

/** Entry types; a processor's entry has 20 bytes, all others 8. */
export const ENTRY_PROCESSOR = 0;
export const ENTRY_BUS = 1;
export const ENTRY_IOAPIC = 2;
export const ENTRY_INTERRUPT = 3;
export const ENTRY_LOCAL_INTERRUPT = 4;
export const PROCESSOR_ENTRY_BYTES = 20;
export const SHORT_ENTRY_BYTES = 8;

/** Version register of an integrated local APIC and of KVM's IOAPIC. */
export const APIC_VERSION = 0x14;
export const PROCESSOR_ENABLED_MASK = 0x1;
export const PROCESSOR_BOOT_MASK = 0x2;
/** Family, model and stepping: family 6, as nobody reads more of it. */
export const PROCESSOR_SIGNATURE = 0x600;
export const PROCESSOR_SIGNATURE_OFFSET = 4;
/** FPU and on-chip APIC. */
export const PROCESSOR_FEATURES = 0x201;
export const PROCESSOR_FEATURES_OFFSET = 8;

export const ISA_BUS_ID = 0;
export const IOAPIC_ENABLED_MASK = 0x1;
export const IOAPIC_ADDRESS_OFFSET = 4;

/** Interrupt types. */
export const INTERRUPT_INT = 0;
export const INTERRUPT_NMI = 1;
export const INTERRUPT_EXTINT = 3;
/** Destination of a local interrupt: every local APIC. */
export const ALL_LOCAL_APICS = 0xff;
