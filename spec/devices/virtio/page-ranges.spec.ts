import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PAGE_BYTES as PAGE } from "../../../src/devices/virtio/balloon.regs.js";
import { PageRanges } from "../../../src/devices/virtio/page-ranges.js";
import { KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";

describe("PageRanges", () => {
  it("gives back exactly the pages in memory that were added, each range in one region", () => {
    const memory = createMemory(MIB);
    const piece = fc.record({ address: fc.nat(2 * MIB), bytes: fc.nat(64 * KIB) });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 400 }), (pieces) => {
        const given = new Set<number>();
        const ranges = new PageRanges(memory, {
          reclaim(starts, lengths, count) {
            let sum = 0;
            for (let range = 0; range < count; range++) {
              expect(memory.contains(starts[range], lengths[range])).toBe(true);
              expect([starts[range] % PAGE, lengths[range] % PAGE]).toEqual([0, 0]);
              for (let at = 0; at < lengths[range]; at += PAGE) given.add(starts[range] + at);
              sum += lengths[range];
            }
            return sum;
          },
        });
        const expected = new Set<number>();
        for (const { address, bytes } of pieces) {
          ranges.add(address, bytes);
          const first = Math.ceil(address / PAGE) * PAGE;
          const end = Math.floor((address + bytes) / PAGE) * PAGE;
          if (end > MIB) continue;
          for (let at = first; at < end; at += PAGE) expected.add(at);
        }
        ranges.flush();
        expect(given).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });
});
