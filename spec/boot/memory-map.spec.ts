import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  E820_RAM,
  E820_RESERVED,
  MEMORY_MIB_MAX,
  MEMORY_MIB_MIN,
  memoryMap,
  ramRegions,
} from "../../src/boot/memory-map.js";
import { GIB, MIB } from "../../src/units.js";

const memoryMib = fc.integer({ min: MEMORY_MIB_MIN, max: MEMORY_MIB_MAX });

describe("ramRegions", () => {
  it("is one region up to 3 GiB", () => {
    expect(ramRegions(128)).toEqual([{ start: 0, sizeBytes: 128 * MIB }]);
    expect(ramRegions(3072)).toEqual([{ start: 0, sizeBytes: 3 * GIB }]);
  });

  it("goes on above 4 GiB beyond that", () => {
    expect(ramRegions(3073)).toEqual([
      { start: 0, sizeBytes: 3 * GIB },
      { start: 4 * GIB, sizeBytes: MIB },
    ]);
    expect(ramRegions(MEMORY_MIB_MAX)[1]).toEqual({ start: 4 * GIB, sizeBytes: 252 * GIB });
  });

  it("adds up to what was asked for and ends at 256 GiB at the latest", () => {
    fc.assert(
      fc.property(memoryMib, (mib) => {
        const regions = ramRegions(mib);
        const total = regions.reduce((sum, region) => sum + region.sizeBytes, 0);
        const last = regions[regions.length - 1];
        return total === mib * MIB && last.start + last.sizeBytes <= 256 * GIB;
      }),
    );
  });

  it.each([31, 1, 0, -1])("refuses %d MiB as too small", (mib) => {
    expect(() => ramRegions(mib)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_MEMORY_TOO_SMALL" }),
    );
  });

  it.each([MEMORY_MIB_MAX + 1, 128.5, Number.NaN, Number.POSITIVE_INFINITY])(
    "refuses %d MiB as invalid",
    (mib) => {
      expect(() => ramRegions(mib)).toThrow(
        expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
      );
    },
  );
});

describe("memoryMap", () => {
  it("is conventional memory, the reserved system area, then RAM from 1 MiB", () => {
    expect(memoryMap(ramRegions(128))).toEqual([
      { start: 0, sizeBytes: 0x9fc00, type: E820_RAM },
      { start: 0x9fc00, sizeBytes: 0xe0000 - 0x9fc00, type: E820_RESERVED },
      { start: MIB, sizeBytes: 127 * MIB, type: E820_RAM },
    ]);
  });

  it("is ascending, without overlap, backed by regions and complete, for every size", () => {
    fc.assert(
      fc.property(memoryMib, (mib) => {
        const regions = ramRegions(mib);
        const map = memoryMap(regions);
        let end = 0;
        let ram = 0;
        for (const entry of map) {
          expect(entry.start).toBeGreaterThanOrEqual(end);
          expect(entry.sizeBytes).toBeGreaterThan(0);
          end = entry.start + entry.sizeBytes;
          if (entry.type !== E820_RAM) continue;
          ram += entry.sizeBytes;
          const backed = regions.some(
            (region) => entry.start >= region.start && end <= region.start + region.sizeBytes,
          );
          expect(backed).toBe(true);
        }
        expect(mib * MIB - ram).toBe(MIB - 0x9fc00);
      }),
    );
  });
});
