/**
 * The virtio devices of one microVM: all its families, in one place for the supervisor.
 */
import type { Observable } from "rxjs";
import type { RootDevice } from "../boot/command-line.js";
import { deviceMemoryStart, ramRegions } from "../boot/memory-map.js";
import {
  RateLimiter,
  type RateLimiterConfig,
  type TokenBucketConfig,
} from "../devices/rate-limiter.js";
import { VirtioRng } from "../devices/virtio/rng.js";
import { EstaloError } from "../errors.js";
import type { Gpa } from "../units.js";
import { hostEntropy } from "./backends/entropy.js";
import { BalloonFamily } from "./balloon-family.js";
import type { CheckedConfig, EntropyConfig } from "./config.js";
import { noBalloon } from "./config-balloon.js";
import { noMemoryHotplug } from "./config-memory-hotplug.js";
import { checkRateLimiter, checkTokenBucket } from "./config-rate-limiter.js";
import type { BoardRequests, VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily, DeviceSurroundings } from "./device-family.js";
import { DriveSet } from "./drive-set.js";
import { GivenFiles } from "./given-files.js";
import { MemoryHotplugFamily } from "./memory-hotplug.js";
import type { MiddlewareReporter } from "./middleware.js";
import { MmdsFamily } from "./mmds-service.js";
import { NetMiddleware } from "./net-middleware.js";
import { NetSet } from "./net-set.js";
import { PmemSet } from "./pmem-set.js";
import { type DeviceRateLimitEvent, limitsOf, nowUs, RateLimit } from "./rate-limits.js";
import { UserDevices } from "./user-devices.js";
import { VsockFamily } from "./vsock-family.js";

/** The entropy device, when there is one. */
class EntropyFamily implements DeviceFamily {
  readonly limit: RateLimit;
  #device: VirtioRng | undefined;

  constructor({ rateLimiter }: EntropyConfig) {
    const limiter = new RateLimiter(rateLimiter ?? {}, nowUs);
    this.limit = new RateLimit(limiter, () => this.#device?.resumeThrottled());
  }

  readonly requests = [
    {
      name: "entropy",
      create: (host) => {
        this.#device = new VirtioRng(host, hostEntropy, this.limit.limiter);
        return this.#device;
      },
    },
  ] satisfies VirtioDeviceRequest[];

  get metrics(): VirtioRng["metrics"] | undefined {
    return this.#device?.metrics;
  }

  connect(): void {}

  close(): void {
    this.limit.close();
  }
}

/** Refuses what needs an entropy device. */
function noEntropy(): EstaloError {
  return new EstaloError("ERR_ESTALO_STATE", "this microVM has no entropy device", {
    hint: "give it one: entropy: true",
  });
}

function serialLimiter({ rateLimiter }: CheckedConfig["serial"]): RateLimiter {
  return new RateLimiter(rateLimiter === undefined ? {} : { bandwidth: rateLimiter }, nowUs);
}

/** All families of one microVM, in the order in which Firecracker attaches them. */
export class DeviceFamilies implements DeviceFamily {
  readonly balloon: BalloonFamily | undefined;
  readonly drives: DriveSet;
  readonly interfaces: NetSet;
  /** Not a device: it is in the transmit path of some. */
  readonly metadata: MmdsFamily | undefined;
  readonly pmem: PmemSet;
  readonly memoryHotplug: MemoryHotplugFamily | undefined;
  /** First address after the memory that devices bring. */
  readonly deviceMemoryEnd: Gpa;
  readonly vsock: VsockFamily | undefined;
  /** In the way of every interface's frames. */
  readonly net: NetMiddleware;
  /** Those of the user's own, after ours. */
  readonly user: UserDevices;
  /** Of the serial port's output; the port itself is the board's. */
  readonly serialLimit: RateLimit;
  readonly #entropy: EntropyFamily | undefined;
  readonly #families: DeviceFamily[] = [];

  /** Opens what the devices need and are not given, or raises what is wrong with it and leaves nothing open. */
  constructor(
    config: CheckedConfig,
    report: MiddlewareReporter = () => {},
    given = new GivenFiles(),
  ) {
    this.net = new NetMiddleware(report);
    this.serialLimit = new RateLimit(serialLimiter(config.serial));
    try {
      if (config.balloon !== undefined) {
        this.balloon = this.#add(new BalloonFamily(config.balloon, config.memoryMib));
      }
      this.drives = this.#add(new DriveSet(config.drives, report, given));
      const { mmds } = config;
      this.metadata = mmds && new MmdsFamily(mmds, config.id);
      this.interfaces = this.#add(
        new NetSet(
          config.networkInterfaces,
          (id, device) => {
            this.metadata?.attach(id, device);
            this.net.add(id, device);
          },
          given,
        ),
      );
      const start = deviceMemoryStart(ramRegions(config.memoryMib));
      const hotplug = config.memoryHotplug && new MemoryHotplugFamily(config.memoryHotplug, start);
      const pmemStart = start + (hotplug?.region.sizeBytes ?? 0);
      this.pmem = this.#add(new PmemSet(config.pmem, pmemStart, given));
      this.deviceMemoryEnd = this.pmem.end;
      if (config.vsock !== undefined) this.vsock = this.#add(new VsockFamily(config.vsock, report));
      if (config.entropy !== undefined) {
        this.#entropy = this.#add(new EntropyFamily(config.entropy));
      }
      this.memoryHotplug = hotplug && this.#add(hotplug);
      this.user = this.#add(new UserDevices(config.devices));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** All devices, for the board. */
  get board(): BoardRequests {
    return { virtio: this.requests, bus: this.user.busRequests };
  }

  get requests(): VirtioDeviceRequest[] {
    return this.#families.flatMap(({ requests }) => requests);
  }

  /** The root file system's place, where a device has it. */
  get root(): { readonly root?: RootDevice } {
    const { pmem, drives } = this;
    if (pmem.root !== undefined) return { root: pmem.root };
    if (drives.root === undefined) return {};
    const { partuuid, readOnly } = drives.root;
    const device = partuuid === undefined ? "/dev/vda" : `PARTUUID=${partuuid}`;
    return { root: { device, readOnly } };
  }

  /** The socket device, or ERR_ESTALO_STATE for a microVM without one. */
  requireVsock(): VsockFamily {
    if (this.vsock !== undefined) return this.vsock;
    throw new EstaloError("ERR_ESTALO_STATE", "this microVM has no vsock device", {
      hint: "give it one: vsock: {}",
    });
  }

  /** The metadata service, or ERR_ESTALO_STATE for a microVM without one. */
  requireMetadata(): MmdsFamily {
    if (this.metadata !== undefined) return this.metadata;
    throw new EstaloError("ERR_ESTALO_STATE", "this microVM has no metadata service", {
      hint: "give it one: mmds: {}, and a network interface",
    });
  }

  /** The balloon, or ERR_ESTALO_STATE for a microVM without one. */
  requireBalloon(): BalloonFamily {
    if (this.balloon !== undefined) return this.balloon;
    throw noBalloon();
  }

  /** What memory can be plugged, or ERR_ESTALO_STATE for a microVM where none can. */
  requireMemoryHotplug(): MemoryHotplugFamily {
    if (this.memoryHotplug !== undefined) return this.memoryHotplug;
    throw noMemoryHotplug();
  }

  connect(surroundings: DeviceSurroundings): void {
    for (const family of this.#families) family.connect(surroundings);
  }

  /** Counters of every family, under the names of Firecracker's metrics. */
  get metrics() {
    return {
      drives: Object.fromEntries(this.drives.metrics),
      networkInterfaces: Object.fromEntries(this.interfaces.metrics),
      pmem: Object.fromEntries(this.pmem.metrics),
      mmds: this.metadata?.metrics,
      vsock: this.vsock?.metrics,
      balloon: this.balloon?.metrics,
      entropy: this.#entropy?.metrics,
      memoryHotplug: this.memoryHotplug?.metrics,
      devices: this.user.metrics,
      middleware: {
        net: this.net.metrics,
        drives: this.drives.middleware.metrics,
        vsock: this.vsock?.middleware.metrics,
      },
    };
  }

  /** Changes the entropy device's limits; raises ERR_ESTALO_STATE without one, ERR_ESTALO_CONFIG_INVALID. */
  limitEntropy(change: RateLimiterConfig): void {
    if (this.#entropy === undefined) throw noEntropy();
    this.#entropy.limit.configure(checkRateLimiter("rateLimiter", change));
  }

  /** Changes the limit of the serial port's output; raises ERR_ESTALO_CONFIG_INVALID. */
  limitSerial(bucket: TokenBucketConfig): void {
    this.serialLimit.configure({ bandwidth: checkTokenBucket("rateLimiter", bucket) });
  }

  /** What the limiters do, with the device's name; completes when the devices are closed. */
  get rateLimits$(): Observable<DeviceRateLimitEvent> {
    const limits = new Map<string, RateLimit>(this.interfaces.limits);
    for (const [id, limit] of this.drives.limits) limits.set(`drive ${id}`, limit);
    for (const [id, limit] of this.pmem.limits) limits.set(`pmem ${id}`, limit);
    if (this.#entropy !== undefined) limits.set("entropy", this.#entropy.limit);
    limits.set("serial", this.serialLimit);
    return limitsOf(limits);
  }

  /** Closes all of them, whatever one throws: the user's own may. Raises the first failure. */
  close(): void {
    const failures: unknown[] = [];
    const { metadata, net, serialLimit } = this;
    for (const part of [metadata, net, serialLimit, ...this.#families.toReversed()]) {
      try {
        part?.close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  #add<T extends DeviceFamily>(family: T): T {
    this.#families.push(family);
    return family;
  }
}
