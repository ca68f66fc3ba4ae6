import { createDecipheriv } from "node:crypto";
import { describe, expect, it } from "vitest";
import { HostTokenSealer } from "../../../src/actors/backends/token-sealer.js";

const PLAIN = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const ID = new TextEncoder().encode("microvmid=vm-1");

describe("HostTokenSealer", () => {
  it("opens what it has sealed, and nothing else", () => {
    const sealer = new HostTokenSealer();
    const sealed = sealer.seal(PLAIN, ID);
    expect(sealed).toHaveLength(12 + 8 + 16);
    expect(sealer.open(sealed, ID)).toEqual(PLAIN);
    expect(sealer.open(sealed, ID.subarray(1))).toBeUndefined();
    expect(sealer.open(sealed.subarray(0, 35), ID)).toBeUndefined();
    expect(sealer.open(sealed.subarray(0, 27), ID)).toBeUndefined();
    expect(sealer.open(new Uint8Array(0), ID)).toBeUndefined();
    expect(new HostTokenSealer().open(sealed, ID)).toBeUndefined();
    sealer.renewKey();
    expect(sealer.open(sealed, ID)).toBeUndefined();
  });

  it("seals otherwise each time", () => {
    const sealer = new HostTokenSealer();
    const [first, second] = [sealer.seal(PLAIN, ID), sealer.seal(PLAIN, ID)];
    expect(first.subarray(0, 12)).not.toEqual(second.subarray(0, 12));
    expect(first.subarray(12)).not.toEqual(second.subarray(12));
  });

  it("leaves nothing readable", () => {
    const sealed = new HostTokenSealer().seal(PLAIN, ID);
    expect(sealed.subarray(12, 20)).not.toEqual(PLAIN);
    const wrong = createDecipheriv("aes-256-gcm", new Uint8Array(32), sealed.subarray(0, 12));
    wrong.setAAD(ID).setAuthTag(sealed.subarray(20));
    wrong.update(sealed.subarray(12, 20));
    expect(() => wrong.final()).toThrow();
  });
});
