import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { normalizeCpuid } from "../../src/boot/cpuid.js";

const INTEL = [0x756e6547, 0x6c65746e, 0x49656e69];
const AMD = [0x68747541, 0x444d4163, 0x69746e65];

type Entry = readonly [
  leaf: number,
  index: number,
  eax: number,
  ebx: number,
  ecx: number,
  edx: number,
];

function entriesOf(...entries: Entry[]): Uint32Array {
  return Uint32Array.from(
    entries.flatMap(([leaf, index, ...registers]) => [leaf, index, 0, ...registers, 0, 0, 0]),
  );
}

const brandOf = (text: string): Entry[] => {
  const bytes = Buffer.alloc(48);
  bytes.write(text, "latin1");
  return [0, 1, 2].map((i) => {
    const [eax, ebx, ecx, edx] = [0, 4, 8, 12].map((at) => bytes.readUInt32LE(i * 16 + at));
    return [0x80000002 + i, 0, eax, ebx, ecx, edx];
  });
};

/** A host of 64 threads with PMU, turbo and WAITPKG, as KVM would report it. */
const INTEL_HOST = entriesOf(
  [0, 0, 0x1f, INTEL[0], INTEL[2], INTEL[1]],
  [1, 0, 0x606a6, 0x3a400800, 0x7ffef38f, 0x1f8bfbff],
  [4, 0, 0xfc004121, 0x01c0003f, 0x3f, 0],
  [4, 1, 0xfc004122, 0x01c0003f, 0x3f, 0],
  [4, 2, 0xfc004143, 0x04c0003f, 0x7ff, 0],
  [4, 3, 0xfc0fc163, 0x02c0003f, 0xefff, 4],
  [4, 4, 0, 0, 0, 0],
  [6, 0, 0x6, 0, 0x9, 0],
  [7, 0, 1, 0xf1bf27eb, 0x20, 0xbc040000],
  [7, 1, 0x20, 0, 0x20, 0],
  [0xa, 0, 0x7300403, 0, 0, 0x603],
  [0xb, 0, 1, 2, 0x100, 0x3a],
  [0xb, 1, 6, 64, 0x201, 0x3a],
  [0x1f, 0, 1, 2, 0x100, 0x3a],
  ...brandOf("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz"),
  [0x40000000, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d],
  [0x40000001, 0, 0x1007efb, 0, 0, 0],
);

const AMD_HOST = entriesOf(
  [0, 0, 0x10, AMD[0], AMD[2], AMD[1]],
  [1, 0, 0xa10f11, 0x20800, 0x81202000, 0x78bfbff],
  [0xb, 0, 0, 0, 0, 0],
  [0x80000001, 0, 0xa10f11, 0x40000000, 0x393, 0x23d3fbff],
  ...brandOf("AMD EPYC 9R14"),
  [0x80000008, 0, 0x3030, 0x50020005, 0x7001, 0],
  [0x8000001d, 0, 0x121, 0x1c0003f, 0x3f, 0],
  [0x8000001d, 1, 0x122, 0x1c0003f, 0x3f, 0],
  [0x8000001d, 2, 0x143, 0x1c0003f, 0x7ff, 2],
  [0x8000001d, 3, 0x4163, 0x3c0003f, 0x7fff, 1],
  [0x8000001d, 4, 0, 0, 0, 0],
  [0x8000001e, 0, 0, 0, 0, 0],
);

/** Leaf and subleaf as a kernel would see them: [eax, ebx, ecx, edx]. */
function leafOf(entries: Uint32Array, leaf: number, index = 0): number[] {
  for (let at = 0; at < entries.length; at += 10) {
    if (entries[at] === leaf && entries[at + 1] === index)
      return [...entries.subarray(at + 3, at + 7)];
  }
  throw new Error(`no leaf ${leaf.toString(16)}.${index}`);
}

const brand = (entries: Uint32Array) =>
  Buffer.from(Uint32Array.from([0, 1, 2].flatMap((i) => leafOf(entries, 0x80000002 + i))).buffer)
    .toString("latin1")
    .replace(/\0.*/s, "");

const bits = (value: number, low: number, width: number) =>
  Math.floor(value / 2 ** low) % 2 ** width;

describe("normalizeCpuid on Intel", () => {
  const vcpu3 = normalizeCpuid(INTEL_HOST, { vcpuId: 3, vcpuCount: 4, smt: true });

  it("puts APIC id, thread count and cache line into leaf 1", () => {
    const [, ebx, ecx, edx] = leafOf(vcpu3, 1);
    expect(ebx).toBe(0x03040800);
    expect(bits(ecx, 31, 1)).toBe(1);
    expect(bits(ecx, 24, 1)).toBe(1);
    expect(bits(ecx, 15, 1)).toBe(0);
    expect(bits(edx, 28, 1)).toBe(1);
  });

  it("clears the hyper-threading bit with one vCPU", () => {
    const one = normalizeCpuid(INTEL_HOST, { vcpuId: 0, vcpuCount: 1, smt: false });
    expect(bits(leafOf(one, 1)[3], 28, 1)).toBe(0);
    expect(leafOf(one, 1)[1]).toBe(0x00010800);
  });

  it("shares L1 and L2 between a core's threads and L3 in the package", () => {
    const sharing = [0, 1, 2, 3].map((i) => bits(leafOf(vcpu3, 4, i)[0], 14, 12) + 1);
    expect(sharing).toEqual([2, 2, 2, 4]);
    const cores = [0, 1, 2, 3].map((i) => bits(leafOf(vcpu3, 4, i)[0], 26, 6) + 1);
    expect(cores).toEqual([2, 2, 2, 2]);
    expect(leafOf(vcpu3, 4, 4)).toEqual([0, 0, 0, 0]);
  });

  it("describes two threads in each of two cores in leaves 0xb and 0x1f", () => {
    for (const leaf of [0xb, 0x1f]) {
      expect(leafOf(vcpu3, leaf, 0)).toEqual([1, 2, 0x100, 3]);
      expect(leafOf(vcpu3, leaf, 1)).toEqual([2, 4, 0x201, 3]);
      expect(leafOf(vcpu3, leaf, 2)).toEqual([0, 0, 2, 3]);
    }
  });

  it("takes PMU, turbo, energy bias and WAITPKG away, and nothing else of these leaves", () => {
    expect(leafOf(vcpu3, 0xa)).toEqual([0, 0, 0, 0]);
    expect(leafOf(vcpu3, 6)).toEqual([0x4, 0, 0x1, 0]);
    expect(leafOf(vcpu3, 7)[2]).toBe(0);
    expect(leafOf(vcpu3, 7, 1)).toEqual([0x20, 0, 0x20, 0]);
  });

  it("keeps the host's frequency in the brand string, but not its model", () => {
    expect(brand(vcpu3)).toBe("Intel(R) Xeon(R) Processor @ 2.90GHz");
  });

  it("passes KVM's own leaves through and leaves the input alone", () => {
    expect(leafOf(vcpu3, 0x40000000)).toEqual(leafOf(INTEL_HOST, 0x40000000));
    expect(leafOf(vcpu3, 0x40000001)).toEqual(leafOf(INTEL_HOST, 0x40000001));
    expect(leafOf(INTEL_HOST, 1)[1]).toBe(0x3a400800);
  });
});

describe("normalizeCpuid on AMD", () => {
  const vcpu5 = normalizeCpuid(AMD_HOST, { vcpuId: 5, vcpuCount: 6, smt: true });

  it("counts threads and the width of their ids", () => {
    expect(leafOf(vcpu5, 0x80000008)[2]).toBe(0x3005);
  });

  it("gives core id and threads per core, on one node", () => {
    expect(leafOf(vcpu5, 0x8000001e)).toEqual([5, 0x102, 0, 0]);
    const noSmt = normalizeCpuid(AMD_HOST, { vcpuId: 5, vcpuCount: 6, smt: false });
    expect(leafOf(noSmt, 0x8000001e)).toEqual([5, 0x005, 0, 0]);
  });

  it("shares caches like the topology, and says that these leaves exist", () => {
    const sharing = [0, 1, 2, 3].map((i) => bits(leafOf(vcpu5, 0x8000001d, i)[0], 14, 12) + 1);
    expect(sharing).toEqual([2, 2, 2, 8]);
    expect(bits(leafOf(vcpu5, 0x80000001)[2], 22, 1)).toBe(1);
  });

  it("fills leaf 0xb, which KVM leaves empty, but not 0x1f, which the host does not have", () => {
    expect(leafOf(vcpu5, 0xb, 1)).toEqual([3, 6, 0x201, 5]);
    expect(() => leafOf(vcpu5, 0x1f)).toThrow("no leaf 1f.0");
  });

  it("names the family only", () => {
    expect(brand(vcpu5)).toBe("AMD EPYC");
  });
});

describe("normalizeCpuid", () => {
  it("leaves an unknown vendor's brand string alone", () => {
    const host = entriesOf([0, 0, 1, 1, 2, 3], ...brandOf("Some CPU"));
    expect(brand(normalizeCpuid(host, { vcpuId: 0, vcpuCount: 1, smt: false }))).toBe("Some CPU");
  });

  it("is one socket in which every vCPU has an id of its own, for every topology", () => {
    const topology = fc
      .record({ cores: fc.integer({ min: 1, max: 16 }), smt: fc.boolean() })
      .map(({ cores, smt }) => ({ vcpuCount: smt ? cores * 2 : cores, smt }));
    fc.assert(
      fc.property(topology, fc.constantFrom(INTEL_HOST, AMD_HOST), (shape, host) => {
        const seen = new Set<string>();
        for (let vcpuId = 0; vcpuId < shape.vcpuCount; vcpuId++) {
          const entries = normalizeCpuid(host, { vcpuId, ...shape });
          const [threadBits, threads] = leafOf(entries, 0xb, 0);
          const [packageBits, total, , apicId] = leafOf(entries, 0xb, 1);
          expect(apicId >>> packageBits).toBe(0);
          expect(total).toBe(shape.vcpuCount);
          expect(threads).toBe(shape.smt && shape.vcpuCount > 1 ? 2 : 1);
          seen.add(`${apicId >>> threadBits}.${apicId % 2 ** threadBits}`);
        }
        expect(seen.size).toBe(shape.vcpuCount);
      }),
    );
  });

  it.each([
    { vcpuCount: 0, smt: false },
    { vcpuCount: 33, smt: false },
    { vcpuCount: 3, smt: true },
    { vcpuCount: 1.5, smt: false },
  ])("refuses $vcpuCount vCPUs with smt $smt", (shape) => {
    expect(() => normalizeCpuid(INTEL_HOST, { vcpuId: 0, ...shape })).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });

  it("gives one vCPU with smt a single thread", () => {
    const entries = normalizeCpuid(INTEL_HOST, { vcpuId: 0, vcpuCount: 1, smt: true });
    expect(leafOf(entries, 0xb, 0)).toEqual([0, 1, 0x100, 0]);
  });
});
