/**
 * A microVM's counters in the groups of Firecracker's metrics, as totals since its start.
 */
import type { MicrovmSupervisor } from "../../actors/microvm-supervisor.js";
import {
  type Aggregate,
  blockGroup,
  type MetricsGroup,
  type MetricsGroups,
  netGroup,
  pmemGroup,
} from "./metrics-fields.js";

type MachineCounters = MicrovmSupervisor["metrics"];

/** See the file's header; keeps what u32 counters have lost by wrapping. Look more often than they wrap. */
export class MachineMetrics {
  readonly #last = new Map<string, number>();
  readonly #totals = new Map<string, number>();

  /** Adds the microVM's values to the groups. */
  addTo(groups: MetricsGroups, counters: MachineCounters): void {
    for (const [index, vcpu] of counters.vcpus.entries()) {
      const add = (field: string, raw: number) => {
        const total = this.#total(`vcpu ${index} ${field}`, raw);
        groups.vcpu[field] = (groups.vcpu[field] as number) + total;
      };
      add("exit_io_in", vcpu.exitIoIn);
      add("exit_io_out", vcpu.exitIoOut);
      add("exit_mmio_read", vcpu.exitMmioRead);
      add("exit_mmio_write", vcpu.exitMmioWrite);
    }
    for (const name of ["uart", "i8042"] as const) {
      for (const [field, raw] of Object.entries(counters[name])) {
        groups[name][field] = this.#total(`${name} ${field}`, raw);
      }
    }
    Object.assign(groups.interrupts, counters.interrupts);
    if (counters.entropy !== undefined) addGroup(groups.entropy, counters.entropy);
    for (const [id, drive] of Object.entries(counters.drives)) {
      const group = blockGroup();
      addGroup(group, drive);
      addGroup(groups.block, drive);
      groups[`block_${id}`] = group;
    }
    for (const [id, one] of Object.entries(counters.pmem)) {
      const group = pmemGroup();
      addGroup(group, one);
      addGroup(groups.pmem, one);
      groups[`pmem_${id}`] = group;
    }
    for (const [id, one] of Object.entries(counters.networkInterfaces)) {
      const group = netGroup();
      addGroup(group, one);
      addGroup(groups.net, one);
      groups[`net_${id}`] = group;
    }
    if (counters.mmds !== undefined) addGroup(groups.mmds, counters.mmds);
    if (counters.balloon !== undefined) addGroup(groups.balloon, counters.balloon);
    const { memoryHotplug } = counters;
    if (memoryHotplug !== undefined) addGroup(groups.memory_hotplug, memoryHotplug);
    if (counters.vsock !== undefined) addGroup(groups.vsock, counters.vsock);
  }

  #total(key: string, raw: number): number {
    const added = (raw - (this.#last.get(key) ?? 0)) >>> 0;
    const total = (this.#totals.get(key) ?? 0) + added;
    this.#last.set(key, raw);
    this.#totals.set(key, total);
    return total;
  }
}

/** Adds a device's counters to a group that has them all. */
function addGroup(group: MetricsGroup, counters: object): void {
  for (const [field, value] of Object.entries(counters) as [string, number | Aggregate][]) {
    const sum = group[field];
    if (typeof sum === "number" && typeof value === "number") group[field] = sum + value;
    else if (typeof sum === "object" && typeof value === "object")
      group[field] = merged(sum, value);
  }
}

function merged(a: Aggregate, b: Aggregate): Aggregate {
  const least = a.min_us === 0 || b.min_us === 0 ? Math.max : Math.min;
  return {
    min_us: Math.round(least(a.min_us, b.min_us)),
    max_us: Math.round(Math.max(a.max_us, b.max_us)),
    sum_us: Math.round(a.sum_us + b.sum_us),
  };
}
