/**
 * ACPI's tables: RSDP ─▶ XSDT ─▶ FADT ─▶ DSDT, and MADT.
 *
 * Hardware-reduced ACPI: there is no fixed power-management hardware, only the sleep registers
 * (soft off) and the reset register (the i8042's reset). The flags tell a kernel what it need not
 * probe: VGA and the CMOS clock, whose absence otherwise costs time-outs. Specification:
 * ACPI 6.5 § 5.2.
 */
import { EstaloError } from "../../errors.js";
import { alignUp, type Gpa } from "../../units.js";
import * as layout from "../layout.js";
import { type DsdtDevices, dsdtBody } from "./dsdt.js";
import * as regs from "./tables.regs.js";

const OEM_ID = "ESTALO";
const OEM_TABLE_ID = "ESTALOVM";
const CREATOR_ID = "ESTL";
const REVISION = 1;

/** What the tables describe. */
export interface AcpiMachine extends DsdtDevices {
  readonly vcpuCount: number;
}

/** The bytes to place in guest memory. */
export interface AcpiTables {
  /** For RSDP_GPA. */
  readonly rsdp: Uint8Array;
  /** DSDT, FADT, MADT and XSDT, for ACPI_TABLES_GPA. */
  readonly tables: Uint8Array;
}

/** Machines of this many shapes are remembered. */
const SHAPES_MAX = 16;
const built = new Map<string, AcpiTables>();

/** As `buildAcpiTables`, built once for machines of the same shape. The bytes are not to be changed. */
export function acpiTables(machine: AcpiMachine): AcpiTables {
  const shape = JSON.stringify(machine);
  const known = built.get(shape);
  if (known !== undefined) return known;
  const tables = buildAcpiTables(machine);
  if (built.size >= SHAPES_MAX) built.clear();
  built.set(shape, tables);
  return tables;
}

/** Builds all tables for their addresses in the layout. */
export function buildAcpiTables(machine: AcpiMachine): AcpiTables {
  const placed: Buffer[] = [];
  let end: Gpa = layout.ACPI_TABLES_GPA;
  const place = (table: Buffer): Gpa => {
    const gpa = end;
    const padded = Buffer.alloc(alignUp(table.length, TABLE_ALIGNMENT_BYTES));
    table.copy(padded);
    placed.push(padded);
    end += padded.length;
    return gpa;
  };
  const dsdt = place(table("DSDT", regs.DSDT_REVISION, dsdtBody(machine)));
  const fadt = place(buildFadt(dsdt));
  const madt = place(buildMadt(machine.vcpuCount));
  const xsdt = place(buildXsdt([fadt, madt]));
  if (end > layout.ACPI_TABLES_GPA + layout.ACPI_TABLES_BYTES_MAX) {
    throw new EstaloError("ERR_ESTALO_BUG", "ACPI tables outgrow their place in the layout");
  }
  return { rsdp: buildRsdp(xsdt), tables: Buffer.concat(placed) };
}

const TABLE_ALIGNMENT_BYTES = 16;

/** A table: header, body, checksum. */
function table(signature: string, revision: number, body: Buffer): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(regs.HEADER_BYTES), body]);
  bytes.write(signature, 0, "latin1");
  bytes.writeUInt32LE(bytes.length, regs.HEADER_LENGTH_OFFSET);
  bytes[regs.HEADER_REVISION_OFFSET] = revision;
  bytes.write(OEM_ID, regs.HEADER_OEM_ID_OFFSET, "latin1");
  bytes.write(OEM_TABLE_ID, regs.HEADER_OEM_TABLE_ID_OFFSET, "latin1");
  bytes.writeUInt32LE(REVISION, regs.HEADER_OEM_REVISION_OFFSET);
  bytes.write(CREATOR_ID, regs.HEADER_CREATOR_ID_OFFSET, "latin1");
  bytes.writeUInt32LE(REVISION, regs.HEADER_CREATOR_REVISION_OFFSET);
  bytes[regs.HEADER_CHECKSUM_OFFSET] = checksum(bytes);
  return bytes;
}

/** The byte that makes all of them add up to 0 modulo 256. */
function checksum(bytes: Uint8Array): number {
  return -bytes.reduce((sum, byte) => sum + byte, 0) & 255;
}

function buildFadt(dsdt: Gpa): Buffer {
  const body = Buffer.alloc(regs.FADT_BYTES - regs.HEADER_BYTES);
  const at = (offset: number) => offset - regs.HEADER_BYTES;
  body.writeUInt16LE(
    regs.BOOT_ARCH_8042_MASK | regs.BOOT_ARCH_NO_VGA_MASK | regs.BOOT_ARCH_NO_CMOS_RTC_MASK,
    at(regs.FADT_BOOT_ARCH_OFFSET),
  );
  body.writeUInt32LE(
    regs.FADT_WBINVD_MASK |
      regs.FADT_POWER_BUTTON_MASK |
      regs.FADT_SLEEP_BUTTON_MASK |
      regs.FADT_RESET_REGISTER_MASK |
      regs.FADT_HW_REDUCED_MASK,
    at(regs.FADT_FLAGS_OFFSET),
  );
  body.set(ioRegister(layout.I8042_COMMAND_PORT), at(regs.FADT_RESET_REGISTER_OFFSET));
  body[at(regs.FADT_RESET_VALUE_OFFSET)] = layout.I8042_RESET_COMMAND;
  body[at(regs.FADT_MINOR_REVISION_OFFSET)] = regs.FADT_MINOR_REVISION;
  body.writeBigUInt64LE(BigInt(dsdt), at(regs.FADT_X_DSDT_OFFSET));
  body.set(ioRegister(layout.ACPI_SLEEP_CONTROL_PORT), at(regs.FADT_SLEEP_CONTROL_OFFSET));
  body.set(ioRegister(layout.ACPI_SLEEP_STATUS_PORT), at(regs.FADT_SLEEP_STATUS_OFFSET));
  body.write(OEM_TABLE_ID, at(regs.FADT_HYPERVISOR_OFFSET), "latin1");
  return table("FACP", regs.FADT_REVISION, body);
}

/** The generic address of a byte-wide port. */
function ioRegister(port: number): Buffer {
  const bytes = Buffer.alloc(12);
  bytes.set([regs.GAS_SYSTEM_IO, 8, 0, regs.GAS_ACCESS_BYTE]);
  bytes.writeBigUInt64LE(BigInt(port), 4);
  return bytes;
}

/** IOAPIC, one local APIC for each vCPU (its APIC id is its index), NMI on LINT1 of all. */
function buildMadt(vcpuCount: number): Buffer {
  const head = Buffer.alloc(regs.MADT_ENTRIES_OFFSET - regs.HEADER_BYTES);
  head.writeUInt32LE(layout.LAPIC_GPA, regs.MADT_LAPIC_ADDRESS_OFFSET - regs.HEADER_BYTES);
  // type, length, id, reserved, address u32, first GSI u32
  const ioapic = Buffer.alloc(regs.MADT_IOAPIC_BYTES);
  ioapic.set([regs.MADT_IOAPIC, regs.MADT_IOAPIC_BYTES]);
  ioapic.writeUInt32LE(layout.IOAPIC_GPA, 4);
  // type, length, processor uid, APIC id, flags u32
  const lapics = Array.from({ length: vcpuCount }, (_, id) =>
    Buffer.of(
      ...[regs.MADT_LAPIC, regs.MADT_LAPIC_BYTES, id, id],
      ...[regs.MADT_LAPIC_ENABLED_MASK, 0, 0, 0],
    ),
  );
  // type, length, processor uid, flags u16 (0: as the bus has it), LINT pin
  const nmi = Buffer.of(
    ...[regs.MADT_LAPIC_NMI, regs.MADT_LAPIC_NMI_BYTES, regs.MADT_ALL_PROCESSORS, 0, 0, 1],
  );
  return table("APIC", regs.MADT_REVISION, Buffer.concat([head, ioapic, ...lapics, nmi]));
}

function buildXsdt(tables: readonly Gpa[]): Buffer {
  const body = Buffer.alloc(tables.length * 8);
  for (const [i, gpa] of tables.entries()) body.writeBigUInt64LE(BigInt(gpa), i * 8);
  return table("XSDT", regs.XSDT_REVISION, body);
}

function buildRsdp(xsdt: Gpa): Buffer {
  const bytes = Buffer.alloc(regs.RSDP_BYTES);
  bytes.write("RSD PTR ", 0, "latin1");
  bytes.write(OEM_ID, regs.RSDP_OEM_ID_OFFSET, "latin1");
  bytes[regs.RSDP_REVISION_OFFSET] = regs.RSDP_REVISION;
  bytes.writeUInt32LE(regs.RSDP_BYTES, regs.RSDP_LENGTH_OFFSET);
  bytes.writeBigUInt64LE(BigInt(xsdt), regs.RSDP_XSDT_OFFSET);
  bytes[regs.RSDP_CHECKSUM_OFFSET] = checksum(bytes.subarray(0, regs.RSDP_CHECKSUM_BYTES));
  bytes[regs.RSDP_EXTENDED_CHECKSUM_OFFSET] = checksum(bytes);
  return bytes;
}
