/**
 * The MP table: processors and interrupts for kernels without ACPI (`acpi=off`, or CONFIG_ACPI not
 * set).
 *
 *     0x9fc00 │ pointer 16 B │ header 44 B │ processors 20 B each │ bus │ IOAPIC │ interrupts … │
 *
 * Linux searches the last KiB below 640 KiB, which is where it lies, whole: 32 processors make 924
 * bytes. Every ISA interrupt is wired to the IOAPIC pin of its number. Specification: Intel
 * MultiProcessor Specification 1.4, chapter 4.
 */
import { IOAPIC_GPA, IOAPIC_PIN_COUNT, LAPIC_GPA, MP_TABLE_GPA } from "./layout.js";
import * as mp from "./mp-table.regs.js";

/** The table's bytes, for MP_TABLE_GPA. */
export function buildMpTable(vcpuCount: number): Uint8Array {
  const entries = [
    ...Array.from({ length: vcpuCount }, (_, id) => processorEntry(id)),
    busEntry(),
    ioapicEntry(vcpuCount),
    ...Array.from({ length: IOAPIC_PIN_COUNT }, (_, pin) => interruptEntry(pin, vcpuCount)),
    localInterruptEntry(mp.INTERRUPT_EXTINT, 0, 0),
    localInterruptEntry(mp.INTERRUPT_NMI, mp.ALL_LOCAL_APICS, 1),
  ];
  const body = Buffer.concat(entries);
  const header = configurationHeader(mp.CONFIGURATION_HEADER_BYTES + body.length, entries.length);
  const configuration = Buffer.concat([header, body]);
  setChecksum(configuration, mp.CONFIGURATION_CHECKSUM_OFFSET);
  return Buffer.concat([floatingPointer(), configuration]);
}

/** Makes all bytes add up to 0 modulo 256. */
function setChecksum(bytes: Buffer, offset: number): void {
  bytes[offset] = -bytes.reduce((sum, byte) => sum + byte, 0);
}

function floatingPointer(): Buffer {
  const bytes = Buffer.alloc(mp.FLOATING_POINTER_BYTES);
  bytes.write("_MP_", 0, "latin1");
  bytes.writeUInt32LE(MP_TABLE_GPA + mp.FLOATING_POINTER_BYTES, mp.FLOATING_ADDRESS_OFFSET);
  bytes[mp.FLOATING_LENGTH_OFFSET] = mp.FLOATING_POINTER_BYTES / mp.PARAGRAPH_BYTES;
  bytes[mp.FLOATING_REVISION_OFFSET] = mp.REVISION_1_4;
  setChecksum(bytes, mp.FLOATING_CHECKSUM_OFFSET);
  return bytes;
}

function configurationHeader(lengthBytes: number, entryCount: number): Buffer {
  const bytes = Buffer.alloc(mp.CONFIGURATION_HEADER_BYTES);
  bytes.write("PCMP", 0, "latin1");
  bytes.writeUInt16LE(lengthBytes, mp.CONFIGURATION_LENGTH_OFFSET);
  bytes[mp.CONFIGURATION_REVISION_OFFSET] = mp.REVISION_1_4;
  bytes.write("ESTALO  ", mp.CONFIGURATION_OEM_OFFSET, "latin1");
  bytes.write("MICROVM     ", mp.CONFIGURATION_PRODUCT_OFFSET, "latin1");
  bytes.writeUInt16LE(entryCount, mp.CONFIGURATION_ENTRY_COUNT_OFFSET);
  bytes.writeUInt32LE(LAPIC_GPA, mp.CONFIGURATION_LAPIC_OFFSET);
  return bytes;
}

/** type, APIC id, APIC version, flags, signature u32, features u32, reserved. */
function processorEntry(apicId: number): Buffer {
  const bytes = Buffer.alloc(mp.PROCESSOR_ENTRY_BYTES);
  bytes.set([
    mp.ENTRY_PROCESSOR,
    apicId,
    mp.APIC_VERSION,
    mp.PROCESSOR_ENABLED_MASK | (apicId === 0 ? mp.PROCESSOR_BOOT_MASK : 0),
  ]);
  bytes.writeUInt32LE(mp.PROCESSOR_SIGNATURE, mp.PROCESSOR_SIGNATURE_OFFSET);
  bytes.writeUInt32LE(mp.PROCESSOR_FEATURES, mp.PROCESSOR_FEATURES_OFFSET);
  return bytes;
}

/** type, bus id, type string. */
function busEntry(): Buffer {
  return Buffer.from([mp.ENTRY_BUS, mp.ISA_BUS_ID, ...Buffer.from("ISA   ", "latin1")]);
}

/**
 * type, id, version, flags, address u32. The id comes after the processors', which share its number
 * space.
 */
function ioapicEntry(id: number): Buffer {
  const bytes = Buffer.alloc(mp.SHORT_ENTRY_BYTES);
  bytes.set([mp.ENTRY_IOAPIC, id, mp.APIC_VERSION, mp.IOAPIC_ENABLED_MASK]);
  bytes.writeUInt32LE(IOAPIC_GPA, mp.IOAPIC_ADDRESS_OFFSET);
  return bytes;
}

/**
 * type, interrupt type, flags u16 (0: as the bus has it, edge and active high), bus, irq, IOAPIC,
 * pin.
 */
function interruptEntry(pin: number, ioapicId: number): Buffer {
  const source = [mp.ISA_BUS_ID, pin];
  return Buffer.from([mp.ENTRY_INTERRUPT, mp.INTERRUPT_INT, 0, 0, ...source, ioapicId, pin]);
}

/** type, interrupt type, flags u16, bus, irq, local APIC, its LINT pin. */
function localInterruptEntry(type: number, apicId: number, pin: number): Buffer {
  return Buffer.from([mp.ENTRY_LOCAL_INTERRUPT, type, 0, 0, mp.ISA_BUS_ID, 0, apicId, pin]);
}
