import { describe, expect, it } from "vitest";
import { parseMemoryPolicy } from "../../src/cli/memory-policy-option.js";

describe("--memory-policy", () => {
  it("is none unless it is asked for", () => {
    expect(parseMemoryPolicy(undefined)).toBeUndefined();
    expect(parseMemoryPolicy("none")).toBeUndefined();
  });

  it("takes bounds, levels and rate, and a control group's pressure", () => {
    expect(parseMemoryPolicy("psi")).toEqual({ pressure: {}, options: {} });
    const words =
      "psi,inflate=7.5,deflate=0.5,calm=2.5,min=256,spare=16,rate=8,cgroup=/sys/fs/cgroup/vms";
    expect(parseMemoryPolicy(words)).toEqual({
      pressure: { path: "/sys/fs/cgroup/vms/memory.pressure" },
      options: {
        inflatePercent: 7.5,
        deflatePercent: 0.5,
        calmMs: 2500,
        minMib: 256,
        spareMib: 16,
        rateMibPerS: 8,
      },
    });
  });

  it.each([
    ["load", "has no form load"],
    ["psi,min", "min is no KEY=NUMBER"],
    ["psi,min=many", "min=many is no KEY=NUMBER"],
    ["psi,most=5", "most=5 is no KEY=NUMBER"],
    ["psi,constructor=5", "constructor=5 is no KEY=NUMBER"],
    ["psi,inflate=1,deflate=2", "less than inflatePercent"],
    ["psi,min=0.5", "whole number"],
    ["psi,rate=0", "whole number from 1"],
  ])("refuses %s", (words, message) => {
    expect(() => parseMemoryPolicy(words)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_USAGE",
        message: expect.stringContaining(message),
        hint: expect.stringContaining("psi[,KEY=VALUE…]"),
      }),
    );
  });
});
