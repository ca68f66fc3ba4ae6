import { describe, expect, it } from "vitest";
import { GuestEvents } from "../../src/actors/guest-events.js";
import type { MicroVmEvent } from "../../src/actors/messages.js";

describe("GuestEvents", () => {
  it.each<[MicroVmEvent["type"], number]>([
    ["booted", 1],
    ["command-exited", 1],
    ["panicked", 1],
    ["device-needs-reset", 100],
    ["device-failed", 1000],
    ["state", 2000],
    ["drive-changed", 2000],
    ["exited", 2000],
  ])("lets %s be told %i times of 2000, whatever else there is", (type, times) => {
    const events = new GuestEvents();
    let told = 0;
    for (let count = 0; count < 2000; count++) {
      if (events.admits({ type })) told++;
      events.admits({ type: type === "booted" ? "panicked" : "booted" });
    }
    expect(told).toBe(times);
  });
});
