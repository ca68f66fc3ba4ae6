import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EXIT_KINDS, ExitBatch, type ExitInfo, NONE } from "../../src/actors/exit-batch.js";
import {
  checkExitOptions,
  ExitSelector,
  type ExitWatchOptions,
  NO_DEVICE,
} from "../../src/actors/exit-filter.js";

const DEVICES = ["serial", "drive root", "entropy"];

/** Any exits, most fields small so that filters meet them. */
const exits = fc
  .array(
    fc.record({
      kind: fc.nat(EXIT_KINDS.length - 1),
      device: fc.constantFrom(0, 1, 2, NONE),
      vcpu: fc.constantFrom(0, 1, 31, NONE),
      size: fc.constantFrom(0, 1, 2, 4, 8),
      isWrite: fc.boolean(),
      address: fc.nat(20),
    }),
    { maxLength: 60 },
  )
  .map((rows) => {
    const batch = new ExitBatch({ length: rows.length, hasRip: false }, DEVICES, {
      lost: 0,
      dropped: 0,
    });
    for (const [i, row] of rows.entries()) {
      batch.kind[i] = row.kind;
      batch.device[i] = row.device;
      batch.vcpu[i] = row.vcpu;
      batch.access[i] = row.size === 0 ? 0 : row.size | (row.isWrite ? 0x80 : 0);
      batch.address[i] = row.size === 0 ? 0 : row.address;
    }
    return batch;
  });

const some = <T>(...values: T[]) => fc.option(fc.subarray(values), { nil: undefined });
const filters: fc.Arbitrary<ExitWatchOptions> = fc.record(
  {
    kinds: some(...EXIT_KINDS),
    devices: some(...DEVICES, NO_DEVICE),
    vcpus: some(0, 1, 31),
    direction: fc.constantFrom("read" as const, "write" as const),
    addresses: fc.tuple(fc.nat(20), fc.nat(20)).map(([a, b]) => [a, a + b] as [number, number]),
    sizes: some(1, 2, 4, 8),
    sampleEvery: fc.integer({ min: 1, max: 5 }),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<ExitWatchOptions>;

/** The same by the words of the documentation. */
function isWanted(exit: ExitInfo, filter: ExitWatchOptions): boolean {
  const { kinds, devices, vcpus, direction, addresses, sizes } = filter;
  return (
    (kinds?.includes(exit.kind) ?? true) &&
    (devices?.includes(exit.device ?? NO_DEVICE) ?? true) &&
    (vcpus === undefined || (exit.vcpu !== undefined && vcpus.includes(exit.vcpu))) &&
    (direction === undefined || exit.direction === direction) &&
    (addresses === undefined ||
      (exit.sizeBytes > 0 && exit.address >= addresses[0] && exit.address <= addresses[1])) &&
    (sizes?.includes(exit.sizeBytes) ?? true)
  );
}

describe("ExitSelector", () => {
  it("finds what a filter by objects finds, and every nth of it, over any number of calls", () => {
    fc.assert(
      fc.property(fc.array(exits, { maxLength: 4 }), filters, (batches, filter) => {
        checkExitOptions(filter, DEVICES);
        const selector = new ExitSelector(filter, DEVICES);
        const found: ExitInfo[] = [];
        for (const batch of batches) {
          const chosen = new Uint32Array(batch.length);
          const count = selector.select(batch, batch.length, chosen);
          found.push(...Array.from(chosen.subarray(0, count), (i) => batch.get(i)));
        }
        const every = filter.sampleEvery ?? 1;
        const wanted = batches
          .flatMap((batch) => batch.toArray())
          .filter((exit) => isWanted(exit, filter))
          .filter((_, i) => i % every === 0);
        expect(found).toEqual(wanted);
      }),
    );
  });
});

describe("checkExitOptions", () => {
  it.each([
    ["kinds", { kinds: ["pio", "io"] }],
    ["kinds", { kinds: "pio" }],
    ["devices", { devices: ["drive data"] }],
    ["sizes", { sizes: [3] }],
    ["direction", { direction: "in" }],
    ["vcpus", { vcpus: [32] }],
    ["vcpus", { vcpus: [1.5] }],
    ["addresses", { addresses: [2, 1] }],
    ["addresses", { addresses: [-1, 1] }],
    ["addresses", { addresses: [0, 2 ** 60] }],
    ["sampleEvery", { sampleEvery: 0 }],
    ["sampleEvery", { sampleEvery: 1_000_001 }],
    ["history", { history: 1024 }],
  ])("refuses wrong %s: %j", (field, options) => {
    expect(() => checkExitOptions(options as ExitWatchOptions, DEVICES)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID", data: { field } }),
    );
  });
});
