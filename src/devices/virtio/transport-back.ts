/**
 * The back's side of the virtio-mmio transport: between a device's shared words and its
 * `VirtioBack`.
 *
 *     idle ── DRIVER_OK ─▶ active ── broken rule ─▶ broken
 *      ▲                     │ status 0               │ status 0
 *      └──── acknowledge ◀── resetting ◀──────────────┘
 *
 * Runs on the device host thread only. It reads the driver's choices once, when DRIVER_OK is set
 * (the front freezes them), and never trusts them. Posts and doorbells are hints in any order: what
 * counts is the shared state. Specification: VirtIO 1.2 §§ 2.1, 2.3 to 2.5, 4.2.3.
 */
import { isEstaloError } from "../../errors.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import type { IrqLine } from "../device.js";
import * as events from "../events.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import * as regs from "./mmio-transport.regs.js";
import * as words from "./mmio-transport.state.js";
import { type QueueState, VirtQueue } from "./queue.js";

/** What surrounds a transport. */
export interface TransportWiring {
  readonly memory: GuestMemory;
  readonly irq: IrqLine;
  /**
   * The driver broke a rule; its device answers nothing until it is reset. For log and event
   * stream.
   */
  onNeedsReset(reason: string): void;
  /** The device's code failed, in a call or outside of any; none of it is on the stack. */
  onFailed(error: unknown): void;
  /** Runs `task` after other work that is ready (setImmediate): no driver may occupy the thread. */
  defer(task: () => void): void;
}

/** Queues' positions, for a snapshot; `null` for a queue that is not in use. */
export type QueueStates = readonly (QueueState | null)[];

/** Joins one device to its shared words. */
export class TransportBack<Device extends VirtioBack = VirtioBack> implements VirtioHost {
  readonly memory: GuestMemory;
  readonly device: Device;
  /** Interrupts asked for by the device, those for configuration among them. */
  interruptCount = 0;
  /** Those of them that told of a change of the configuration. */
  configInterruptCount = 0;
  configUpdateCount = 0;

  readonly #state: Int32Array;
  readonly #wiring: TransportWiring;
  #phase: "idle" | "active" | "broken" | "resetting" = "idle";
  #paused = false;
  #configPending = false;
  /** While a reset is under way. */
  #resetDone: Promise<void> | undefined;
  /** Device code is on the stack. */
  #isRunning = false;
  /** Queues that have their turn later. */
  readonly #deferred = new Set<number>();
  #queues: (VirtQueue | undefined)[] = [];

  /**
   * @param state - `STATE_WORDS["virtio-mmio"]` words, zeroed; the device is published in them
   * @param createDevice - makes the device, with this transport as its host
   */
  constructor(
    state: Int32Array,
    wiring: TransportWiring,
    createDevice: (host: VirtioHost) => Device,
  ) {
    this.#state = state;
    this.#wiring = wiring;
    this.memory = wiring.memory;
    this.device = createDevice(this);
    this.#publishDevice();
  }

  /** Whether the driver is served: DRIVER_OK, no broken rule, no reset under way. */
  get active(): boolean {
    return this.#phase === "active";
  }

  /** Takes an event that a front posted (devices/events.ts). */
  handleEvent(event: number, value: number): void {
    if (event === events.VIRTIO_NOTIFY) this.notifyQueue(value);
    else if (event >= events.VIRTIO_CONFIG_WRITE && event <= events.VIRTIO_CONFIG_WRITE_LAST) {
      this.#configWritten(event - events.VIRTIO_CONFIG_WRITE, value);
    } else this.#sync();
  }

  /** The queue's doorbell rang. */
  notifyQueue(queueIndex: number): void {
    if (this.#paused) return;
    // A device that calls itself goes on with its queues after that: a reset waits until all of it has returned.
    if (!this.#isRunning) this.#sync();
    if (this.#phase !== "active" || this.#queues[queueIndex] === undefined) return;
    this.#guarded(() => this.device.processQueue(queueIndex));
  }

  /** Has what the driver did last take effect, also where its post was lost; a promise: a reset that takes time. */
  settle(): Promise<void> | undefined {
    this.#sync();
    return this.#resetDone;
  }

  /** Pause: finishes what is in flight and takes nothing new; `undefined`: already quiet. */
  quiesce(): Promise<void> | undefined {
    this.#paused = true;
    return this.#phase === "idle" ? undefined : this.device.quiesce();
  }

  /** Ends a pause: every queue is looked at again, since doorbells were dropped. */
  resume(): void {
    this.#paused = false;
    this.#sync();
    this.#processAll();
  }

  /** Queues' positions of a quiet device. */
  saveQueues(): QueueStates {
    return Array.from(this.device.queueSizes, (_, i) => this.#queues[i]?.save() ?? null);
  }

  /**
   * After `restoreMmioTransport`: activates a device whose driver had it live, at its queues'
   * positions.
   */
  restoreQueues(states: QueueStates): void {
    this.#paused = true;
    this.#sync(states);
  }

  /** The device's code failed: its driver sees a device that needs a reset. */
  async fail(reason: string): Promise<void> {
    if (this.#phase !== "active") return;
    this.needsReset(reason);
    await this.device.reset();
  }

  interruptQueue(_queueIndex: number): void {
    this.#interrupt(regs.INTERRUPT_USED_BUFFER_MASK);
  }

  deferQueue(queueIndex: number): void {
    // Once: a driver that rings for a busy queue would have one more of its turns each time.
    if (this.#deferred.has(queueIndex)) return;
    this.#deferred.add(queueIndex);
    this.#wiring.defer(() => {
      this.#deferred.delete(queueIndex);
      this.notifyQueue(queueIndex);
    });
  }

  updateConfig(bytes: Uint8Array): void {
    this.storeConfig(bytes);
    this.configUpdateCount++;
    // A driver that is still setting up may have read the old content: it hears of it at DRIVER_OK.
    if (this.#phase === "active") this.#interrupt(regs.INTERRUPT_CONFIG_CHANGE_MASK);
    else this.#configPending = true;
  }

  needsReset(reason: string): void {
    if (this.#phase !== "active") return;
    this.#phase = "broken";
    Atomics.or(this.#state, words.STATUS_WORD, regs.STATUS_NEEDS_RESET_MASK);
    this.#interrupt(regs.INTERRUPT_CONFIG_CHANGE_MASK);
    this.#wiring.onNeedsReset(reason);
  }

  deviceFailed(error: unknown): void {
    this.#wiring.onFailed(error);
  }

  #interrupt(mask: number): void {
    this.interruptCount++;
    if (mask === regs.INTERRUPT_CONFIG_CHANGE_MASK) this.configInterruptCount++;
    Atomics.or(this.#state, words.INTERRUPT_STATUS_WORD, mask);
    this.#wiring.irq.raise();
  }

  #publishDevice(): void {
    const { device } = this;
    const state = this.#state;
    state[words.DEVICE_TYPE_WORD] = device.deviceType;
    state[words.OFFERED_LOW_WORD] = device.features.low;
    state[words.OFFERED_HIGH_WORD] = device.features.high;
    const writable = device.writableConfig;
    state[words.CONFIG_WRITABLE_START_WORD] = writable?.start ?? 0;
    state[words.CONFIG_WRITABLE_END_WORD] = writable?.end ?? 0;
    for (const [index, size] of device.queueSizes.entries()) {
      state[words.queueWord(index) + words.QUEUE_MAX] = size;
    }
    this.storeConfig(device.config);
  }

  storeConfig(bytes: Uint8Array): void {
    const state = this.#state;
    const generation = state[words.CONFIG_GENERATION_WORD] + 1;
    words.configBytes(state).set(bytes, (generation & 1) * regs.CONFIG_BYTES);
    state[words.CONFIG_LENGTH_WORD] = bytes.length;
    Atomics.store(state, words.CONFIG_GENERATION_WORD, generation);
  }

  /**
   * Brings this side in line with the shared state: a reset first, then a driver that became ready.
   */
  #sync(positions?: QueueStates): void {
    const state = this.#state;
    const requested = Atomics.load(state, words.RESET_REQUESTED_WORD);
    if (requested !== Atomics.load(state, words.RESET_ACKNOWLEDGED_WORD)) this.#reset(requested);
    const status = Atomics.load(state, words.STATUS_WORD);
    if (this.#phase === "idle" && (status & regs.STATUS_DRIVER_OK_MASK) !== 0) {
      this.#activate(positions);
      this.#processAll();
    }
  }

  #reset(requested: number): void {
    if (this.#phase === "resetting") return;
    const wasLive = this.#phase !== "idle";
    this.#phase = "resetting";
    const done = wasLive ? this.device.reset() : undefined;
    if (done === undefined) this.#acknowledge(requested);
    else this.#resetDone = done.then(() => this.#acknowledge(requested));
  }

  #acknowledge(requested: number): void {
    const state = this.#state;
    this.#queues = [];
    this.#phase = "idle";
    this.#resetDone = undefined;
    words.clearDriverWords(state);
    Atomics.store(state, words.RESET_ACKNOWLEDGED_WORD, requested);
    Atomics.notify(state, words.RESET_ACKNOWLEDGED_WORD);
  }

  #activate(positions: QueueStates | undefined): void {
    const state = this.#state;
    const accepted: FeatureBits = {
      low: state[words.ACCEPTED_LOW_WORD] >>> 0,
      high: state[words.ACCEPTED_HIGH_WORD] >>> 0,
    };
    this.#phase = "active";
    if (this.#configPending) this.#interrupt(regs.INTERRUPT_CONFIG_CHANGE_MASK);
    this.#configPending = false;
    this.#guarded(() => {
      this.#queues = this.device.queueSizes.map((maxSize, index) => {
        const queue = this.#createQueue(index, maxSize, accepted);
        const position = positions?.[index];
        if (queue !== undefined && position) queue.restore(position);
        return queue;
      });
      this.device.activate(accepted, this.#queues);
    });
  }

  #createQueue(index: number, maxSize: number, accepted: FeatureBits): VirtQueue | undefined {
    const state = this.#state;
    const queue = words.queueWord(index);
    if (state[queue + words.QUEUE_READY] === 0) return undefined;
    const address = (lowField: number): number =>
      (state[queue + lowField] >>> 0) + (state[queue + lowField + 1] >>> 0) * 2 ** 32;
    return new VirtQueue(this.memory, {
      index,
      size: state[queue + words.QUEUE_SIZE] >>> 0,
      maxSize,
      descriptorTable: address(words.QUEUE_DESC_LOW),
      availRing: address(words.QUEUE_DRIVER_LOW),
      usedRing: address(words.QUEUE_DEVICE_LOW),
      eventIdx: ((accepted.low >>> regs.FEATURE_EVENT_IDX_BIT) & 1) !== 0,
      indirect: ((accepted.low >>> regs.FEATURE_INDIRECT_DESC_BIT) & 1) !== 0,
    });
  }

  /** The driver may have filled its queues before DRIVER_OK, or while doorbells were dropped. */
  #processAll(): void {
    for (let index = 0; index < this.#queues.length && !this.#paused; index++) {
      if (this.#phase !== "active" || this.#queues[index] === undefined) continue;
      this.#guarded(() => this.device.processQueue(index));
    }
  }

  #configWritten(code: number, value: number): void {
    const offset = code % regs.CONFIG_BYTES;
    const sizeBytes = 1 << Math.floor(code / regs.CONFIG_BYTES);
    this.device.configWritten?.(offset, sizeBytes, value);
  }

  /**
   * Runs device code; a guest's fault breaks this device only, anything else is told to the wiring: whoever had
   * a queue looked at, a timer for example, hears of neither.
   */
  #guarded(action: () => void): void {
    const isOutermost = !this.#isRunning;
    this.#isRunning = true;
    try {
      action();
    } catch (error) {
      if (isEstaloError(error) && error.family === "guest") this.needsReset(error.message);
      // A device that is called by itself fails as a whole.
      else if (isOutermost) this.#wiring.onFailed(error);
      else throw error;
    } finally {
      if (isOutermost) this.#isRunning = false;
    }
  }
}
