import { describe, expect, it } from "vitest";
import { checkMemoryHotplug, checkRequestedSize } from "../../src/actors/config-memory-hotplug.js";

describe("checkMemoryHotplug", () => {
  it("fills in slots and blocks", () => {
    expect(checkMemoryHotplug({ totalSizeMib: 1024 })).toEqual({
      totalSizeMib: 1024,
      slotSizeMib: 128,
      blockSizeMib: 2,
    });
  });

  it.each([
    ["totalSizeMib", {}],
    ["totalSizeMib", { totalSizeMib: 100 }],
    ["totalSizeMib", { totalSizeMib: 200 }],
    ["totalSizeMib", { totalSizeMib: 2 ** 20 }],
    ["slotSizeMib", { totalSizeMib: 1024, slotSizeMib: 64 }],
    ["slotSizeMib", { totalSizeMib: 1024, slotSizeMib: 130, blockSizeMib: 4 }],
    ["blockSizeMib", { totalSizeMib: 1024, blockSizeMib: 1 }],
    ["blockSizeMib", { totalSizeMib: 1024, blockSizeMib: 6 }],
    ["blockSizeMib", { totalSizeMib: 1024, blockSizeMib: "2" }],
    ["size", { totalSizeMib: 1024, size: 1 }],
  ])("refuses %s in %j", (field, config) => {
    expect(() => checkMemoryHotplug(config as never)).toThrow(
      expect.objectContaining({
        data: expect.objectContaining({ field: `memoryHotplug.${field}` }),
      }),
    );
  });
});

describe("checkRequestedSize", () => {
  it("takes whole blocks up to all", () => {
    const config = checkMemoryHotplug({ totalSizeMib: 256, blockSizeMib: 4 });
    expect([0, 4, 256].map((mib) => checkRequestedSize(config, mib))).toEqual([0, 4, 256]);
    for (const mib of [-4, 2, 260, 4.5, Number.NaN]) {
      expect(() => checkRequestedSize(config, mib)).toThrow(
        expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
      );
    }
  });
});
