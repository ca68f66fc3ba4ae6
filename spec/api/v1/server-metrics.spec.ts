/** Totals over listeners, and what is measured of the process. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { newCounters } from "../../../src/api/server-options.js";
import { ProcessProbe, totalsOf } from "../../../src/api/v1/server-metrics.js";

describe("totalsOf", () => {
  it("adds up the listeners", () => {
    const listener = (requests: number, wrongToken: number) => ({
      server: { ...newCounters(), requests },
      auth: { missingToken: 0, wrongToken, host: 1, origin: 0 },
    });
    const totals = totalsOf([listener(3, 1), listener(4, 2)]);
    expect(totals.get("api_requests")?.value).toBe(7);
    expect(totals.get("api_auth_failures")?.value).toEqual({
      label: "reason",
      by: new Map([
        ["missing-token", 0],
        ["wrong-token", 3],
        ["host", 2],
        ["origin", 0],
      ]),
    });
  });
});

describe("ProcessProbe", () => {
  it("measures how late the event loop is, from its first call on", async () => {
    const probe = new ProcessProbe();
    expect(probe.loopDelaySeconds().size).toBe(0);
    // A turn counts from the one before, which a reading forgets.
    let longest = 0;
    for (let tries = 0; longest < 0.1 && tries < 20; tries++) {
      await sleep(150);
      const end = performance.now() + 300;
      while (performance.now() < end);
      await sleep(150);
      longest = probe.loopDelaySeconds().get(1) ?? 0;
    }
    expect(longest).toBeGreaterThan(0.1);
    probe.close();
  });

  it("measures memory, time and descriptors", () => {
    const { residentBytes, openDescriptors, userCpuSeconds } = new ProcessProbe().process;
    expect(residentBytes).toBeGreaterThan(2 ** 20);
    expect(openDescriptors).toBeGreaterThan(3);
    expect(userCpuSeconds).toBeGreaterThan(0);
  });
});
