import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ExitBatch, exitKindCode } from "../../src/actors/exit-batch.js";
import {
  bucketEnd,
  bucketOf,
  checkCounting,
  EXIT_FIELDS,
  ExitCounter,
  type ExitField,
  GROUPS_MAX,
} from "../../src/actors/exit-counts.js";

const DEVICES = ["serial", "drive root"];

interface Row {
  readonly kind: number;
  readonly device: number;
  readonly vcpu: number;
  readonly access: number;
  readonly address: number;
  readonly count: number;
  readonly hostNs: number;
  readonly guestNs: number;
}

function batchOf(rows: readonly Partial<Row>[], lost = 0): ExitBatch {
  const batch = new ExitBatch({ length: rows.length, hasRip: false }, DEVICES, {
    lost,
    dropped: 0,
  });
  for (const [i, row] of rows.entries()) {
    batch.kind[i] = row.kind ?? 2;
    batch.device[i] = row.device ?? 0;
    batch.vcpu[i] = row.vcpu ?? 0;
    batch.access[i] = row.access ?? 4;
    batch.address[i] = row.address ?? 0;
    batch.count[i] = row.count ?? 1;
    batch.hostNs[i] = row.hostNs ?? 10;
    batch.guestNs[i] = row.guestNs ?? 10;
  }
  return batch;
}

const batches = fc.array(
  fc
    .array(
      fc.record({
        kind: fc.constantFrom(1, 2, 3, 11),
        device: fc.constantFrom(0, 1, 0xff),
        vcpu: fc.constantFrom(0, 1, 0xff),
        access: fc.constantFrom(0, 4, 0x84),
        address: fc.constantFrom(0, 0x3f8, 0xc000_1050, 2 ** 51),
        count: fc.integer({ min: 1, max: 9 }),
        hostNs: fc.oneof(fc.nat(50), fc.nat(2 ** 31), fc.constant(2 ** 32 - 1)),
        guestNs: fc.nat(1000),
      }),
      { maxLength: 40 },
    )
    .map((rows) => batchOf(rows)),
  { maxLength: 4 },
);
const fields = fc.subarray([...EXIT_FIELDS], { minLength: 1 });

/** What a window of these exits holds, by objects. */
function model(exits: ReturnType<ExitBatch["toArray"]>, by: readonly ExitField[]) {
  const groups = new Map<string, { exits: number; hosts: number[]; guestNs: number }>();
  for (const exit of exits) {
    const key = JSON.stringify(by.map((field) => exit[field] ?? null));
    const group = groups.get(key) ?? { exits: 0, hosts: [], guestNs: 0 };
    group.exits += exit.kind === "pio" ? 1 : exit.count;
    if (exit.hostNs > 0 || exit.guestNs > 0) {
      group.hosts.push(exit.hostNs);
      group.guestNs += exit.guestNs;
    }
    groups.set(key, group);
  }
  return groups;
}

describe("ExitCounter", () => {
  it("counts as a sum over objects does, window after window, for any fields", () => {
    fc.assert(
      fc.property(fc.array(batches, { minLength: 1, maxLength: 3 }), fields, (windows, by) => {
        const counter = new ExitCounter(by, 0);
        for (const [index, window] of windows.entries()) {
          for (const batch of window) counter.add(batch);
          const counts = counter.take(index + 1);
          expect([counts.fromNs, counts.toNs]).toEqual([index, index + 1]);
          const expected = model(
            window.flatMap((batch) => batch.toArray()),
            by,
          );
          expect(counts.groups).toHaveLength(expected.size);
          for (const group of counts.groups) {
            const key = JSON.stringify(by.map((field) => group[field] ?? null));
            const { exits, hosts, guestNs } = expected.get(key) ?? { exits: 0, hosts: [] };
            hosts.sort((a, b) => a - b);
            expect(group).toMatchObject({
              ...{ exits, guestNs, timed: hosts.length },
              hostNs: hosts.reduce((sum, ns) => sum + ns, 0),
              hostMaxNs: hosts.at(-1) ?? 0,
            });
            for (const [q, told] of [
              [0.5, group.hostP50Ns],
              [0.99, group.hostP99Ns],
            ]) {
              const exact = hosts[Math.ceil(q * hosts.length) - 1] ?? 0;
              expect(told).toBeGreaterThanOrEqual(exact);
              expect(told).toBeLessThanOrEqual(exact * (1 + 1 / 16));
            }
          }
          const ranked = counts.groups.map(({ exits }) => exits);
          expect(ranked).toEqual([...ranked].sort((a, b) => b - a));
        }
      }),
    );
  });

  it("names its groups by the values of its fields", () => {
    const counter = new ExitCounter([...EXIT_FIELDS], 0);
    counter.add(batchOf([{ kind: 2, device: 1, vcpu: 3, access: 0x84, address: 0x50 }], 7));
    counter.add(batchOf([{ kind: exitKindCode("hlt"), device: 0xff, vcpu: 0xff, access: 0 }], 8));
    const { groups, lost } = counter.take(1);
    expect(groups).toMatchObject([
      { kind: "mmio", device: "drive root", address: 0x50, direction: "write", vcpu: 3 },
      { kind: "hlt", device: null, address: 0, direction: null, vcpu: null },
    ]);
    expect(lost).toBe(8);
  });

  it("has a thousand groups at most, and one sum for the rest; idle ones make room", () => {
    const counter = new ExitCounter(["address"], 0);
    const addresses = (from: number, count: number) =>
      batchOf(Array.from({ length: count }, (_, i) => ({ address: from + i, count: 2 })));
    counter.add(addresses(0, GROUPS_MAX + 100));
    const first = counter.take(1);
    expect(first.groups).toHaveLength(GROUPS_MAX);
    expect(first).toMatchObject({ otherExits: 200, exits: 2 * GROUPS_MAX + 200 });
    counter.add(addresses(0, 1));
    expect(counter.take(2)).toMatchObject({ exits: 2, otherExits: 0 });
    counter.add(addresses(5000, GROUPS_MAX));
    expect(counter.take(3)).toMatchObject({ otherExits: 2 });
  });

  it("has empty windows when nothing happens", () => {
    const counter = new ExitCounter(["kind"], 5);
    expect(counter.take(6)).toEqual({
      ...{ fromNs: 5, toNs: 6, exits: 0, groups: [], otherExits: 0, lost: 0 },
    });
  });
});

describe("the histogram's buckets", () => {
  it("hold every time, in order, each within a sixteenth", () => {
    fc.assert(
      fc.property(fc.nat(2 ** 32 - 1), (ns) => {
        const bucket = bucketOf(ns);
        expect(bucketEnd(bucket)).toBeGreaterThanOrEqual(ns);
        expect(bucketEnd(bucket)).toBeLessThanOrEqual(ns * (1 + 1 / 16));
        if (bucket > 0) expect(bucketEnd(bucket - 1)).toBeLessThan(ns);
      }),
    );
  });
});

describe("checkCounting", () => {
  it.each([
    ["by", [], 1000],
    ["by", ["kind", "kind"], 1000],
    ["by", ["size"], 1000],
    ["windowMs", ["kind"], 9],
    ["windowMs", ["kind"], 3_600_001],
    ["windowMs", ["kind"], Number.NaN],
  ])("refuses wrong %s: %j, %j", (field, by, windowMs) => {
    expect(() => checkCounting(by as ExitField[], windowMs as number)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID", data: { field } }),
    );
  });
});
