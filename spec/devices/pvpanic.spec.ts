import { describe, expect, it } from "vitest";
import { PANICKED } from "../../src/devices/events.js";
import { FakeFront } from "../support/fake-front.js";

describe("PvpanicFront", () => {
  it("offers both events and posts those the guest reports", () => {
    const fake = new FakeFront("pvpanic");
    expect(fake.read8(0)).toBe(3);
    fake.write8(0, 1);
    fake.write8(0, 0xf2);
    expect(fake.takePosts()).toEqual([
      { event: PANICKED, value: 1 },
      { event: PANICKED, value: 2 },
    ]);
  });

  it("ignores events it does not know, and wide accesses", () => {
    const fake = new FakeFront("pvpanic");
    fake.write8(0, 0x80);
    fake.write32(0, 1);
    expect(fake.takePosts()).toEqual([]);
  });
});
