import { describe, expect, it } from "vitest";
import { buildMpTable } from "../../src/boot/mp-table.js";

const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 255, 0);

/** Splits the configuration table's entries by their types. */
function entriesOf(table: Uint8Array): Uint8Array[] {
  const entries: Uint8Array[] = [];
  for (let at = 16 + 44; at < table.length; at += table[at] === 0 ? 20 : 8) {
    entries.push(table.subarray(at, at + (table[at] === 0 ? 20 : 8)));
  }
  return entries;
}

describe("buildMpTable", () => {
  it.each([1, 2, 31, 32])("adds up and fits in one KiB for %d vCPUs", (vcpuCount) => {
    const table = buildMpTable(vcpuCount);
    expect(table.length).toBeLessThanOrEqual(1024);
    expect(Buffer.from(table.subarray(0, 4)).toString()).toBe("_MP_");
    expect(sum(table.subarray(0, 16))).toBe(0);
    expect(Buffer.from(table.subarray(16, 20)).toString()).toBe("PCMP");
    expect(sum(table.subarray(16))).toBe(0);
    const view = new DataView(table.buffer, table.byteOffset);
    expect(view.getUint32(4, true)).toBe(0x9fc10);
    expect(view.getUint16(16 + 4, true)).toBe(table.length - 16);
    expect(view.getUint16(16 + 34, true)).toBe(entriesOf(table).length);
  });

  it("lists the processors, the first as boot processor, and the IOAPIC under its own id", () => {
    const entries = entriesOf(buildMpTable(3));
    expect(entries.slice(0, 3).map((entry) => [...entry.subarray(0, 4)])).toEqual([
      [0, 0, 0x14, 3],
      [0, 1, 0x14, 1],
      [0, 2, 0x14, 1],
    ]);
    expect([...entries[4]]).toEqual([2, 3, 0x14, 1, 0x00, 0x00, 0xc0, 0xfe]);
  });

  it("wires every ISA interrupt to its pin, ExtINT and NMI to the local pins", () => {
    const entries = entriesOf(buildMpTable(1)).slice(3);
    expect(entries).toHaveLength(24 + 2);
    for (let pin = 0; pin < 24; pin++)
      expect([...entries[pin]]).toEqual([3, 0, 0, 0, 0, pin, 1, pin]);
    expect([...entries[24]]).toEqual([4, 3, 0, 0, 0, 0, 0, 0]);
    expect([...entries[25]]).toEqual([4, 1, 0, 0, 0, 0, 255, 1]);
  });
});
