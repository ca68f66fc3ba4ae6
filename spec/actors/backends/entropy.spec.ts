import { describe, expect, it } from "vitest";
import { hostEntropy } from "../../../src/actors/backends/entropy.js";

describe("hostEntropy", () => {
  it("fills every byte it is given, differently each time, and no other", () => {
    const bytes = new Uint8Array(new SharedArrayBuffer(3 * 4096));
    const middle = bytes.subarray(4096, 8192);
    hostEntropy.fill(middle, middle.length);
    const first = middle.slice();
    hostEntropy.fill(middle, middle.length);
    expect(middle).not.toEqual(first);
    expect(new Set(first).size).toBe(256);
    expect(bytes.subarray(0, 4096).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(8192).every((byte) => byte === 0)).toBe(true);
  });

  it("gives few bytes from its pool: as many as asked for, and none twice", () => {
    const drawn = new Set<string>();
    for (let i = 0; i < 200; i++) {
      const bytes = new Uint8Array(32);
      hostEntropy.fill(bytes, 24);
      expect(bytes.subarray(24).every((byte) => byte === 0)).toBe(true);
      drawn.add(bytes.toString());
    }
    expect(drawn.size).toBe(200);
  });
});
