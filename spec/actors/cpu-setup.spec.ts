import { describe, expect, it } from "vitest";
import { capabilitiesFor, cpuTemplateOf, setUpVcpus } from "../../src/actors/cpu-setup.js";
import { type Machine, REQUIRED_CAPABILITIES, type VcpuState } from "../../src/actors/machine.js";
import type { BootRegisters } from "../../src/boot/boot-registers.js";
import { KVM_CAP_IRQFD, KVM_CAP_XSAVE } from "../../src/native/layouts.js";

const BOOT = { regs: {}, sregs: {} } as BootRegisters;
const LEAF_1 = 1;

/** One record: leaf 1 with these EAX, EBX, ECX, EDX. */
const leaf1 = (eax: number, ecx: number) => Uint32Array.of(LEAF_1, 0, 0, eax, 0, ecx, 0, 0, 0, 0);

/** A machine that keeps what its vCPUs are set to; its MSRs read as `msrs`, up to the first it lacks. */
function fakeMachine(msrs: readonly bigint[] = []) {
  const states: VcpuState[] = [];
  const vcpu = { getMsrs: (indexes: Uint32Array) => msrs.slice(0, indexes.length) };
  const machine = {
    supportedCpuid: leaf1(0x5_0654, 0xffff_ffff),
    vcpus: [vcpu, vcpu, vcpu, vcpu],
    setVcpuState: (id: number, state: VcpuState) => {
      states[id] = state;
    },
  } as unknown as Machine;
  return { machine, states };
}

const template = (json: unknown) => cpuTemplateOf({ cpuTemplate: json });
const findLeaf1 = (cpuid: Uint32Array) => {
  for (let at = 0; at < cpuid.length; at += 10) {
    if (cpuid[at] === LEAF_1) return cpuid.subarray(at, at + 10);
  }
  throw new Error("no leaf 1");
};

describe("setUpVcpus", () => {
  it("gives every vCPU its own APIC id, and the kernel's entry to the first alone", () => {
    const { machine, states } = fakeMachine();
    setUpVcpus(machine, { vcpuCount: 4, smt: true }, undefined, BOOT);
    expect(states.map(({ boot }) => boot)).toEqual([BOOT, undefined, undefined, undefined]);
    expect(states.map(({ cpuid }) => findLeaf1(cpuid)[4] >>> 24)).toEqual([0, 1, 2, 3]);
    expect(states.every(({ msrs }) => msrs.size === 0)).toBe(true);
  });

  it("applies a template to what KVM offers, before the topology", () => {
    const { machine, states } = fakeMachine();
    const masked = template({
      cpuid_modifiers: [
        {
          leaf: "0x1",
          subleaf: "0x0",
          flags: 0,
          modifiers: [
            { register: "ebx", bitmap: "0b11111111xxxxxxxxxxxxxxxxxxxxxxxx" },
            { register: "ecx", bitmap: "0bxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0" },
          ],
        },
      ],
    });
    setUpVcpus(machine, { vcpuCount: 2, smt: false }, masked, BOOT);
    expect(states.map(({ cpuid }) => findLeaf1(cpuid)[5] & 1)).toEqual([0, 0]);
    expect(states.map(({ cpuid }) => findLeaf1(cpuid)[4] >>> 24)).toEqual([0, 1]);
  });

  const withMsr = template({
    msr_modifiers: [{ addr: "0x10a", bitmap: `0b${"x".repeat(60)}0101` }],
  });

  it("changes the bits of an MSR that a template names, and keeps the others", () => {
    const { machine, states } = fakeMachine([0xabcdn]);
    setUpVcpus(machine, { vcpuCount: 1, smt: false }, withMsr, BOOT);
    expect([...states[0].msrs]).toEqual([[0x10a, 0xabc5n]]);
  });

  it("names the MSR that this host does not have", () => {
    const { machine } = fakeMachine([]);
    expect(() => setUpVcpus(machine, { vcpuCount: 1, smt: false }, withMsr, BOOT)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CPU_TEMPLATE", data: { msr: 0x10a } }),
    );
  });
});

describe("capabilitiesFor", () => {
  it("is what Estalo needs, unless a template says otherwise", () => {
    expect(Object.fromEntries(capabilitiesFor(undefined))).toEqual(REQUIRED_CAPABILITIES);
  });

  it("adds what a template asks for and drops what it takes back", () => {
    const asked = template({ kvm_capabilities: [`${KVM_CAP_XSAVE}`, `!${KVM_CAP_IRQFD}`, "!999"] });
    const wanted = capabilitiesFor(asked);
    expect(wanted.get(`capability ${KVM_CAP_XSAVE}`)).toBe(KVM_CAP_XSAVE);
    expect(wanted.has("KVM_CAP_IRQFD")).toBe(false);
    expect(wanted.size).toBe(Object.keys(REQUIRED_CAPABILITIES).length);
  });

  it("asks for nothing twice", () => {
    const asked = template({ kvm_capabilities: [`${KVM_CAP_IRQFD}`] });
    expect([...capabilitiesFor(asked)]).toEqual(Object.entries(REQUIRED_CAPABILITIES));
  });
});

describe("cpuTemplateOf", () => {
  it("is nothing without a template, and refuses what is none", () => {
    expect(cpuTemplateOf({ cpuTemplate: undefined })).toBeUndefined();
    expect(() => template({ cpuid: [] })).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CPU_TEMPLATE" }),
    );
  });
});
