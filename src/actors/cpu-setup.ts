/**
 * The state every vCPU of a microVM starts with: CPUID, MSRs, and for vCPU 0 the kernel's entry.
 */
import type { BootRegisters } from "../boot/boot-registers.js";
import { normalizeCpuid } from "../boot/cpuid.js";
import type { CheckedConfig } from "./config.js";
import type { VcpuState } from "./machine.js";

/** One state per vCPU, from what KVM supports and what the configuration masks. */
export function vcpuStates(
  config: Pick<CheckedConfig, "vcpuCount" | "smt" | "cpuTemplate">,
  supportedCpuid: Uint32Array,
  boot: BootRegisters,
): VcpuState[] {
  const { vcpuCount, smt } = config;
  return Array.from({ length: vcpuCount }, (_, vcpuId) => ({
    cpuid: normalizeCpuid(supportedCpuid, { vcpuId, vcpuCount, smt }),
    msrs: new Map<number, bigint>(),
    boot: vcpuId === 0 ? boot : undefined,
  }));
}
