import { describe, expect, it } from "vitest";
import {
  type BalloonConfig,
  checkBalloon,
  checkStatsChange,
} from "../../src/actors/config-balloon.js";

describe("checkBalloon", () => {
  it("fills in what is left open", () => {
    expect(checkBalloon({}, 128)).toEqual({
      amountMib: 0,
      deflateOnOom: false,
      statsIntervalS: 0,
      freePageHinting: false,
      freePageReporting: false,
    });
  });

  it.each([
    ["more than the guest has", { amountMib: 129 }, "balloon.amountMib"],
    ["half a mebibyte", { amountMib: 0.5 }, "balloon.amountMib"],
    ["an interval of a day", { statsIntervalS: 86_400 }, "balloon.statsIntervalS"],
    ["a field that does not exist", { size: 1 }, "balloon.size"],
    ["no truth", { deflateOnOom: 1 }, "balloon.deflateOnOom"],
  ])("refuses %s", (_what, config, field) => {
    expect(() => checkBalloon(config as BalloonConfig, 128)).toThrow(
      expect.objectContaining({ data: expect.objectContaining({ field }) }),
    );
  });

  it("keeps statistics from beginning or ending while the guest runs", () => {
    expect(checkStatsChange(1, 5)).toBe(5);
    expect(checkStatsChange(0, 0)).toBe(0);
    for (const [from, to] of [
      [0, 1],
      [1, 0],
    ]) {
      expect(() => checkStatsChange(from, to)).toThrow(
        expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
      );
    }
  });
});
