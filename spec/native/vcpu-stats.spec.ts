import { describe, expect, it } from "vitest";
import { native } from "../../src/native/binding.js";

describe("sampleClocks", () => {
  it("gives the time of process.hrtime beside a TSC that goes forward", () => {
    const [first, second] = [new Uint32Array(4), new Uint32Array(4)];
    const value = (words: Uint32Array, at: number) => new BigUint64Array(words.buffer)[at];
    const before = process.hrtime.bigint();
    native().sampleClocks(first);
    native().sampleClocks(second);
    const after = process.hrtime.bigint();
    expect(value(first, 1)).toBeGreaterThanOrEqual(before);
    expect(value(second, 1)).toBeLessThanOrEqual(after);
    expect(value(second, 0)).toBeGreaterThan(value(first, 0));
  });

  it("wants room for both", () => {
    expect(() => native().sampleClocks(new Uint32Array(3))).toThrow(TypeError);
  });
});

describe("VcpuStats", () => {
  it("says which call failed for a descriptor that is no vCPU", () => {
    const code = expect.stringMatching(/^E(NOTTY|BADF|INVAL)$/);
    expect(() => new (native().VcpuStats)(0x7fff_fff0, ["exits"])).toThrow(
      expect.objectContaining({ syscall: "KVM_GET_STATS_FD", code }),
    );
  });
});
