import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HostTokenSealer } from "../../../src/actors/backends/token-sealer.js";
import { TokenAuthority } from "../../../src/devices/mmds/tokens.js";

function authority({ id = "vm-1", sealer = new HostTokenSealer(), tokensPerKey = 1000 } = {}) {
  const clock = { us: 5_000_000 };
  return { clock, tokens: new TokenAuthority(sealer, () => clock.us, id, tokensPerKey) };
}

const issue = (tokens: TokenAuthority, seconds: number) => tokens.issue(seconds) as string;

describe("TokenAuthority", () => {
  it("issues 48 characters, each time others", () => {
    const { tokens } = authority();
    const issued = new Set(Array.from({ length: 50 }, () => issue(tokens, 60)));
    expect(issued.size).toBe(50);
    for (const token of issued) expect(token).toMatch(/^[A-Za-z0-9+/]{48}$/);
  });

  it.each([0, -1, 21_601, Number.NaN, 0.5])("issues none for %d seconds", (seconds) => {
    expect(authority().tokens.issue(seconds)).toBeUndefined();
  });

  it("ends a token when its time is over, not before", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 21_600 }), fc.nat(1e9), (seconds, startUs) => {
        const { tokens, clock } = authority();
        clock.us = startUs * 1e6;
        const token = issue(tokens, seconds);
        clock.us += seconds * 1e6 - 1000;
        expect(tokens.isValid(token)).toBe(true);
        clock.us += 1000;
        expect(tokens.isValid(token)).toBe(false);
      }),
      { numRuns: 50 },
    );
  });

  it("believes no token with one bit changed", () => {
    const { tokens } = authority();
    const bytes = Buffer.from(issue(tokens, 60), "base64");
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3] ^= 1 << (bit & 7);
      expect(tokens.isValid(changed.toString("base64"))).toBe(false);
    }
  });

  it("believes no text that it has not issued", () => {
    const { tokens } = authority();
    const token = issue(tokens, 60);
    const near = [`${token}=`, ` ${token}`, token.slice(1), `${token}AAAA`, token.repeat(2), ""];
    for (const text of near) expect(tokens.isValid(text)).toBe(false);
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String({ maxLength: 72 })), (text) => {
        expect(tokens.isValid(text)).toBe(false);
      }),
    );
    expect(tokens.isValid(token)).toBe(true);
  });

  it("believes no other microVM's, even under the same key", () => {
    const sealer = new HostTokenSealer();
    const token = issue(authority({ id: "vm-1", sealer }).tokens, 60);
    expect(authority({ id: "vm-1", sealer }).tokens.isValid(token)).toBe(true);
    expect(authority({ id: "vm-2", sealer }).tokens.isValid(token)).toBe(false);
    expect(authority({ id: "vm-1" }).tokens.isValid(token)).toBe(false);
  });

  it("takes a new key after so many", () => {
    const { tokens } = authority({ tokensPerKey: 2 });
    const [first, second] = [issue(tokens, 60), issue(tokens, 60)];
    expect(tokens.isValid(first)).toBe(true);
    const third = issue(tokens, 60);
    expect([first, second, third].map((token) => tokens.isValid(token))).toEqual([
      false,
      false,
      true,
    ]);
  });
});
