import { describe, expect, it } from "vitest";
import { writeVmClock } from "../../src/boot/vmclock.js";
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
