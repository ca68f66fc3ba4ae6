/**
 * A virtio device whose behaviour is a user's: queues, features and configuration as its definition says,
 * each chain handed to a function.
 *
 *     driver ─ queue ─▶ onChain(chain) ─▶ a number, a promise of one, or chain.complete() later
 *
 * The machinery around it is every device's: checked chains, one interrupt decision for each batch. What the
 * function throws, or its promise rejects with, breaks this device only: its chains are dropped and its
 * driver sees a device that needs a reset. A chain that is never answered holds an entry of its queue. A
 * user's device costs an object for each chain.
 */
import { EstaloError } from "../../errors.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { DeviceChain } from "./device-chain.js";
import { featureBits, hasFeature, RING_FEATURES } from "./features.js";
import { CONFIG_BYTES } from "./mmio-transport.regs.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

/** A user's device as its functions see it, one for each microVM it is attached to. */
export interface VirtioDevice {
  readonly id: string;
  /** Whether a driver is served. */
  readonly isActive: boolean;
  /** Whether the driver has accepted a feature; false while there is none. */
  hasFeature(bit: number): boolean;
  /** A copy of configuration space, with what the driver wrote. */
  readonly config: Uint8Array;
  /** Replaces configuration space (as long as it is, or shorter) and tells the driver. */
  setConfig(bytes: Uint8Array): void;
  /** The driver broke a rule of the device's: nothing is answered until it resets the device. */
  needsReset(reason: string): void;
}

// biome-ignore lint/suspicious/noConfusingVoidType: a function without a return statement fits, too
type ChainAnswer = number | void;

/** What a virtio device is and does. */
export interface VirtioDeviceDefinition {
  /** In events, errors and metrics: 1 to 64 letters, digits, hyphens and underscores. */
  readonly id: string;
  /** VirtIO 1.2 § 5: the guest's driver is found by it. */
  readonly deviceType: number;
  /** Most entries of each queue: 1 to 17 queues, powers of two up to 1024. */
  readonly queues: readonly number[];
  /** The device type's own feature bits, 0 to 23 and 50 to 63. Ring features are added. Default: none. */
  readonly features?: readonly number[];
  /** Configuration space as the driver finds it, at most 256 bytes. Default: none. */
  readonly config?: Uint8Array;
  /** Bytes of it that the driver may write, `start` to before `end`. Default: none. */
  readonly writableConfig?: { readonly start: number; readonly end: number };
  /** Most bytes that a driver may send in one chain; a longer one is given back unread. Default 1 MiB. */
  readonly readableBytesMax?: number;
  /**
   * Takes a chain. A number, or a promise of one, answers it with so many bytes written; without one it stays
   * open until `chain.complete()`.
   */
  onChain(chain: DeviceChain, device: VirtioDevice): ChainAnswer | Promise<ChainAnswer>;
  /** The driver is ready. */
  onActivate?(device: VirtioDevice): void;
  /** The driver wrote to configuration space. */
  onConfigWrite?(offset: number, sizeBytes: number, value: number, device: VirtioDevice): void;
  /** The driver has reset the device, or its failure has: chains that were open are gone. */
  onReset?(device: VirtioDevice): void;
  /** The microVM is made; called once, before its driver can be there. */
  onAttach?(device: VirtioDevice): void;
  /** The microVM has ended: nothing of it may be used any more. */
  onClose?(device: VirtioDevice): void;
}

const READABLE_BYTES_MAX = 1024 * 1024;

/** What a user's device has done. */
export interface ChainDeviceMetrics {
  /** Chains taken, answered, and given back unread for their length. */
  chains: number;
  completed: number;
  refused: number;
  /** Chains that were open when their driver or a failure reset the device. */
  dropped: number;
  /** Times that the device's functions threw or rejected. */
  failures: number;
}

/** Back of a user's device; see the file's header. */
export class ChainDevice implements VirtioBack {
  readonly deviceType: number;
  readonly features: FeatureBits;
  readonly queueSizes: readonly number[];
  readonly config: Uint8Array;
  readonly writableConfig?: { readonly start: number; readonly end: number };
  readonly memory: GuestMemory;
  readonly metrics: ChainDeviceMetrics = {
    chains: 0,
    completed: 0,
    refused: 0,
    dropped: 0,
    failures: 0,
  };
  /** What the definition's functions are given. */
  readonly handle: VirtioDevice;
  isPaused = false;

  readonly #host: VirtioHost;
  readonly #definition: VirtioDeviceDefinition;
  readonly #scratch: DescriptorChain;
  readonly #open: Set<DeviceChain>[];
  #queues: readonly (VirtQueue | undefined)[] = [];
  #accepted: FeatureBits | undefined;
  /** The queue whose chains are being taken: it publishes once for all of them. */
  #processing = -1;
  #isClosed = false;

  /** @param definition - checked by actors/config-devices.ts */
  constructor(host: VirtioHost, definition: VirtioDeviceDefinition) {
    this.#host = host;
    this.#definition = definition;
    this.memory = host.memory;
    this.deviceType = definition.deviceType;
    this.features = featureBits([...RING_FEATURES, ...(definition.features ?? [])]);
    this.queueSizes = definition.queues;
    this.config = Uint8Array.from(definition.config ?? []);
    if (definition.writableConfig !== undefined) this.writableConfig = definition.writableConfig;
    this.#scratch = new DescriptorChain(Math.max(...definition.queues));
    this.#open = definition.queues.map(() => new Set());
    this.handle = this.#createHandle();
  }

  activate(accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#accepted = accepted;
    this.#queues = queues;
    this.#guarded(() => this.#definition.onActivate?.(this.handle));
  }

  processQueue(queueIndex: number): void {
    this.#resume();
    const queue = this.#queues[queueIndex];
    if (queue === undefined || this.#processing >= 0) return;
    this.#processing = queueIndex;
    try {
      this.#takeAll(queue);
    } catch (error) {
      this.#dropAll();
      throw error;
    } finally {
      this.#processing = -1;
      if (queue.publish()) this.#host.interruptQueue(queueIndex);
    }
  }

  configWritten(offset: number, sizeBytes: number, value: number): void {
    if (this.#isClosed) return;
    for (let index = 0; index < sizeBytes; index++) {
      this.config[offset + index] = value >>> (8 * index);
    }
    this.#guarded(() => this.#definition.onConfigWrite?.(offset, sizeBytes, value, this.handle));
  }

  reset(): undefined {
    const wasActive = this.#accepted !== undefined;
    this.#dropAll();
    this.#queues = [];
    this.#accepted = undefined;
    this.isPaused = false;
    if (!wasActive) return;
    try {
      this.#guarded(() => this.#definition.onReset?.(this.handle));
    } catch (error) {
      this.#host.deviceFailed(error);
    }
  }

  /** Waits for nobody: what is answered meanwhile takes effect when the pause ends. */
  quiesce(): undefined {
    this.isPaused = true;
  }

  /** A chain's answer; see ChainOwner. */
  finish(chain: DeviceChain, writtenBytes: number): void {
    const queue = this.#queues[chain.queue];
    if (!this.#open[chain.queue].delete(chain) || queue === undefined) return;
    this.metrics.completed++;
    queue.addUsed(chain.head, writtenBytes);
    if (this.#processing === chain.queue) return;
    if (queue.publish()) this.#host.interruptQueue(chain.queue);
  }

  /** As if the definition had asked for a reset; see ChainOwner. */
  memoryGone({ message }: EstaloError): void {
    this.#break(message);
  }

  /** The microVM was made: tells the definition. Raises what its function throws. */
  attached(): void {
    this.#guarded(() => this.#definition.onAttach?.(this.handle));
  }

  /** The microVM has ended: nothing is touched from now on. Idempotent. `isTold`: the definition hears of it. */
  close(isTold = true): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#dropAll();
    this.#queues = [];
    this.#accepted = undefined;
    if (isTold) this.#definition.onClose?.(this.handle);
  }

  #takeAll(queue: VirtQueue): void {
    const scratch = this.#scratch;
    let budget = queue.size;
    do {
      queue.disableNotifications();
      while (budget > 0 && queue.next(scratch)) {
        budget--;
        this.#take(queue, scratch);
        // Its own code may have asked for a reset.
        if (this.#queues[queue.index] !== queue) return;
      }
      if (budget === 0) {
        this.#host.deferQueue(queue.index);
        return;
      }
    } while (queue.enableNotifications());
  }

  #take(queue: VirtQueue, scratch: DescriptorChain): void {
    const open = this.#open[queue.index];
    // A driver has a descriptor for each: more than that were offered twice.
    if (open.size >= queue.size) {
      throw new EstaloError(
        "ERR_ESTALO_GUEST_FAULT",
        `queue ${queue.index}: more chains than descriptors`,
      );
    }
    this.metrics.chains++;
    if (scratch.readableBytes > (this.#definition.readableBytesMax ?? READABLE_BYTES_MAX)) {
      this.metrics.refused++;
      queue.addUsed(scratch.head, 0);
      return;
    }
    const chain = new DeviceChain(this, queue.index, scratch);
    open.add(chain);
    const answer = this.#guarded(() => this.#definition.onChain(chain, this.handle));
    if (typeof answer === "number") chain.complete(answer);
    else if (answer instanceof Promise) {
      answer.then(
        (written) => typeof written === "number" && chain.complete(written),
        (error) => this.#rejected(chain, error),
      );
    }
  }

  /** A failure of a chain that nobody waits for any more is counted, and nothing else. */
  #rejected(chain: DeviceChain, error: unknown): void {
    this.metrics.failures++;
    if (this.#isClosed || !chain.isOpen) return;
    this.#dropAll();
    this.#host.deviceFailed(error);
  }

  #guarded<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      this.metrics.failures++;
      throw error;
    }
  }

  #resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    for (const open of this.#open) for (const chain of [...open]) chain.resume();
  }

  #dropAll(): void {
    for (const open of this.#open) {
      this.metrics.dropped += open.size;
      for (const chain of open) chain.drop();
      open.clear();
    }
  }

  #break(reason: string): void {
    this.#dropAll();
    if (this.#accepted !== undefined) this.#host.needsReset(reason);
    this.#queues = [];
  }

  #createHandle(): VirtioDevice {
    const device = this;
    return {
      id: this.#definition.id,
      get isActive() {
        return device.#accepted !== undefined;
      },
      hasFeature: (bit) => device.#accepted !== undefined && hasFeature(device.#accepted, bit),
      get config() {
        return device.config.slice();
      },
      setConfig: (bytes) => device.#setConfig(bytes),
      needsReset: (reason) => device.#break(reason),
    };
  }

  #setConfig(bytes: Uint8Array): void {
    if (bytes.length > Math.min(CONFIG_BYTES, this.config.length)) {
      throw new EstaloError(
        "ERR_ESTALO_CONFIG_INVALID",
        `${this.#definition.id}: configuration space has ${this.config.length} bytes, not ${bytes.length}`,
      );
    }
    if (this.#isClosed) return;
    this.config.set(bytes);
    this.#host.updateConfig(this.config);
  }
}
