/**
 * Memory that one microVM gets and gives back while it runs: the virtio memory device and what its owner asks of
 * it.
 */
import { VirtioMem } from "../devices/virtio/mem.js";
import type { MemMetrics } from "../devices/virtio/mem.state.js";
import type { PluggableRegion } from "../native/guest-memory.js";
import { type Gpa, MIB } from "../units.js";
import { PluggedMemory } from "./backends/plugged-memory.js";
import { type CheckedMemoryHotplug, checkRequestedSize } from "./config-memory-hotplug.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily, DeviceSurroundings } from "./device-family.js";
import { nowUs } from "./rate-limits.js";

/** How much is plugged and asked for, in MiB. */
export interface MemoryHotplugReport extends CheckedMemoryHotplug {
  /** What the guest has. */
  readonly pluggedSizeMib: number;
  /** What it is to have: it takes the guest time, and it need not succeed. */
  readonly requestedSizeMib: number;
}

/** See the file's header. Thread: the device host's. */
export class MemoryHotplugFamily implements DeviceFamily {
  /** Where it is plugged. */
  readonly region: PluggableRegion;
  readonly #config: CheckedMemoryHotplug;
  #plugger: PluggedMemory | undefined;
  #device: VirtioMem | undefined;

  /** @param start - first address that it may have, a multiple of DEVICE_MEMORY_ALIGNMENT_BYTES */
  constructor(config: CheckedMemoryHotplug, start: Gpa) {
    this.#config = config;
    this.region = {
      start,
      sizeBytes: config.totalSizeMib * MIB,
      blockBytes: config.blockSizeMib * MIB,
    };
  }

  get requests(): VirtioDeviceRequest[] {
    return [
      {
        name: "memory hotplug",
        create: (host) => {
          this.#device = new VirtioMem(host, {
            ...this.region,
            slotBytes: this.#config.slotSizeMib * MIB,
            plugger: this.#plugger as PluggedMemory,
            nowUs,
          });
          return this.#device;
        },
      },
    ];
  }

  connect({ vm, mapping, memory }: DeviceSurroundings): void {
    const slotBytes = this.#config.slotSizeMib * MIB;
    this.#plugger = new PluggedMemory(vm, mapping, memory, { ...this.region, slotBytes });
  }

  get metrics(): MemMetrics | undefined {
    return this.#device?.metrics;
  }

  /** Asks the guest to have so much of it, in MiB; raises ERR_ESTALO_CONFIG_INVALID. */
  setRequestedSize(requestedSizeMib: number): void {
    this.#device?.setRequested(checkRequestedSize(this.#config, requestedSizeMib) * MIB);
  }

  /** As it is now. */
  report(): MemoryHotplugReport {
    const { pluggedBytes = 0, requestedBytes = 0 } = this.#device ?? {};
    return {
      ...this.#config,
      pluggedSizeMib: pluggedBytes / MIB,
      requestedSizeMib: requestedBytes / MIB,
    };
  }

  /** Its memory is the machine's. */
  close(): void {}
}
