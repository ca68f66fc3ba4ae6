/**
 * The virtio devices of one microVM: all its families, in one place for the supervisor.
 */
import { VirtioRng } from "../devices/virtio/rng.js";
import { hostEntropy } from "./backends/entropy.js";
import type { CheckedConfig } from "./config.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily, DeviceSurroundings } from "./device-family.js";
import { DriveSet } from "./drive-set.js";

/** The entropy device, when there is one. */
class EntropyFamily implements DeviceFamily {
  #device: VirtioRng | undefined;

  readonly requests = [
    {
      name: "entropy",
      create: (host) => {
        this.#device = new VirtioRng(host, hostEntropy);
        return this.#device;
      },
    },
  ] satisfies VirtioDeviceRequest[];

  get metrics(): VirtioRng["metrics"] | undefined {
    return this.#device?.metrics;
  }

  connect(): void {}

  close(): void {}
}

/** All families of one microVM, in the order in which Firecracker attaches them. */
export class DeviceFamilies implements DeviceFamily {
  readonly drives: DriveSet;
  readonly #entropy: EntropyFamily | undefined;
  readonly #families: DeviceFamily[] = [];

  /** Opens what the devices need, or raises what is wrong with it and leaves nothing open. */
  constructor(config: CheckedConfig) {
    try {
      this.drives = this.#add(new DriveSet(config.drives));
      if (config.entropy) this.#entropy = this.#add(new EntropyFamily());
    } catch (error) {
      this.close();
      throw error;
    }
  }

  get requests(): VirtioDeviceRequest[] {
    return this.#families.flatMap(({ requests }) => requests);
  }

  connect(surroundings: DeviceSurroundings): void {
    for (const family of this.#families) family.connect(surroundings);
  }

  /** Counters of every family, under the names of Firecracker's metrics. */
  get metrics() {
    return {
      drives: Object.fromEntries(this.drives.metrics),
      entropy: this.#entropy?.metrics,
    };
  }

  close(): void {
    for (const family of this.#families.toReversed()) family.close();
  }

  #add<T extends DeviceFamily>(family: T): T {
    this.#families.push(family);
    return family;
  }
}
