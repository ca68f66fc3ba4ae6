import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { KeptBytes } from "../../src/actors/kept-bytes.js";

describe("KeptBytes", () => {
  it("gives what was put into it, however it was cut, and then begins anew", () => {
    const piece = fc.oneof(
      fc.uint8Array({ maxLength: 3 }),
      fc.integer({ min: 0, max: 200_000 }).map((length) => new Uint8Array(length).fill(length)),
    );
    const kept = new KeptBytes();
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        for (const bytes of pieces) kept.append(bytes);
        const all = Buffer.concat(pieces);
        expect(kept.length).toBe(all.length);
        expect(kept.take().equals(all)).toBe(true);
        expect(kept.length).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  it("keeps nothing of the pieces: they may be used again", () => {
    const kept = new KeptBytes();
    const piece = Buffer.from("one");
    kept.append(piece);
    piece.write("two");
    kept.append(piece);
    expect(String(kept.take())).toBe("onetwo");
  });

  it("is a few blocks for any number of pieces", () => {
    const kept = new KeptBytes();
    for (let count = 0; count < 100_000; count++) kept.append(Uint8Array.of(count));
    const concat = vi.spyOn(Buffer, "concat");
    try {
      expect(kept.take()).toHaveLength(100_000);
      expect(concat.mock.lastCall?.[0].length).toBeLessThan(20);
    } finally {
      concat.mockRestore();
    }
  });
});
