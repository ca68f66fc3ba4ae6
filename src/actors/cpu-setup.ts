/**
 * The state every vCPU of a microVM starts with: CPUID, MSRs, and for vCPU 0 the kernel's entry.
 *
 * A CPU template is applied to what KVM offers before topology is written over it, so that a template cannot
 * describe cores which the microVM does not have.
 */
import type { BootRegisters } from "../boot/boot-registers.js";
import {
  applyCpuidTemplate,
  applyMsrTemplate,
  type CpuTemplate,
  parseCpuTemplate,
} from "../boot/cpu-template.js";
import { normalizeCpuid } from "../boot/cpuid.js";
import { EstaloError } from "../errors.js";
import type { CheckedConfig } from "./config.js";
import { type Machine, REQUIRED_CAPABILITIES } from "./machine.js";

/** The configuration's template, parsed; raises ERR_ESTALO_CPU_TEMPLATE. */
export function cpuTemplateOf(config: Pick<CheckedConfig, "cpuTemplate">): CpuTemplate | undefined {
  return config.cpuTemplate === undefined ? undefined : parseCpuTemplate(config.cpuTemplate);
}

/** The capabilities to insist on: the required ones, as the template adds and drops them. */
export function capabilitiesFor(template: CpuTemplate | undefined): Map<string, number> {
  const wanted = new Map<string, number>(Object.entries(REQUIRED_CAPABILITIES));
  for (const { capability, remove } of template?.capabilities ?? []) {
    const name = [...wanted].find(([, number]) => number === capability)?.[0];
    if (remove) wanted.delete(name ?? "");
    else if (name === undefined) wanted.set(`capability ${capability}`, capability);
  }
  return wanted;
}

/** Sets what all vCPUs start with. */
export function setUpVcpus(
  machine: Machine,
  config: Pick<CheckedConfig, "vcpuCount" | "smt">,
  template: CpuTemplate | undefined,
  boot: BootRegisters,
): void {
  const { vcpuCount, smt } = config;
  const offered =
    template === undefined
      ? machine.supportedCpuid
      : applyCpuidTemplate(machine.supportedCpuid, template);
  for (let vcpuId = 0; vcpuId < vcpuCount; vcpuId++) {
    machine.setVcpuState(vcpuId, {
      cpuid: normalizeCpuid(offered, { vcpuId, vcpuCount, smt }),
      msrs: template === undefined ? new Map() : templateMsrs(machine, vcpuId, template),
      boot: vcpuId === 0 ? boot : undefined,
    });
  }
}

function templateMsrs(machine: Machine, vcpuId: number, template: CpuTemplate) {
  const indexes = Uint32Array.from(template.msrs, ({ index }) => index);
  if (indexes.length === 0) return new Map<number, bigint>();
  const values = machine.vcpus[vcpuId].getMsrs(indexes);
  if (values.length < indexes.length) {
    throw new EstaloError(
      "ERR_ESTALO_CPU_TEMPLATE",
      `this host's KVM does not have MSR 0x${indexes[values.length].toString(16)}`,
      { data: { msr: indexes[values.length] } },
    );
  }
  const current = new Map(Array.from(indexes, (index, i) => [index, values[i]]));
  return new Map(applyMsrTemplate(current, template).map(({ index, data }) => [index, data]));
}
