import { describe, expect, it } from "vitest";
import { native } from "../../src/native/binding.js";

describe("native", () => {
  it("loads the addon once", () => {
    expect(native()).toBe(native());
  });

  it("reports a failed system call as Node does: errno's name and number, and the call", () => {
    expect(() => new (native().Kvm)("/nonexistent/kvm")).toThrow(
      expect.objectContaining({ code: "ENOENT", errno: 2, syscall: "open" }),
    );
  });

  it("gives a thread's memory back without losing what it still uses", () => {
    const kept = { text: "kept".repeat(1000) };
    native().trimMemory();
    expect(kept.text).toHaveLength(4000);
  });
});
