/**
 * A user's virtio device under test: a driver with synthetic queues in plain memory, no KVM and no guest.
 *
 *     await tester.request(bytes, 16)   a chain: `bytes` to read, 16 to write; its answer
 *
 * Everything between the definition and the driver is the real thing: register front, transport, queues. What
 * a microVM reports as events is in `failures` and `needsResetReasons`.
 */
import type { UserVirtioDevice } from "../actors/config-devices.js";
import { ChainDevice, type ChainDeviceMetrics } from "../devices/virtio/chain-device.js";
import type { FeatureBits } from "../devices/virtio/device.js";
import { featureBits, RING_FEATURES } from "../devices/virtio/features.js";
import * as regs from "../devices/virtio/mmio-transport.regs.js";
import { EstaloError, toEstaloError } from "../errors.js";
import type { GuestMemory } from "../native/guest-memory.js";
import { alignUp, MIB } from "../units.js";
import { createMemory } from "./plain-memory.js";
import { RingDriver } from "./ring-driver.js";
import { VirtioMachine } from "./virtio-machine.js";

/** How a tester is made. */
export interface VirtioTesterOptions {
  /** Guest memory, for rings and buffers. Default 2 MiB. */
  readonly memoryBytes?: number;
}

/** How a driver comes up. */
export interface TestDriverOptions {
  /** Feature bits that the driver accepts beside the rings' own. Default: all that are offered. */
  readonly features?: readonly number[];
  /** Entries of each queue. Default: what the device offers, 256 at most. */
  readonly queueSize?: number;
}

interface Pending {
  readonly address: number;
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: EstaloError) => void;
}

interface TestQueue {
  readonly ring: RingDriver;
  readonly pending: Map<number, Pending>;
  used: number;
}

const QUEUE_SIZE = 256;
const BUFFER_ALIGN_BYTES = 16;

/** See the file's header. */
export class VirtioTester {
  /** What the device's functions threw or rejected with. */
  readonly failures: EstaloError[] = [];
  /** Why the driver was told that the device needs a reset. */
  readonly needsResetReasons: string[] = [];

  readonly #machine: VirtioMachine<ChainDevice>;
  #queues: TestQueue[] = [];
  #buffersStart = 0;
  #nextBuffer = 0;

  /** Attaches the device (`onAttach`); no driver is there yet. */
  constructor(device: UserVirtioDevice, options: VirtioTesterOptions = {}) {
    const memory = createMemory(options.memoryBytes ?? 2 * MIB);
    this.#machine = new VirtioMachine(memory, (host) => new ChainDevice(host, device));
    this.#machine.fake.irq.onRaise = () => this.#collect();
    this.#machine.onFailed = (error) => this.#failed(error);
    this.#machine.onNeedsReset = (reason) => {
      this.needsResetReasons.push(reason);
      this.#rejectAll(`the device needs a reset: ${reason}`);
    };
    this.#machine.device.attached();
  }

  /** The guest's memory, for tests that lay out their own chains. */
  get memory(): GuestMemory {
    return this.#machine.memory;
  }

  get metrics(): Readonly<ChainDeviceMetrics> {
    return this.#machine.device.metrics;
  }

  /** Pulses of the interrupt line since the last call. */
  takeInterrupts(): number {
    return this.#machine.fake.irq.take();
  }

  /** Whether the status register says DEVICE_NEEDS_RESET. */
  get needsReset(): boolean {
    return (this.#machine.status & regs.STATUS_NEEDS_RESET_MASK) !== 0;
  }

  /** Feature bits that the device offers. */
  get offered(): number[] {
    const { low, high } = this.#machine.offered();
    return Array.from({ length: 64 }, (_, bit) => bit).filter(
      (bit) => (((bit < 32 ? low : high) >>> (bit % 32)) & 1) !== 0,
    );
  }

  /** Brings the driver up, from a reset to DRIVER_OK, with all queues. */
  start(options: TestDriverOptions = {}): void {
    const features = this.#features(options.features);
    this.#guarded(() => this.#machine.negotiate(features));
    const eventIdx = ((features.low >>> regs.FEATURE_EVENT_IDX_BIT) & 1) !== 0;
    let start: number | undefined;
    this.#queues = this.#machine.device.queueSizes.map((most, index) => {
      const size = Math.min(options.queueSize ?? QUEUE_SIZE, most);
      const ring = new RingDriver(this.memory, {
        size,
        eventIdx,
        ...(start === undefined ? {} : { start }),
      });
      start = ring.endOfRings;
      this.#machine.setUpQueue(index, ring);
      return { ring, pending: new Map(), used: 0 };
    });
    this.#buffersStart = this.#nextBuffer = start ?? 0;
    this.#guarded(() => this.#machine.driverOk());
  }

  /** The driver's side of a queue, for chains of a test's own, right or wrong; see `ring`. */
  queue(index = 0): RingDriver {
    return this.#queue(index).ring;
  }

  /** Rings a queue's doorbell. */
  ring(index = 0): void {
    this.#guarded(() => {
      this.#machine.kick(index);
      this.#machine.runDeferred();
    });
    this.#collect();
  }

  /**
   * Sends one chain: `bytes` that the device may read and room for `replyBytes`. Fulfilled with what the device
   * says it wrote; rejects when it is reset or needs to be.
   */
  request(bytes: Uint8Array, replyBytes = 0, queue = 0): Promise<Uint8Array> {
    const { ring, pending } = this.#queue(queue);
    const address = this.#buffer(bytes.length + replyBytes);
    this.memory.write(address, bytes);
    const reply = address + bytes.length;
    const readable = bytes.length === 0 ? [] : [{ address, length: bytes.length }];
    const writable =
      replyBytes === 0 ? [] : [{ address: reply, length: replyBytes, writable: true }];
    const head = ring.add(...readable, ...writable);
    const answer = new Promise<Uint8Array>((resolve, reject) => {
      pending.set(head, { address: reply, resolve, reject });
    });
    this.ring(queue);
    if (!this.#machine.transport.active) this.#rejectAll("the device needs a reset");
    return answer;
  }

  /** Reads configuration space as a driver does: 1, 2 or 4 bytes. */
  readConfig(offset: number, sizeBytes: number): number {
    return this.#machine.fake.front.read(regs.CONFIG_OFFSET + offset, sizeBytes) >>> 0;
  }

  writeConfig(offset: number, sizeBytes: number, value: number): void {
    this.#machine.fake.front.write(regs.CONFIG_OFFSET + offset, sizeBytes, value);
    this.#guarded(() => this.#machine.deliver());
  }

  /** The driver resets the device; `start` may follow. */
  reset(): void {
    this.#rejectAll("the driver has reset the device");
    this.#guarded(() => this.#machine.reset());
    this.#queues = [];
  }

  /** Pauses the microVM, and lets it go on. */
  pause(): void {
    void this.#machine.transport.quiesce();
  }

  resume(): void {
    this.#guarded(() => this.#machine.transport.resume());
    this.#collect();
  }

  /** Ends the microVM (`onClose`). */
  close(): void {
    this.#rejectAll("the microVM has ended");
    this.#queues = [];
    this.#machine.device.close();
  }

  #queue(index: number): TestQueue {
    const queue = this.#queues[index];
    if (queue !== undefined) return queue;
    throw new EstaloError("ERR_ESTALO_STATE", `queue ${index} is not set up: call start()`);
  }

  #features(bits: readonly number[] | undefined): FeatureBits {
    if (bits === undefined) return this.#machine.offered();
    return featureBits([...RING_FEATURES, ...bits]);
  }

  /** Room for a chain's bytes, the oldest ones' after the last; tests have few in flight. */
  #buffer(sizeBytes: number): number {
    const end = this.memory.sizeBytes;
    if (this.#nextBuffer + sizeBytes > end) this.#nextBuffer = this.#buffersStart;
    const at = this.#nextBuffer;
    if (at + sizeBytes > end) {
      throw new EstaloError("ERR_ESTALO_STATE", `no room for ${sizeBytes} bytes: memoryBytes`);
    }
    this.#nextBuffer = alignUp(at + sizeBytes, BUFFER_ALIGN_BYTES);
    return at;
  }

  #collect(): void {
    for (const queue of this.#queues) {
      for (const { head, length } of queue.ring.takeUsed()) {
        queue.used++;
        const pending = queue.pending.get(head);
        queue.pending.delete(head);
        pending?.resolve(this.memory.read(pending.address, length));
      }
      if (queue.ring.eventIdx) queue.ring.setUsedEvent(queue.used);
    }
  }

  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    const failure = toEstaloError(error);
    this.failures.push(failure);
    void this.#machine.transport.fail(failure.message);
  }

  #rejectAll(why: string): void {
    const error = new EstaloError("ERR_ESTALO_STATE", why);
    for (const { pending } of this.#queues) {
      for (const { reject } of pending.values()) reject(error);
      pending.clear();
    }
  }
}
