/**
 * The persistent memory devices of one microVM: their files, where those lie in the guest, and their virtio
 * devices. Files are opened and mapped before anything else is made, so that a wrong path fails at once.
 */
import { PMEM_ALIGNMENT_BYTES, PMEM_SLOT_FIRST } from "../boot/layout.js";
import { RateLimiter, type RateLimiterConfig } from "../devices/rate-limiter.js";
import { VirtioPmem } from "../devices/virtio/pmem.js";
import { EstaloError, hostError } from "../errors.js";
import { alignUp, type Gpa } from "../units.js";
import { PmemFile } from "./backends/pmem-file.js";
import type { CheckedPmem } from "./config-pmem.js";
import { checkRateLimiter } from "./config-rate-limiter.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily, DeviceSurroundings } from "./device-family.js";
import { GivenFiles } from "./given-files.js";
import { nowUs, RateLimit } from "./rate-limits.js";

interface Pmem {
  readonly config: CheckedPmem;
  readonly file: PmemFile;
  readonly start: Gpa;
  readonly limit: RateLimit;
  device: VirtioPmem | undefined;
}

/** See the file's header. Thread: the device host's. */
export class PmemSet implements DeviceFamily {
  readonly #devices: Pmem[] = [];
  /** First address after the last of them. */
  readonly end: Gpa;

  /**
   * Opens every file that is not given; raises ERR_ESTALO_PMEM_FILE with none left open.
   *
   * @param start - first address that they may have
   */
  constructor(configs: readonly CheckedPmem[], start: Gpa, given = new GivenFiles()) {
    let next = start;
    try {
      for (const config of configs) {
        const file = new PmemFile(config, given.take(`pmem ${config.id}`));
        const limiter = new RateLimiter(config.rateLimiter, nowUs);
        const one: Pmem = {
          config,
          file,
          start: alignUp(next, PMEM_ALIGNMENT_BYTES),
          limit: new RateLimit(limiter, () => one.device?.resumeThrottled()),
          device: undefined,
        };
        this.#devices.push(one);
        next = one.start + file.mapping.windowBytes;
      }
    } catch (error) {
      this.close();
      throw error;
    }
    this.end = next;
  }

  /** The kernel's name of the root, and whether it is read-only; `undefined`: none is root. */
  get root(): { readonly device: string; readonly readOnly: boolean } | undefined {
    const index = this.#devices.findIndex(({ config }) => config.isRoot);
    if (index < 0) return undefined;
    return { device: `/dev/pmem${index}`, readOnly: this.#devices[index].config.readOnly };
  }

  get requests(): VirtioDeviceRequest[] {
    return this.#devices.map((one) => ({
      name: `pmem ${one.config.id}`,
      create: (host) => {
        one.device = new VirtioPmem(host, {
          start: one.start,
          sizeBytes: one.file.mapping.windowBytes,
          backend: one.file,
          limiter: one.limit.limiter,
        });
        return one.device;
      },
    }));
  }

  /** Gives the guest the files, each in a memory slot of its own. */
  connect({ vm }: DeviceSurroundings): void {
    for (const [index, { config, start, file }] of this.#devices.entries()) {
      try {
        vm.setFileSlot(PMEM_SLOT_FIRST + index, start, file.mapping);
      } catch (error) {
        throw hostError("map", `pmem ${config.id} (${config.path})`, error);
      }
    }
  }

  /** Metrics of each, by id. */
  get metrics(): ReadonlyMap<string, VirtioPmem["metrics"]> {
    const entries = this.#devices.flatMap(({ config, device }) =>
      device === undefined ? [] : [[config.id, device.metrics] as const],
    );
    return new Map(entries);
  }

  /** The limits of each, by id. */
  get limits(): ReadonlyMap<string, RateLimit> {
    return new Map(this.#devices.map(({ config, limit }) => [config.id, limit]));
  }

  /** Changes the limits of one; raises ERR_ESTALO_PMEM_UNKNOWN or ERR_ESTALO_CONFIG_INVALID. */
  limit(id: string, change: RateLimiterConfig): void {
    const one = this.#devices.find(({ config }) => config.id === id);
    if (one === undefined) {
      const ids = this.#devices.map(({ config }) => config.id);
      throw new EstaloError("ERR_ESTALO_PMEM_UNKNOWN", `there is no pmem ${id}`, {
        data: { id, pmem: ids },
      });
    }
    one.limit.configure(checkRateLimiter("rateLimiter", change));
  }

  close(): void {
    for (const { limit, file } of this.#devices) {
      limit.close();
      file.close();
    }
  }
}
