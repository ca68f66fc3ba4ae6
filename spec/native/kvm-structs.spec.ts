import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  KVM_FPU,
  KVM_MSR_ENTRY,
  KVM_REGS,
  KVM_SREGS,
  KVM_STRUCTS,
  type NestedField,
  type StructField,
} from "../../src/native/kvm-structs.js";

/** First byte and first byte after each field, nested ones as a whole. */
function ranges(fields: Readonly<Record<string, StructField | NestedField>>): [number, number][] {
  return Object.values(fields).map((field) => {
    const bytes = "struct" in field ? field.struct.sizeBytes : field.width * (field.count ?? 1);
    return [field.offset, field.offset + bytes];
  });
}

describe("KVM_STRUCTS", () => {
  it.each(KVM_STRUCTS.map((struct) => [struct.name, struct] as const))(
    "%s has ascending fields that do not overlap and end inside",
    (_, struct) => {
      let end = 0;
      for (const [start, fieldEnd] of ranges(struct.fields)) {
        expect(start).toBeGreaterThanOrEqual(end);
        end = fieldEnd;
      }
      expect(end).toBeLessThanOrEqual(struct.sizeBytes);
    },
  );

  it("has the sizes of the kernel's ABI", () => {
    const sizes = Object.fromEntries(KVM_STRUCTS.map(({ name, sizeBytes }) => [name, sizeBytes]));
    expect(sizes).toEqual({
      kvm_regs: 144,
      kvm_segment: 24,
      kvm_dtable: 16,
      kvm_sregs: 312,
      kvm_cpuid_entry2: 40,
      kvm_msr_entry: 16,
      kvm_fpu: 416,
    });
  });
});

describe("Struct", () => {
  it("reads back any registers it wrote", () => {
    const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const names = Object.keys(KVM_REGS.fields);
    fc.assert(
      fc.property(fc.tuple(...names.map(() => u64)), (values) => {
        const record = Object.fromEntries(names.map((name, i) => [name, values[i]]));
        expect(KVM_REGS.read(KVM_REGS.encode(record))).toEqual(record);
      }),
      { numRuns: 50 },
    );
  });

  it("puts fields at their offsets, little-endian", () => {
    const regs = KVM_REGS.encode({ rip: 0x0102030405060708n });
    expect([...regs.subarray(128, 136)]).toEqual([8, 7, 6, 5, 4, 3, 2, 1]);
    const msr = KVM_MSR_ENTRY.encode({ index: 0xc0000080, data: 1n });
    expect(Buffer.from(msr).toString("hex")).toBe("800000c0000000000100000000000000");
  });

  it("writes only what is given, nested structures included", () => {
    const bytes = KVM_SREGS.allocate().fill(0xff);
    KVM_SREGS.write(bytes, { cr0: 1n, gdt: { base: 2n, limit: 3 } });
    const sregs = KVM_SREGS.read(bytes);
    expect(sregs).toMatchObject({ cr0: 1n, cr3: 2n ** 64n - 1n, gdt: { base: 2n, limit: 3 } });
    expect(sregs.cs.limit).toBe(0xffff_ffff);
    expect(sregs.interrupt_bitmap).toHaveLength(4);
  });

  it("lays partial records over what was read, as a boot does", () => {
    const current = KVM_SREGS.read(KVM_SREGS.encode({ apic_base: 0xfee00900n, cr0: 0x60000010n }));
    const written = KVM_SREGS.read(KVM_SREGS.encode({ ...current, cr0: 0x11n }));
    expect(written).toEqual({ ...current, cr0: 0x11n });
  });

  it("reads and writes inside a larger buffer", () => {
    const bytes = new Uint8Array(64);
    KVM_MSR_ENTRY.write(bytes, { index: 7, data: 9n }, 32);
    expect(KVM_MSR_ENTRY.read(bytes, 32)).toEqual({ index: 7, data: 9n });
    expect(bytes[32]).toBe(7);
  });

  it("refuses unknown fields, wrong array lengths and buffers that are too short", () => {
    const unknown = { nonsense: 1n } as unknown as { rip: bigint };
    expect(() => KVM_REGS.encode(unknown)).toThrow("struct kvm_regs has no field nonsense");
    expect(() => KVM_FPU.encode({ fpr: [1, 2] })).toThrow("struct kvm_fpu.fpr has 128 elements");
    expect(() => KVM_REGS.read(new Uint8Array(100))).toThrow(RangeError);
  });
});
