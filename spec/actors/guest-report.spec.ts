import { describe, expect, it } from "vitest";
import { GuestReport } from "../../src/actors/guest-report.js";
import { POWER_OFF, REPORT_BOOTED, REPORT_EXIT_STATUS } from "../../src/devices/events.js";

describe("GuestReport", () => {
  it("tells of the boot and of the command's end once, however often the guest says so", () => {
    const report = new GuestReport();
    const said: unknown[] = [];
    for (let count = 0; count < 1000; count++) {
      said.push(report.take(REPORT_BOOTED, 0), report.take(REPORT_EXIT_STATUS, 3 + count));
    }
    expect(said.filter((event) => event !== undefined)).toEqual([
      { type: "booted" },
      { type: "command-exited", status: 3 },
    ]);
    expect(report.status).toBe(3);
  });

  it("takes a status above 255 for 255, and 0 for a status", () => {
    const [large, none] = [new GuestReport(), new GuestReport()];
    expect(large.status).toBeUndefined();
    large.take(REPORT_EXIT_STATUS, 0xffff_ffff);
    expect(large.status).toBe(255);
    none.take(REPORT_EXIT_STATUS, 0);
    none.take(REPORT_EXIT_STATUS, 1);
    expect(none.status).toBe(0);
  });

  it("says nothing of other signals", () => {
    expect(new GuestReport().take(POWER_OFF, 0)).toBeUndefined();
  });
});
