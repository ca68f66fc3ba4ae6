import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChainTable } from "../../../src/devices/virtio/chain-table.js";
import { DescriptorChain } from "../../../src/devices/virtio/queue.js";

const chainOf = (head: number, segments: readonly (readonly [number, number])[]) => {
  const chain = new DescriptorChain(16);
  chain.head = head;
  chain.count = segments.length;
  for (const [index, [address, length]] of segments.entries()) {
    chain.addresses[index] = address;
    chain.lengths[index] = length;
  }
  return chain;
};

/** The table's content as lists, for comparison. */
function contentOf(table: ChainTable) {
  return Array.from({ length: table.count }, (_, index) => {
    const chain = table.first + index;
    const segments = [];
    for (let at = table.startOf(chain); at < table.ends[chain]; at++) {
      segments.push([table.addresses[at], table.lengths[at]]);
    }
    return { head: table.heads[chain], bytes: table.bytes[chain], segments };
  });
}

describe("ChainTable", () => {
  it("takes part of a chain", () => {
    const table = new ChainTable(2, 4);
    const chain = chainOf(7, [
      [100, 1],
      [200, 2],
      [300, 3],
    ]);
    expect(table.add(chain, 1, 3)).toBe(true);
    expect(contentOf(table)).toEqual([
      {
        head: 7,
        bytes: 5,
        segments: [
          [200, 2],
          [300, 3],
        ],
      },
    ]);
  });

  it("refuses a chain for which it has no room, and stays as it is", () => {
    const table = new ChainTable(2, 3);
    const two = chainOf(1, [
      [1, 1],
      [2, 1],
    ]);
    expect(table.add(two, 0, 2)).toBe(true);
    expect(table.add(two, 0, 2)).toBe(false);
    expect(table.add(two, 0, 1)).toBe(true);
    expect(table.add(two, 0, 0)).toBe(false);
    expect(contentOf(table).map(({ bytes }) => bytes)).toEqual([2, 1]);
  });

  it("is a queue of chains, whatever is put in and taken out", () => {
    const segment = fc.tuple(fc.nat(2 ** 40), fc.integer({ min: 1, max: 2 ** 20 }));
    const step = fc.oneof(
      fc.record({ head: fc.nat(255), segments: fc.array(segment, { maxLength: 5 }) }),
      fc.constant("shift" as const),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const table = new ChainTable(4, 8);
        const model: { head: number; bytes: number; segments: number[][] }[] = [];
        for (const it of steps) {
          if (it === "shift") {
            if (model.shift() !== undefined) table.shift();
            continue;
          }
          const { head, segments } = it;
          const used = model.reduce((sum, chain) => sum + chain.segments.length, 0);
          const fits = model.length < 4 && used + segments.length <= 8;
          const bytes = segments.reduce((sum, [, length]) => sum + length, 0);
          if (fits) model.push({ head, bytes, segments: segments.map((pair) => [...pair]) });
          expect(table.add(chainOf(head, segments), 0, segments.length)).toBe(fits);
        }
        expect(contentOf(table)).toEqual(model);
        expect(table.totalBytes).toBe(model.reduce((sum, { bytes }) => sum + bytes, 0));
      }),
    );
  });
});
