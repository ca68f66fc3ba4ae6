import { describe, expect, it } from "vitest";
import * as aml from "../../../src/boot/acpi/aml.js";

const hexOf = (term: aml.Aml) => term.toString("hex");

describe("aml", () => {
  it.each([
    [0, "00"],
    [1, "01"],
    [2, "0a02"],
    [255, "0aff"],
    [256, "0b0001"],
    [65535, "0bffff"],
    [65536, "0c00000100"],
    [0xc0001000, "0c001000c0"],
  ])("encodes the integer %d in its shortest form", (value, expected) => {
    expect(hexOf(aml.integer(value))).toBe(expected);
  });

  it("encodes strings with a terminator and EISA ids big-endian", () => {
    expect(hexOf(aml.string("AB"))).toBe("0d414200");
    // As iasl compiles EisaId ("PNP0501") and EisaId ("PNP0303").
    expect(hexOf(aml.eisaId("PNP0501"))).toBe("0c41d00501");
    expect(hexOf(aml.eisaId("PNP0303"))).toBe("0c41d00303");
  });

  it("pads name segments and prefixes paths by their number of segments", () => {
    expect(aml.namePath("PS2").toString()).toBe("PS2_");
    expect(aml.namePath("\\_SB").toString()).toBe("\\_SB_");
    expect(aml.namePath("\\_SB.VGEN").toString()).toBe("\\._SB_VGEN");
    expect(hexOf(aml.namePath("A.B.C"))).toBe("2f03415f5f5f425f5f5f435f5f5f");
  });

  it("counts a package length's own bytes, at each change of its width", () => {
    const lengthBytes = (bodyBytes: number) => {
      const term = aml.scope("ABCD", Buffer.alloc(bodyBytes - 4));
      return hexOf(term.subarray(1, term.length - bodyBytes));
    };
    expect(lengthBytes(62)).toBe("3f");
    expect(lengthBytes(63)).toBe("4104");
    expect(lengthBytes(4093)).toBe("4fff");
    expect(lengthBytes(4094)).toBe("810001");
    expect(lengthBytes(2 ** 20 - 4)).toBe("8fffff");
    expect(lengthBytes(2 ** 20 - 3)).toBe("c1000001");
  });

  it("encodes resource descriptors inside a buffer with an end tag", () => {
    expect(hexOf(aml.memory32Fixed(0xc0001000, 0x1000))).toBe("86090001001000c000100000");
    expect(hexOf(aml.interrupt(5))).toBe("890600030105000000");
    expect(hexOf(aml.ioPorts(0x3f8, 8))).toBe("4701f803f8030108");
    expect(hexOf(aml.resources(aml.ioPorts(0x505, 1)))).toBe("110d0a0a47010505050501017900");
  });

  it("encodes a serialized method with a comparison and a notification", () => {
    const term = aml.method("_EVT", 1, aml.ifArg0Equals(7, aml.notify("\\_SB.VGEN")));
    expect(hexOf(term)).toBe(
      "1419" + "5f455654" + "09" + "a012" + "93680a07" + "865c2e5f53425f5647454e" + "0a80",
    );
  });
});
