import { describe, expect, it } from "vitest";
import { advanceVmClock, writeVmClock } from "../../src/boot/vmclock.js";
import { MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";

const PAGE = 0xde000;

describe("writeVmClock", () => {
  it("places the page that Linux' driver looks for, without a time", () => {
    const memory = createMemory(MIB);
    writeVmClock(memory);
    expect(Buffer.from(memory.read(PAGE, 4)).toString()).toBe("VCLK");
    expect(memory.readU32(PAGE + 4)).toBe(4096);
    expect(memory.readU16(PAGE + 8)).toBe(1);
    expect(memory.readU8(PAGE + 0x0a)).toBe(0xff);
    expect(memory.readU32(PAGE + 0x0c)).toBe(0);
    expect(memory.readU64(PAGE + 0x10)).toBe(0);
    expect(memory.readU64(PAGE + 0x18)).toBe(0x300);
    expect(memory.readU8(PAGE + 0x22)).toBe(0);
    expect(memory.readU64(PAGE + 0x68)).toBe(0);
    expect(memory.readU32(PAGE - 4)).toBe(0);
  });
});

describe("advanceVmClock", () => {
  it("counts a disruption and a generation, and leaves the sequence even", () => {
    const memory = createMemory(MIB);
    writeVmClock(memory);
    for (const times of [1, 2]) {
      advanceVmClock(memory);
      expect(memory.readU32(PAGE + 0x0c)).toBe(2 * times);
      expect(memory.readU64(PAGE + 0x10)).toBe(times);
      expect(memory.readU64(PAGE + 0x68)).toBe(times);
    }
  });

  it("leaves it even also where the guest has written an odd one, or the last one", () => {
    const memory = createMemory(MIB);
    for (const [had, has] of [
      [7, 8],
      [0xffff_ffff, 0],
      [0xffff_fffe, 0],
    ]) {
      memory.writeU32(PAGE + 0x0c, had);
      advanceVmClock(memory);
      expect(memory.readU32(PAGE + 0x0c)).toBe(has);
    }
  });
});
