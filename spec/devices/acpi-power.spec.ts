import { describe, expect, it } from "vitest";
import { POWER_OFF } from "../../src/devices/events.js";
import { FakeFront } from "../support/fake-front.js";

describe("AcpiPowerFront", () => {
  it("posts POWER_OFF when S5 is entered", () => {
    const fake = new FakeFront("acpi-power");
    fake.write8(0, (5 << 2) | (1 << 5));
    expect(fake.takePosts()).toEqual([{ event: POWER_OFF, value: 0 }]);
  });

  it("does nothing without SLP_EN, for other states and for other registers", () => {
    const fake = new FakeFront("acpi-power");
    fake.write8(0, 5 << 2);
    fake.write8(0, (3 << 2) | (1 << 5));
    fake.write8(1, (5 << 2) | (1 << 5));
    fake.write32(0, (5 << 2) | (1 << 5));
    expect(fake.takePosts()).toEqual([]);
    expect([fake.read8(0), fake.read8(1)]).toEqual([0, 0]);
  });
});
