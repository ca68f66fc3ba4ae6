import { describe, expect, it } from "vitest";
import { POWER_OFF, REPORT_BOOTED, REPORT_EXIT_STATUS } from "../../src/devices/events.js";
import * as regs from "../../src/devices/report.regs.js";
import { FakeFront } from "../support/fake-front.js";

describe("ReportFront", () => {
  it("posts the boot, the exit status and the wish to be switched off", () => {
    const fake = new FakeFront("report");
    fake.write8(regs.BOOTED_OFFSET, 123);
    fake.write32(regs.EXIT_STATUS_OFFSET, 137);
    fake.write32(regs.POWER_OFF_OFFSET, 1);
    expect(fake.takePosts()).toEqual([
      { event: REPORT_BOOTED, value: 0 },
      { event: REPORT_EXIT_STATUS, value: 137 },
      { event: POWER_OFF, value: 0 },
    ]);
  });

  it("ignores other values, sizes and offsets, and reads 0", () => {
    const fake = new FakeFront("report");
    fake.write8(regs.BOOTED_OFFSET, 122);
    fake.write32(regs.BOOTED_OFFSET, 123);
    fake.write8(regs.EXIT_STATUS_OFFSET, 1);
    fake.write32(regs.POWER_OFF_OFFSET, 2);
    fake.write32(0x10, 1);
    expect(fake.takePosts()).toEqual([]);
    expect(fake.read32(regs.EXIT_STATUS_OFFSET)).toBe(0);
  });
});
