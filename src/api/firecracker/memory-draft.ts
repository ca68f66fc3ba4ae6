/**
 * Persistent memory and memory hotplug as parts of a draft.
 */
import type { CheckedConfig } from "../../actors/config.js";
import type { CheckedMemoryHotplug } from "../../actors/config-memory-hotplug.js";
import type { PmemConfig } from "../../actors/config-pmem.js";
import type { MemoryHotplugJson } from "./memory-schemas.js";
import { fromLimiter, toLimiter } from "./rate-limiters.js";
import type { RateLimiterJson } from "./schemas.js";

/** A persistent memory device with nothing left open, as `GET /vm/config` shows it. */
export interface Pmem {
  readonly id: string;
  readonly path_on_host: string;
  readonly root_device: boolean;
  readonly read_only: boolean;
  readonly rate_limiter: RateLimiterJson | null;
}

/** Memory hotplug with nothing left open, as `GET /vm/config` shows it. */
export type MemoryHotplug = Required<MemoryHotplugJson>;

export function toPmemConfig(one: Pmem): PmemConfig {
  return {
    id: one.id,
    path: one.path_on_host,
    isRoot: one.root_device,
    readOnly: one.read_only,
    rateLimiter: toLimiter(one.rate_limiter),
  };
}

export function fromPmem({ pmem }: CheckedConfig): readonly Pmem[] {
  return pmem.map((one) => ({
    id: one.id,
    path_on_host: one.path,
    root_device: one.isRoot,
    read_only: one.readOnly,
    rate_limiter: fromLimiter(one.rateLimiter),
  }));
}

export function toMemoryHotplugConfig(hotplug: MemoryHotplug): CheckedMemoryHotplug {
  return {
    totalSizeMib: hotplug.total_size_mib,
    slotSizeMib: hotplug.slot_size_mib,
    blockSizeMib: hotplug.block_size_mib,
  };
}

export function fromMemoryHotplug({ memoryHotplug }: CheckedConfig): MemoryHotplug | undefined {
  if (memoryHotplug === undefined) return undefined;
  const { totalSizeMib, slotSizeMib, blockSizeMib } = memoryHotplug;
  return {
    total_size_mib: totalSizeMib,
    block_size_mib: blockSizeMib,
    slot_size_mib: slotSizeMib,
  };
}
