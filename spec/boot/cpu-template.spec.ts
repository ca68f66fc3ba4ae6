import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  applyCpuidTemplate,
  applyMsrTemplate,
  parseCpuTemplate,
} from "../../src/boot/cpu-template.js";

const cpuid = (modifiers: unknown, rest: object = {}) => ({
  cpuid_modifiers: [{ leaf: "0x1", subleaf: "0x0", flags: 0, modifiers, ...rest }],
});
const bitmap = (register: string, bits: unknown) => cpuid([{ register, bitmap: bits }]);

describe("parseCpuTemplate", () => {
  it("reads all three lists, with numbers in all three bases", () => {
    const template = parseCpuTemplate({
      kvm_capabilities: ["!56", "171"],
      cpuid_modifiers: [
        {
          leaf: "0b111",
          subleaf: "0",
          flags: 1,
          modifiers: [
            { register: "ebx", bitmap: "0b1xxx_0001" },
            { register: "edx", bitmap: "0b0" },
          ],
        },
      ],
      msr_modifiers: [{ addr: "0x10a", bitmap: "0b1xx01" }],
    });
    expect(template).toEqual({
      capabilities: [
        { capability: 56, remove: true },
        { capability: 171, remove: false },
      ],
      cpuid: [
        {
          leaf: 7,
          subleaf: 0,
          registers: [
            { register: "ebx", mask: 0x8f, value: 0x81 },
            { register: "edx", mask: 1, value: 0 },
          ],
        },
      ],
      msrs: [{ index: 0x10a, mask: 0b10011n, value: 0b10001n }],
    });
  });

  it("takes an empty template", () => {
    expect(parseCpuTemplate({})).toEqual({ capabilities: [], cpuid: [], msrs: [] });
  });

  it.each([
    [null, "CPU template: an object is needed, not null"],
    [{ reg_modifiers: [] }, /^CPU template, reg_modifiers: possible here: kvm_capabilities,/],
    [{ kvm_capabilities: 5 }, "CPU template, kvm_capabilities: a list is needed, not 5"],
    [{ kvm_capabilities: ["x"] }, /^CPU template, kvm_capabilities\[0\]: .*not "x"$/],
    [{ kvm_capabilities: [56] }, /^CPU template, kvm_capabilities\[0\]: .*not 56$/],
    [cpuid([], { leaf: 1 }), /^CPU template, cpuid_modifiers\[0\]\.leaf: .*not 1$/],
    [cpuid([], { leaf: "0x100000000" }), /cpuid_modifiers\[0\]\.leaf: .*"0x100000000"$/],
    [cpuid([], { subleaf: undefined }), /cpuid_modifiers\[0\]\.subleaf: .*not nothing$/],
    [cpuid([], { flags: "0" }), /cpuid_modifiers\[0\]\.flags: /],
    [cpuid(undefined), /cpuid_modifiers\[0\]\.modifiers: a list is needed/],
    [bitmap("rax", "0b1"), /modifiers\[0\]\.modifiers\[0\]\.register: .*not "rax"$/],
    [bitmap("toString", "0b1"), /\.register: a register is eax, ebx, ecx or edx/],
    [bitmap("eax", "1"), /modifiers\[0\]\.bitmap: a bitmap is a string like .*not "1"$/],
    [bitmap("eax", "0b"), /\.bitmap: /],
    [bitmap("eax", "0b_"), /\.bitmap: /],
    [bitmap("eax", "0b2"), /\.bitmap: /],
    [bitmap("eax", 1), /\.bitmap: .*not 1$/],
    [bitmap("eax", `0b${"x".repeat(33)}`), /at most 32 bits here, not 33/],
    [{ msr_modifiers: [{ addr: "0x10", bitmap: `0b${"1".repeat(65)}` }] }, /at most 64 bits here/],
  ])("says where %j is wrong", (json, message) => {
    expect(() => parseCpuTemplate(json)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CPU_TEMPLATE" }),
    );
    expect(() => parseCpuTemplate(json)).toThrow(message);
  });

  it("lets nothing but template errors escape, for any JSON", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (first, second) => {
        for (const json of [first, { cpuid_modifiers: [second] }, cpuid(first), cpuid([second])]) {
          try {
            parseCpuTemplate(json);
          } catch (error) {
            expect(error).toMatchObject({ code: "ERR_ESTALO_CPU_TEMPLATE" });
          }
        }
      }),
    );
  });
});

describe("applyCpuidTemplate", () => {
  const entries = Uint32Array.of(
    ...[7, 0, 1, 0xffffffff, 0x0000ffff, 0, 0, 0, 0, 0],
    ...[7, 1, 1, 0x11111111, 0, 0, 0, 0, 0, 0],
  );

  it("sets and clears the named bits of the named subleaf, top bit included", () => {
    const template = parseCpuTemplate({
      cpuid_modifiers: [
        {
          leaf: "7",
          subleaf: "0",
          flags: 1,
          modifiers: [
            { register: "eax", bitmap: `0b0${"x".repeat(30)}0` },
            { register: "ebx", bitmap: `0b1${"x".repeat(31)}` },
          ],
        },
      ],
    });
    const changed = applyCpuidTemplate(entries, template);
    expect(changed[3]).toBe(0x7ffffffe);
    expect(changed[4]).toBe(0x8000ffff);
    expect(changed.subarray(10)).toEqual(entries.subarray(10));
    expect(entries[3]).toBe(0xffffffff);
  });

  it("refuses a leaf that the host does not offer", () => {
    const template = parseCpuTemplate(cpuid([]));
    expect(() => applyCpuidTemplate(entries, template)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CPU_TEMPLATE" }),
    );
    expect(() => applyCpuidTemplate(entries, template)).toThrow("leaf 0x1 subleaf 0x0");
  });
});

describe("applyMsrTemplate", () => {
  const template = parseCpuTemplate({ msr_modifiers: [{ addr: "0x10a", bitmap: "0b1x0" }] });

  it("gives the MSRs to set, other bits as they are", () => {
    const current = new Map([[0x10a, 0xffff_ffff_ffff_fff3n]]);
    expect(applyMsrTemplate(current, template)).toEqual([
      { index: 0x10a, data: 0xffff_ffff_ffff_fff6n },
    ]);
  });

  it("refuses an MSR that the host does not offer", () => {
    expect(() => applyMsrTemplate(new Map(), template)).toThrow(/MSR 0x10a/);
  });
});
