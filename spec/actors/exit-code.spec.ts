import { describe, expect, it } from "vitest";
import { exitCodeOf } from "../../src/actors/exit-code.js";

describe("exitCodeOf", () => {
  it.each([
    ["poweroff", undefined, 0],
    ["reboot", undefined, 0],
    ["poweroff", 0, 0],
    ["poweroff", 3, 3],
    ["reboot", 127, 127],
    ["poweroff", 128 + 9, 137],
    ["poweroff", 255, 255],
    ["panic", undefined, 121],
    ["panic", 0, 121],
    ["triple-fault", undefined, 122],
    ["failed", undefined, 125],
    ["failed", 0, 125],
    ["killed", undefined, 137],
    ["killed", 0, 137],
  ] as const)("of %s with guest status %s is %d", (reason, guestStatus, code) => {
    expect(exitCodeOf(reason, guestStatus)).toBe(code);
  });
});
