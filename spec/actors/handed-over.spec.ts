import { describe, expect, it } from "vitest";
import { handOver, takeHandedOver } from "../../src/actors/handed-over.js";

describe("takeHandedOver", () => {
  it("gives each descriptor away once", () => {
    handOver({ kernel: 7, "drive data": 8 });
    expect([takeHandedOver("kernel"), takeHandedOver("kernel")]).toEqual([7, undefined]);
    expect(takeHandedOver("drive data")).toBe(8);
  });

  it("has nothing for what was not handed over", () => {
    expect(takeHandedOver("initrd")).toBeUndefined();
  });
});
