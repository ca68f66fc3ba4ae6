import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { alignDown, alignUp, GIB, hex, KIB, MIB, PAGE_BYTES } from "../src/units.js";

describe("units", () => {
  it("counts in powers of 1024", () => {
    expect([KIB, MIB, GIB, PAGE_BYTES]).toEqual([2 ** 10, 2 ** 20, 2 ** 30, 2 ** 12]);
  });

  it.each([
    [0, 4096, 0, 0],
    [1, 4096, 0, 4096],
    [4096, 4096, 4096, 4096],
    [4097, 4096, 4096, 8192],
    [10, 3, 9, 12],
    [2 ** 40 + 1, 2 ** 21, 2 ** 40, 2 ** 40 + 2 ** 21],
  ])("rounds %d by %d down to %d and up to %d", (value, grain, down, up) => {
    expect([alignDown(value, grain), alignUp(value, grain)]).toEqual([down, up]);
  });

  it("rounds every address to multiples next to it", () => {
    const address = fc.nat({ max: 2 ** 31 - 1 }).map((n) => n * 2 ** 15 + (n % 4099));
    fc.assert(
      fc.property(address, fc.nat({ max: 30 }), (value, bits) => {
        const grain = 2 ** bits;
        const [down, up] = [alignDown(value, grain), alignUp(value, grain)];
        expect([down % grain, up % grain]).toEqual([0, 0]);
        expect(down <= value && value <= up && up - down <= grain).toBe(true);
      }),
    );
  });

  it("writes addresses in hexadecimal", () => {
    expect([hex(0), hex(0xfee0_0000), hex(2 ** 40)]).toEqual([
      "0x0",
      "0xfee00000",
      "0x10000000000",
    ]);
  });
});
