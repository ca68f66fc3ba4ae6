import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isEstaloError } from "../../src/errors.js";
import { GuestMemory } from "../../src/native/guest-memory.js";
import { GIB, KIB } from "../../src/units.js";
import { createMemory, createMemoryOf } from "../support/fake-memory.js";

/** Whether `action` raises the guest's fault. */
function faults(action: () => unknown): boolean {
  try {
    action();
    return false;
  } catch (error) {
    if (isEstaloError(error) && error.code === "ERR_ESTALO_GUEST_FAULT") return true;
    throw error;
  }
}

/** 64 KiB, a hole, and 128 KiB around the 8 GiB line. */
const around8Gib = (): GuestMemory =>
  createMemoryOf([
    { start: 0, sizeBytes: 64 * KIB },
    { start: 4 * GIB, sizeBytes: 4 * GIB + 64 * KIB },
  ]);

describe("GuestMemory", () => {
  it.each([
    [0, 0, true],
    [0, 64 * KIB, true],
    [64 * KIB - 1, 1, true],
    [64 * KIB - 1, 2, false],
    [64 * KIB, 1, false],
    [4 * GIB - 1, 1, false],
    [4 * GIB - 1, 2, false],
    [4 * GIB, 4 * GIB + 64 * KIB, true],
    [8 * GIB + 64 * KIB - 1, 2, false],
    [-1, 1, false],
    [0, -1, false],
    [Number.NaN, 1, false],
    [0, Number.NaN, false],
    [2 ** 53, 1, false],
    [2 ** 64 - 1, 2, false],
    [Number.POSITIVE_INFINITY, 1, false],
  ])("at %d with %d bytes: contained %s", (gpa, sizeBytes, contained) => {
    const memory = around8Gib();
    expect(memory.contains(gpa, sizeBytes)).toBe(contained);
    expect(faults(() => memory.check(gpa, sizeBytes))).toBe(!contained);
  });

  it("reads and writes little-endian numbers of all sizes, above 4 GiB too", () => {
    const memory = around8Gib();
    for (const base of [0, 4 * GIB + 8, 8 * GIB]) {
      memory.writeU64(base, 0x1122_3344_5566);
      expect(memory.readU64(base)).toBe(0x1122_3344_5566);
      expect([memory.readU8(base), memory.readU16(base + 2)]).toEqual([0x66, 0x3344]);
      memory.writeU16(base, 0xbeef);
      memory.writeU8(base + 2, 1);
      expect(memory.readU32(base)).toBe(0x3301_beef);
      memory.storeIndex(base, 77);
      expect(memory.loadIndex(base)).toBe(77);
    }
  });

  it("refuses numbers that are not aligned or not in memory", () => {
    const memory = createMemory(64 * KIB);
    expect(faults(() => memory.readU16(1))).toBe(true);
    expect(faults(() => memory.writeU32(2, 0))).toBe(true);
    expect(faults(() => memory.readU32(64 * KIB))).toBe(true);
    expect(faults(() => memory.loadIndex(3))).toBe(true);
    expect(faults(() => memory.writeU8(64 * KIB, 0))).toBe(true);
  });

  it("copies and fills ranges, across a multiple of 4 GiB too", () => {
    const memory = around8Gib();
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6);
    memory.write(8 * GIB - 3, bytes);
    expect(memory.read(8 * GIB - 3, 6)).toEqual(bytes);
    memory.fill(8 * GIB - 1, 2, 9);
    expect([...memory.read(8 * GIB - 3, 6)]).toEqual([1, 2, 9, 9, 5, 6]);
    expect(memory.slices(8 * GIB - 3, 6).map((part) => part.length)).toEqual([3, 3]);
    expect(faults(() => memory.slice(8 * GIB - 3, 6))).toBe(true);
  });

  it("gives copies by read and live views by slice", () => {
    const memory = createMemory(64 * KIB);
    const copy = memory.read(100, 4);
    const view = memory.slice(100, 4);
    memory.writeU8(101, 7);
    expect([copy[1], view[1]]).toEqual([0, 7]);
  });

  it("refuses ranges outside memory before it touches or allocates anything", () => {
    const memory = createMemory(64 * KIB);
    expect(faults(() => memory.read(0, 2 ** 40))).toBe(true);
    expect(faults(() => memory.write(64 * KIB - 1, Uint8Array.of(1, 2)))).toBe(true);
    expect(memory.readU8(64 * KIB - 1)).toBe(0);
    expect(faults(() => memory.fill(-1, 2, 0))).toBe(true);
  });

  it("copies words from any alignment", () => {
    const memory = around8Gib();
    const out = new Uint32Array(4);
    const starts = [0, 1, 4 * GIB + 2, 8 * GIB - 4, 8 * GIB - 3];
    for (const [index, start] of starts.entries()) {
      memory.write(start, Uint8Array.of(1, 0, 0, 0, 2, 0, 0, index));
      memory.copyWords(start, out, 2);
      expect([...out]).toEqual([1, 2 + index * 2 ** 24, 0, 0]);
    }
    expect(faults(() => memory.copyWords(64 * KIB - 4, out, 2))).toBe(true);
  });

  it("gives exact views of rings, aligned and inside memory only", () => {
    const memory = around8Gib();
    const ring = memory.ring16(8 * GIB - 2, 4);
    ring[1] = 0x1234;
    expect(memory.readU16(8 * GIB)).toBe(0x1234);
    expect([ring.length, memory.ring32(0, 16).length]).toEqual([2, 4]);
    expect(faults(() => memory.ring16(1, 2))).toBe(true);
    expect(faults(() => memory.ring32(2, 4))).toBe(true);
    expect(faults(() => memory.ring32(64 * KIB - 4, 8))).toBe(true);
  });

  it("refuses to be made of regions it cannot hold", () => {
    const buffer = new SharedArrayBuffer(64 * KIB);
    const make = (start: number, sizeBytes: number) => () =>
      new GuestMemory(buffer, [{ start, sizeBytes }]);
    for (const broken of [make(4 * KIB, 4 * KIB), make(0, 128 * KIB)]) {
      expect(broken).toThrowError(expect.objectContaining({ code: "ERR_ESTALO_BUG" }));
    }
  });
});

describe("GuestMemory that is plugged", () => {
  const BLOCKS = 12;
  const start = 64 * KIB;
  const create = () =>
    new GuestMemory(
      new SharedArrayBuffer(start + BLOCKS * 8 * KIB),
      [{ start: 0, sizeBytes: 32 * KIB }],
      { start, sizeBytes: BLOCKS * 8 * KIB, blockBytes: 8 * KIB },
    );

  it("is memory where every block is plugged, whatever was plugged and unplugged before", () => {
    const change = fc.record({
      first: fc.nat(BLOCKS),
      count: fc.nat(BLOCKS),
      isPlugged: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), (changes) => {
        const memory = create();
        const plugged = new Array(BLOCKS).fill(false);
        for (const { first, count, isPlugged } of changes) {
          const blocks = Math.min(count, BLOCKS - first);
          memory.setPlugged(start + first * 8 * KIB, blocks * 8 * KIB, isPlugged);
          plugged.fill(isPlugged, first, first + blocks);
          for (let from = 0; from < BLOCKS; from++) {
            for (let to = from + 1; to <= BLOCKS; to++) {
              const isAll = plugged.slice(from, to).every((one) => one);
              const [gpa, bytes] = [start + from * 8 * KIB, (to - from) * 8 * KIB];
              expect(memory.contains(gpa, bytes)).toBe(isAll);
              expect(memory.contains(gpa + 8 * KIB - 1, bytes - 8 * KIB + 1)).toBe(isAll);
            }
          }
        }
      }),
      { numRuns: 100 },
    );
  });

  it("ends with its region", () => {
    const memory = create();
    memory.setPlugged(start, BLOCKS * 8 * KIB, true);
    expect(memory.contains(start, BLOCKS * 8 * KIB)).toBe(true);
    expect(memory.contains(start, BLOCKS * 8 * KIB + 1)).toBe(false);
    expect(memory.contains(start - 1, 2)).toBe(false);
    expect(() => memory.setPlugged(start, (BLOCKS + 1) * 8 * KIB, true)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_BUG" }),
    );
  });
});
