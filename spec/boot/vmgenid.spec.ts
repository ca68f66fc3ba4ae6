import { describe, expect, it } from "vitest";
import { writeVmGenId } from "../../src/boot/vmgenid.js";
import { MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";

describe("writeVmGenId", () => {
  it("places the 16 bytes where the DSDT says, and nothing around them", () => {
    const memory = createMemory(MIB);
    const id = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
    writeVmGenId(memory, id);
    expect(memory.read(0xdf000, 16)).toEqual(id);
    expect(memory.readU32(0xdeffc)).toBe(0);
    expect(memory.readU32(0xdf010)).toBe(0);
  });

  it("refuses another length", () => {
    expect(() => writeVmGenId(createMemory(MIB), new Uint8Array(15))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_BUG" }),
    );
  });
});
