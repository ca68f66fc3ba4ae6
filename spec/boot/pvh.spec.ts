import { describe, expect, it } from "vitest";
import { memoryMap, ramRegions } from "../../src/boot/memory-map.js";
import { writePvhInfo } from "../../src/boot/pvh.js";
import { MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";

const info = {
  commandLineGpa: 0x20000,
  commandLineBytes: 10,
  rsdpGpa: 0xe0000,
  initrd: { gpa: 0x7f0_0000, sizeBytes: 12345 },
  memoryMap: memoryMap(ramRegions(128)),
};

describe("writePvhInfo", () => {
  it("writes start info, module and memory map where each points at the next", () => {
    const memory = createMemory(MIB);
    writePvhInfo(memory, info);
    expect(memory.readU32(0x6000)).toBe(0x336ec578);
    expect(memory.readU32(0x6004)).toBe(1);
    expect(memory.readU32(0x600c)).toBe(1);
    expect(memory.readU64(0x6010)).toBe(0x6040);
    expect(memory.readU64(0x6018)).toBe(0x20000);
    expect(memory.readU64(0x6020)).toBe(0xe0000);
    expect(memory.readU64(0x6028)).toBe(0x7000);
    expect(memory.readU32(0x6030)).toBe(3);
    expect([0, 8, 16, 24].map((at) => memory.readU64(0x6040 + at))).toEqual([
      0x7f00000, 12345, 0, 0,
    ]);
    const entries = [0, 1, 2].map((i) =>
      [0, 8, 16].map((at) => memory.readU64(0x7000 + i * 24 + at)),
    );
    expect(entries).toEqual([
      [0, 0x9fc00, 1],
      [0x9fc00, 0x40400, 2],
      [0x100000, 127 * MIB, 1],
    ]);
  });

  it("has no module without an initrd", () => {
    const memory = createMemory(MIB);
    writePvhInfo(memory, { ...info, initrd: undefined });
    expect(memory.readU32(0x600c)).toBe(0);
    expect(memory.readU64(0x6010)).toBe(0);
    expect(memory.readU64(0x6040)).toBe(0);
  });
});
