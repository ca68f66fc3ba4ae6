import { describe, expect, it } from "vitest";
import * as layout from "../../src/boot/layout.js";

/** Everything that lies in memory at the same time, in one or the other boot protocol. */
const AREAS: readonly (readonly [name: string, start: number, sizeBytes: number])[] = [
  ["GDT", layout.BOOT_GDT_GPA, 32],
  ["IDT", layout.BOOT_IDT_GPA, 8],
  ["PVH start info", layout.PVH_START_INFO_GPA, 56],
  ["PVH module list", layout.PVH_MODLIST_GPA, 32],
  ["zero page or PVH memory map", layout.ZERO_PAGE_GPA, 4096],
  ["PML4", layout.PML4_GPA, 4096],
  ["PDPT", layout.PDPT_GPA, 4096],
  ["PD", layout.PD_GPA, 4096],
  ["command line", layout.COMMAND_LINE_GPA, layout.COMMAND_LINE_BYTES_MAX],
  ["MP table", layout.MP_TABLE_GPA, layout.MP_TABLE_BYTES_MAX],
  ["ACPI tables", layout.ACPI_TABLES_GPA, layout.ACPI_TABLES_BYTES_MAX],
  ["VM generation id", layout.VMGENID_GPA, layout.VMGENID_BYTES],
  ["RSDP", layout.RSDP_GPA, 36],
  ["kernel", layout.HIGH_MEMORY_GPA, 1],
];

describe("layout", () => {
  it("keeps all areas of low memory apart, in ascending order", () => {
    for (const [i, [name, start]] of AREAS.entries()) {
      const previousEnd = i === 0 ? 0x500 : AREAS[i - 1][1] + AREAS[i - 1][2];
      expect(start, name).toBeGreaterThanOrEqual(previousEnd);
    }
  });

  it("keeps ACPI tables below text-mode video memory and inside the system area", () => {
    expect(layout.ACPI_TABLES_GPA + layout.ACPI_TABLES_BYTES_MAX).toBeLessThanOrEqual(0xb8000);
    expect(layout.VMGENID_GPA + layout.VMGENID_BYTES).toBeLessThanOrEqual(
      layout.SYSTEM_AREA_END_GPA,
    );
  });

  it("starts device windows after the report page, one page each, all below the IOAPIC", () => {
    expect(layout.REPORT_PAGE_GPA).toBe(0xc0000000);
    expect(layout.VIRTIO_MMIO_GPA).toBe(0xc0001000);
    const gsis = layout.DEVICE_GSI_LAST - layout.DEVICE_GSI_FIRST + 1;
    const end = layout.VIRTIO_MMIO_GPA + gsis * layout.VIRTIO_MMIO_WINDOW_BYTES;
    expect(end).toBeLessThanOrEqual(layout.VIRTIO_MMIO_END_GPA);
    expect(layout.VIRTIO_MMIO_END_GPA).toBeLessThan(layout.IOAPIC_GPA);
  });

  it("ends device interrupts at the IOAPIC's last pin", () => {
    expect(layout.DEVICE_GSI_LAST).toBe(layout.IOAPIC_PIN_COUNT - 1);
  });
});
