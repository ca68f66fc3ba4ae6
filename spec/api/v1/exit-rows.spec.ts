import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ExitBatch, NONE } from "../../../src/actors/exit-batch.js";
import { exitRows } from "../../../src/api/v1/exit-rows.js";

function batchOf(length: number, hasRip: boolean) {
  return new ExitBatch({ length, hasRip }, ["serial"], { lost: 0, dropped: 0 });
}

describe("exitRows", () => {
  it("tells every exit as its batch does, with addresses and 64-bit values in hexadecimal", () => {
    const u64 = fc.oneof(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.bigInt({ min: 0n, max: 2n ** 33n }),
      fc.bigInt({ min: 0n, max: 2n ** 17n }),
    );
    const row = fc.record({
      address: fc.oneof(fc.nat(0xffff), fc.maxSafeNat(), fc.constant(2 ** 32)),
      data: u64,
      rip: u64,
      access: fc.constantFrom(0, 1, 2, 4, 8, 0x81, 0x84),
      vcpu: fc.constantFrom(0, 31, NONE),
      device: fc.constantFrom(0, NONE),
      kind: fc.nat(12),
    });
    fc.assert(
      fc.property(fc.array(row, { maxLength: 10 }), fc.boolean(), (rows, hasRip) => {
        const batch = batchOf(rows.length, hasRip);
        for (const [i, { address, data, rip, ...bytes }] of rows.entries()) {
          batch.address[i] = address;
          batch.data[i] = data;
          if (batch.rip !== undefined) batch.rip[i] = rip;
          for (const [name, value] of Object.entries(bytes)) {
            batch[name as "access" | "vcpu" | "device" | "kind"][i] = value;
          }
          batch.sequence[i] = i;
        }
        const expected = batch.toArray().map((exit) => {
          const { rip, ...rest } = exit;
          return {
            ...rest,
            vcpu: exit.vcpu ?? null,
            device: exit.device ?? null,
            direction: exit.direction ?? null,
            address: `0x${exit.address.toString(16)}`,
            data: `0x${exit.data.toString(16)}`,
            ...(rip === undefined ? {} : { rip: `0x${rip.toString(16)}` }),
          };
        });
        expect(exitRows(batch)).toEqual(expected);
      }),
    );
  });

  it("uses its objects again, without what the batch before had", () => {
    const [first] = exitRows(batchOf(1, true));
    expect(first.rip).toBe("0x0");
    const [second] = exitRows(batchOf(1, false));
    expect(second).toBe(first);
    expect("rip" in second).toBe(false);
  });
});
