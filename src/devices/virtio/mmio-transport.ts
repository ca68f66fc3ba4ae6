/**
 * Front of the virtio-mmio transport, the same for every VirtIO device: registers, status,
 * configuration.
 *
 *     0 ─▶ ACKNOWLEDGE ─▶ + DRIVER ─▶ + FEATURES_OK ─▶ + DRIVER_OK      one bit at a time
 *     ▲        features written ──┘       └── queues set    └── frozen: the back owns them
 *     └── write 0, from anywhere; FAILED may be added anywhere
 *
 * A write out of turn is ignored and counted. A reset of a live device is the one access that waits
 * for the back: Linux writes status 0, does not poll, and reuses the queues' memory at once, so no
 * transfer may be under way when the write returns. Specification: VirtIO 1.2 §§ 2.1, 3.1, 4.2.
 */
import type { DeviceFront, FrontContext } from "../device.js";
import { VIRTIO_CONFIG_WRITE, VIRTIO_DRIVER_OK, VIRTIO_NOTIFY, VIRTIO_RESET } from "../events.js";
import * as regs from "./mmio-transport.regs.js";
import * as words from "./mmio-transport.state.js";

const FEATURES_PHASE = regs.STATUS_ACKNOWLEDGE_MASK | regs.STATUS_DRIVER_MASK;
const QUEUES_PHASE = FEATURES_PHASE | regs.STATUS_FEATURES_OK_MASK;
const LIVE_PHASE = QUEUES_PHASE | regs.STATUS_DRIVER_OK_MASK;

/** Register offset of each queue field to its word within the queue. */
const QUEUE_FIELDS = new Map<number, number>([
  [regs.QUEUE_NUM_OFFSET, words.QUEUE_SIZE],
  [regs.QUEUE_DESC_LOW_OFFSET, words.QUEUE_DESC_LOW],
  [regs.QUEUE_DESC_HIGH_OFFSET, words.QUEUE_DESC_HIGH],
  [regs.QUEUE_DRIVER_LOW_OFFSET, words.QUEUE_DRIVER_LOW],
  [regs.QUEUE_DRIVER_HIGH_OFFSET, words.QUEUE_DRIVER_HIGH],
  [regs.QUEUE_DEVICE_LOW_OFFSET, words.QUEUE_DEVICE_LOW],
  [regs.QUEUE_DEVICE_HIGH_OFFSET, words.QUEUE_DEVICE_HIGH],
]);

/**
 * Front of a VirtIO device; window of 4 KiB; posts VIRTIO_DRIVER_OK, _RESET, _NOTIFY,
 * _CONFIG_WRITE.
 */
export class MmioTransportFront implements DeviceFront {
  readonly #context: FrontContext;
  readonly #state: Int32Array;
  readonly #config: Uint8Array;

  constructor(context: FrontContext) {
    this.#context = context;
    this.#state = context.state;
    this.#config = words.configBytes(context.state);
  }

  read(offset: number, sizeBytes: number): number {
    if (this.#resetPending()) return 0;
    if (offset >= regs.CONFIG_OFFSET) {
      return this.#readConfig(offset - regs.CONFIG_OFFSET, sizeBytes);
    }
    const value = sizeBytes === 4 ? this.#readRegister(offset) : undefined;
    if (value !== undefined) return value;
    this.#state[words.IGNORED_READ_COUNT_WORD]++;
    return 0;
  }

  write(offset: number, sizeBytes: number, value: number): void {
    let taken = false;
    if (!this.#resetPending()) {
      if (offset >= regs.CONFIG_OFFSET) {
        taken = this.#writeConfig(offset - regs.CONFIG_OFFSET, sizeBytes, value);
      } else if (sizeBytes === 4) {
        taken = this.#writeRegister(offset, value);
      }
    }
    if (!taken) this.#state[words.IGNORED_WRITE_COUNT_WORD]++;
  }

  #readRegister(offset: number): number | undefined {
    const state = this.#state;
    switch (offset) {
      case regs.MAGIC_VALUE_OFFSET:
        return regs.MAGIC_VALUE;
      case regs.VERSION_OFFSET:
        return regs.VERSION_VALUE;
      case regs.DEVICE_ID_OFFSET:
        return state[words.DEVICE_TYPE_WORD];
      case regs.VENDOR_ID_OFFSET:
        return 0;
      case regs.DEVICE_FEATURES_OFFSET:
        return this.#offered(state[words.DEVICE_FEATURES_SEL_WORD]);
      case regs.QUEUE_NUM_MAX_OFFSET:
        return this.#queue() < 0 ? 0 : state[this.#queue() + words.QUEUE_MAX];
      case regs.QUEUE_READY_OFFSET:
        return this.#queue() < 0 ? 0 : state[this.#queue() + words.QUEUE_READY];
      case regs.INTERRUPT_STATUS_OFFSET:
        return Atomics.load(state, words.INTERRUPT_STATUS_WORD);
      case regs.STATUS_OFFSET:
        return Atomics.load(state, words.STATUS_WORD);
      case regs.SHM_LEN_LOW_OFFSET:
      case regs.SHM_LEN_HIGH_OFFSET:
      case regs.SHM_BASE_LOW_OFFSET:
      case regs.SHM_BASE_HIGH_OFFSET:
        return regs.SHM_ABSENT_VALUE;
      case regs.CONFIG_GENERATION_OFFSET:
        return Atomics.load(state, words.CONFIG_GENERATION_WORD) >>> 0;
      default:
        return undefined;
    }
  }

  /** Whether the register exists and takes writes in the present status. */
  #writeRegister(offset: number, value: number): boolean {
    const state = this.#state;
    switch (offset) {
      case regs.DEVICE_FEATURES_SEL_OFFSET:
        state[words.DEVICE_FEATURES_SEL_WORD] = value;
        return true;
      case regs.DRIVER_FEATURES_SEL_OFFSET:
        state[words.DRIVER_FEATURES_SEL_WORD] = value;
        return true;
      case regs.DRIVER_FEATURES_OFFSET:
        return this.#writeFeatures(value);
      case regs.QUEUE_SEL_OFFSET:
        state[words.QUEUE_SEL_WORD] = value;
        return true;
      case regs.QUEUE_READY_OFFSET:
        return this.#writeQueueReady(value);
      case regs.QUEUE_NOTIFY_OFFSET:
        if (this.#phase() !== LIVE_PHASE) return false;
        this.#context.post(VIRTIO_NOTIFY, value);
        return true;
      case regs.INTERRUPT_ACK_OFFSET:
        Atomics.and(state, words.INTERRUPT_STATUS_WORD, ~value);
        return true;
      case regs.STATUS_OFFSET:
        return value === 0 ? this.#reset() : this.#writeStatus(value);
      case regs.SHM_SEL_OFFSET:
        return true;
      default:
        return this.#writeQueueField(offset, value);
    }
  }

  /** Device status without NEEDS_RESET, which is the device's own. */
  #phase(): number {
    return Atomics.load(this.#state, words.STATUS_WORD) & ~regs.STATUS_NEEDS_RESET_MASK;
  }

  #offered(selector: number): number {
    if (selector === 0) return this.#state[words.OFFERED_LOW_WORD] >>> 0;
    return selector === 1 ? this.#state[words.OFFERED_HIGH_WORD] >>> 0 : 0;
  }

  /** First word of the selected queue, or -1 if there is no such queue. */
  #queue(): number {
    const selected = this.#state[words.QUEUE_SEL_WORD] >>> 0;
    if (selected >= words.MAX_QUEUES) return -1;
    const queue = words.queueWord(selected);
    return this.#state[queue + words.QUEUE_MAX] === 0 ? -1 : queue;
  }

  #writeFeatures(value: number): boolean {
    const selector = this.#state[words.DRIVER_FEATURES_SEL_WORD];
    if (this.#phase() !== FEATURES_PHASE || selector < 0 || selector > 1) return false;
    this.#state[selector === 0 ? words.ACCEPTED_LOW_WORD : words.ACCEPTED_HIGH_WORD] = value;
    return true;
  }

  #writeQueueField(offset: number, value: number): boolean {
    const field = QUEUE_FIELDS.get(offset);
    const queue = this.#queue();
    if (field === undefined || queue < 0 || this.#phase() !== QUEUES_PHASE) return false;
    if (this.#state[queue + words.QUEUE_READY] !== 0) return false;
    this.#state[queue + field] = value;
    return true;
  }

  #writeQueueReady(value: number): boolean {
    const queue = this.#queue();
    if (queue < 0 || this.#phase() !== QUEUES_PHASE) return false;
    this.#state[queue + words.QUEUE_READY] = value & 1;
    return true;
  }

  #writeStatus(value: number): boolean {
    const state = this.#state;
    const phase = this.#phase();
    const wanted = value & ~regs.STATUS_NEEDS_RESET_MASK;
    if (wanted === phase) return true;
    const added = wanted & ~phase;
    if ((phase & ~wanted) !== 0 || (phase & regs.STATUS_FAILED_MASK) !== 0) return false;
    if (added !== regs.STATUS_FAILED_MASK) {
      if (added !== this.#nextBit(phase)) return false;
      if (added === regs.STATUS_FEATURES_OK_MASK && !this.#featuresAcceptable()) return false;
    }
    Atomics.or(state, words.STATUS_WORD, added);
    if (added === regs.STATUS_DRIVER_OK_MASK) this.#context.post(VIRTIO_DRIVER_OK, 0);
    return true;
  }

  /** The one bit that may be set next; 0 if none. */
  #nextBit(phase: number): number {
    switch (phase) {
      case 0:
        return regs.STATUS_ACKNOWLEDGE_MASK;
      case regs.STATUS_ACKNOWLEDGE_MASK:
        return regs.STATUS_DRIVER_MASK;
      case FEATURES_PHASE:
        return regs.STATUS_FEATURES_OK_MASK;
      case QUEUES_PHASE:
        return regs.STATUS_DRIVER_OK_MASK;
      default:
        return 0;
    }
  }

  /** VirtIO 1.2 § 2.2: a subset of what is offered; § 6.1: VERSION_1 among it. */
  #featuresAcceptable(): boolean {
    const state = this.#state;
    const high = state[words.ACCEPTED_HIGH_WORD];
    return (
      (state[words.ACCEPTED_LOW_WORD] & ~state[words.OFFERED_LOW_WORD]) === 0 &&
      (high & ~state[words.OFFERED_HIGH_WORD]) === 0 &&
      (high & regs.FEATURE_VERSION_1_HIGH_MASK) !== 0
    );
  }

  #reset(): boolean {
    const state = this.#state;
    if ((this.#phase() & regs.STATUS_DRIVER_OK_MASK) === 0) {
      words.clearDriverWords(state);
    } else {
      Atomics.add(state, words.RESET_REQUESTED_WORD, 1);
      this.#context.post(VIRTIO_RESET, 0);
      this.#resetPending();
    }
    return true;
  }

  /**
   * Waits for the reset that is under way, if one is. True if it still is: the vCPU was asked to
   * leave the guest meanwhile. The back then completes it before the guest runs again.
   */
  #resetPending(): boolean {
    const state = this.#state;
    const requested = Atomics.load(state, words.RESET_REQUESTED_WORD);
    const acknowledged = Atomics.load(state, words.RESET_ACKNOWLEDGED_WORD);
    if (requested === acknowledged) return false;
    this.#context.waitWhile(words.RESET_ACKNOWLEDGED_WORD, acknowledged);
    return Atomics.load(state, words.RESET_ACKNOWLEDGED_WORD) !== requested;
  }

  #readConfig(offset: number, sizeBytes: number): number {
    const state = this.#state;
    if (offset % sizeBytes !== 0 || offset + sizeBytes > state[words.CONFIG_LENGTH_WORD]) {
      state[words.IGNORED_READ_COUNT_WORD]++;
      return 0;
    }
    const copy = this.#configCopy();
    let value = 0;
    for (let index = sizeBytes - 1; index >= 0; index--) {
      value = value * 256 + this.#config[copy + offset + index];
    }
    return value;
  }

  #writeConfig(offset: number, sizeBytes: number, value: number): boolean {
    const state = this.#state;
    const start = state[words.CONFIG_WRITABLE_START_WORD];
    const end = state[words.CONFIG_WRITABLE_END_WORD];
    if (offset % sizeBytes !== 0 || offset < start || offset + sizeBytes > end) return false;
    const copy = this.#configCopy();
    for (let index = 0; index < sizeBytes; index++) {
      this.#config[copy + offset + index] = value >>> (8 * index);
    }
    const event = VIRTIO_CONFIG_WRITE + Math.log2(sizeBytes) * regs.CONFIG_BYTES + offset;
    this.#context.post(event, value);
    return true;
  }

  /** First byte of the current copy. */
  #configCopy(): number {
    const generation = Atomics.load(this.#state, words.CONFIG_GENERATION_WORD);
    return (generation & 1) * regs.CONFIG_BYTES;
  }
}
