import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type AcpiTables, acpiTables, buildAcpiTables } from "../../../src/boot/acpi/tables.js";

const machine = {
  vcpuCount: 2,
  virtioDevices: [
    { base: 0xc0001000, gsi: 5 },
    { base: 0xc0002000, gsi: 6 },
  ],
  generation: { vmGenId: 7, vmClock: 8 },
};
const built = buildAcpiTables(machine);

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 255, 0);

/** A table by its guest-physical address, as long as its header says. */
function tableAt({ tables }: AcpiTables, gpa: bigint): Buffer {
  const at = Number(gpa) - 0xa0000;
  const bytes = Buffer.from(tables);
  return bytes.subarray(at, at + bytes.readUInt32LE(at + 4));
}

/** Follows the pointers from the RSDP, as a kernel does. */
function follow(acpi: AcpiTables) {
  const xsdt = tableAt(acpi, Buffer.from(acpi.rsdp).readBigUInt64LE(24));
  const [fadt, madt] = [36, 44].map((at) => tableAt(acpi, xsdt.readBigUInt64LE(at)));
  const dsdt = tableAt(acpi, fadt.readBigUInt64LE(140));
  return { xsdt, fadt, madt, dsdt };
}

describe("buildAcpiTables", () => {
  const { xsdt, fadt, madt, dsdt } = follow(built);

  it("links RSDP, XSDT, FADT, MADT and DSDT, all with checksums that add up", () => {
    expect(Buffer.from(built.rsdp.subarray(0, 15)).toString("latin1")).toMatch(/^RSD PTR .ESTALO/s);
    expect(sum(built.rsdp.subarray(0, 20))).toBe(0);
    expect(sum(built.rsdp)).toBe(0);
    const named: [string, Buffer][] = [
      ["XSDT", xsdt],
      ["FACP", fadt],
      ["APIC", madt],
      ["DSDT", dsdt],
    ];
    for (const [signature, table] of named) {
      expect(table.toString("latin1", 0, 4)).toBe(signature);
      expect(table.toString("latin1", 10, 24)).toBe("ESTALOESTALOVM");
      expect(sum(table), signature).toBe(0);
    }
  });

  it("is hardware-reduced, without VGA and CMOS clock, with an 8042", () => {
    expect(fadt).toHaveLength(276);
    expect(fadt[8]).toBe(6);
    expect(fadt.readUInt16LE(109)).toBe(0x26);
    expect(fadt.readUInt32LE(112)).toBe(0x100431);
    expect(fadt.toString("latin1", 268)).toBe("ESTALOVM");
  });

  it("sleeps through ports 0x600 and 0x601 and resets through the 8042", () => {
    const port = (offset: number) => [
      ...fadt.subarray(offset, offset + 4),
      Number(fadt.readBigUInt64LE(offset + 4)),
    ];
    expect(port(244)).toEqual([1, 8, 0, 1, 0x600]);
    expect(port(256)).toEqual([1, 8, 0, 1, 0x601]);
    expect(port(116)).toEqual([1, 8, 0, 1, 0x64]);
    expect(fadt[128]).toBe(0xfe);
  });

  it("lists IOAPIC, a local APIC for each vCPU and the NMI pin", () => {
    expect(madt.readUInt32LE(36)).toBe(0xfee00000);
    expect(madt.subarray(44).toString("hex")).toBe(
      "010c0000" +
        "0000c0fe" +
        "00000000" +
        "0008000001000000" +
        "0008010101000000" +
        "0406ff000001",
    );
  });

  it("has one local APIC for each of 32 vCPUs", () => {
    const { madt: many } = follow(buildAcpiTables({ vcpuCount: 32, virtioDevices: [] }));
    expect(many).toHaveLength(44 + 12 + 32 * 8 + 6);
  });

  it("leaves VM generation id, VMClock and event device out where there is none", () => {
    const { dsdt: plain } = follow(buildAcpiTables({ vcpuCount: 1, virtioDevices: [] }));
    expect(plain.includes("VGEN")).toBe(false);
    expect(plain.includes("VCLK")).toBe(false);
    expect(plain.includes("GED_")).toBe(false);
    expect(dsdt.includes("VGEN")).toBe(true);
  });
});

const iasl = spawnSync("iasl", ["-v"]).status === 0;

describe("DSDT, read back", () => {
  const directory = mkdtempSync(join(tmpdir(), "estalo-acpi-"));
  afterAll(() => rmSync(directory, { recursive: true }));

  it("has the soft-off package and every device's name", () => {
    const { dsdt } = follow(built);
    // Name (\_S5, Package (4) { 5, 5, 0, 0 })
    expect(dsdt.subarray(36, 51).toString("hex")).toBe(`08${"5c5f53355f"}1208040a050a050000`);
    for (const name of ["V000", "V001", "COM1", "PS2_", "PEVT", "VGEN", "VCLK", "GED_"]) {
      expect(dsdt.includes(name), name).toBe(true);
    }
    for (const id of [
      "LNRO0005",
      "QEMU0001",
      "VM_Gen_Counter",
      "VMGENCTR",
      "AMZNC10C",
      "VMCLOCK",
      "ACPI0013",
    ]) {
      expect(dsdt.includes(`${id}\0`), id).toBe(true);
    }
  });

  // Needs Debian's acpica-tools; the bytes above are pinned with or without it.
  it.skipIf(!iasl)("disassembles and compiles again without a warning (needs iasl)", () => {
    writeFileSync(join(directory, "dsdt.dat"), follow(built).dsdt);
    const run = (...args: string[]) =>
      spawnSync("iasl", args, { cwd: directory, encoding: "utf8" }).stderr;
    run("-d", "dsdt.dat");
    const source = readFileSync(join(directory, "dsdt.dsl"), "utf8");
    expect(source).toContain("0xC0002000,         // Address Base");
    expect(source).toContain("Notify (\\_SB.VGEN, 0x80)");
    expect(source).toContain("Notify (\\_SB.VCLK, 0x80)");
    expect(source).toContain("0x000DE000,         // Address Base");
    expect(source).toContain('EisaId ("PNP0303")');
    const compiled = spawnSync("iasl", ["dsdt.dsl"], { cwd: directory, encoding: "utf8" });
    expect(compiled.status).toBe(0);
    expect(compiled.stdout + compiled.stderr).toContain("0 Errors, 0 Warnings, 0 Remarks");
  });
});

describe("acpiTables", () => {
  it("builds a shape once, and another for each other shape", () => {
    const tables = acpiTables(machine);
    expect(tables).toEqual(built);
    expect(acpiTables({ ...machine })).toBe(tables);
    expect(acpiTables({ ...machine, vcpuCount: 3 })).toEqual(
      buildAcpiTables({ ...machine, vcpuCount: 3 }),
    );
  });

  it("stays right however many shapes there are", () => {
    for (let vcpuCount = 1; vcpuCount <= 32; vcpuCount++) acpiTables({ ...machine, vcpuCount });
    expect(acpiTables(machine)).toEqual(built);
  });
});
