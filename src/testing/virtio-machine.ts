/**
 * A VirtIO device whole, without threads: front, shared words, transport and back, and a driver
 * that brings it up register by register as VirtIO 1.2 § 3.1.1 says. Posts reach the back at once,
 * unless held.
 */
import type { FeatureBits, VirtioBack, VirtioHost } from "../devices/virtio/device.js";
import * as regs from "../devices/virtio/mmio-transport.regs.js";
import { TransportBack } from "../devices/virtio/transport-back.js";
import type { GuestMemory } from "../native/guest-memory.js";
import { FakeFront } from "./fake-front.js";
import { RingDriver, type RingDriverOptions } from "./ring-driver.js";

/** See the file's header. */
export class VirtioMachine<Device extends VirtioBack> {
  readonly memory: GuestMemory;
  readonly fake = new FakeFront("virtio-mmio");
  readonly transport: TransportBack<Device>;
  /** Reasons given to `onNeedsReset`. */
  readonly faults: string[] = [];
  onNeedsReset: (reason: string) => void = (reason) => this.faults.push(reason);
  /** What the device's code failed with; thrown unless somebody takes it. */
  onFailed: (error: unknown) => void = (error) => {
    throw error;
  };
  /** Tasks that asked for their turn later. */
  readonly deferred: (() => void)[] = [];

  constructor(memory: GuestMemory, createDevice: (host: VirtioHost) => Device) {
    this.memory = memory;
    this.transport = new TransportBack(
      this.fake.state,
      {
        memory,
        irq: this.fake.irq,
        onNeedsReset: (reason) => this.onNeedsReset(reason),
        onFailed: (error) => this.onFailed(error),
        defer: (task) => this.deferred.push(task),
      },
      createDevice,
    );
    this.fake.onWait = () => this.deliver();
  }

  get device(): Device {
    return this.transport.device;
  }

  /** Hands all posts to the back. */
  deliver(): void {
    for (const { event, value } of this.fake.takePosts()) this.transport.handleEvent(event, value);
  }

  /** Runs deferred tasks until there is none; at most `limit`. */
  runDeferred(limit = 100): void {
    for (let turn = 0; turn < limit && this.deferred.length > 0; turn++) this.deferred.shift()?.();
  }

  write(offset: number, value: number): void {
    this.fake.write32(offset, value);
    this.deliver();
  }

  read(offset: number): number {
    return this.fake.read32(offset);
  }

  get status(): number {
    return this.read(regs.STATUS_OFFSET);
  }

  /** Features that the device offers. */
  offered(): FeatureBits {
    this.write(regs.DEVICE_FEATURES_SEL_OFFSET, 0);
    const low = this.read(regs.DEVICE_FEATURES_OFFSET);
    this.write(regs.DEVICE_FEATURES_SEL_OFFSET, 1);
    return { low, high: this.read(regs.DEVICE_FEATURES_OFFSET) };
  }

  /** From status 0 to FEATURES_OK, with these features (default: all that are offered). */
  negotiate(features: FeatureBits = this.offered()): void {
    this.write(regs.STATUS_OFFSET, regs.STATUS_ACKNOWLEDGE_MASK);
    this.write(regs.STATUS_OFFSET, this.status | regs.STATUS_DRIVER_MASK);
    this.write(regs.DRIVER_FEATURES_SEL_OFFSET, 0);
    this.write(regs.DRIVER_FEATURES_OFFSET, features.low);
    this.write(regs.DRIVER_FEATURES_SEL_OFFSET, 1);
    this.write(regs.DRIVER_FEATURES_OFFSET, features.high);
    this.write(regs.STATUS_OFFSET, this.status | regs.STATUS_FEATURES_OK_MASK);
  }

  /** Tells the device where a queue is. */
  setUpQueue(index: number, ring: RingDriver): void {
    this.write(regs.QUEUE_SEL_OFFSET, index);
    this.write(regs.QUEUE_NUM_OFFSET, ring.size);
    const halves: [number, number][] = [
      [regs.QUEUE_DESC_LOW_OFFSET, ring.descriptorTable],
      [regs.QUEUE_DRIVER_LOW_OFFSET, ring.availRing],
      [regs.QUEUE_DEVICE_LOW_OFFSET, ring.usedRing],
    ];
    for (const [offset, address] of halves) {
      this.write(offset, address % 2 ** 32);
      this.write(offset + 4, Math.floor(address / 2 ** 32));
    }
    this.write(regs.QUEUE_READY_OFFSET, 1);
  }

  driverOk(): void {
    this.write(regs.STATUS_OFFSET, this.status | regs.STATUS_DRIVER_OK_MASK);
  }

  reset(): void {
    this.write(regs.STATUS_OFFSET, 0);
  }

  /** The whole start-up with queue 0; returns its driver. */
  start(features?: FeatureBits, options: RingDriverOptions = {}): RingDriver {
    this.negotiate(features);
    const accepted = features ?? this.offered();
    const eventIdx = ((accepted.low >>> regs.FEATURE_EVENT_IDX_BIT) & 1) !== 0;
    const ring = new RingDriver(this.memory, { eventIdx, ...options });
    this.setUpQueue(0, ring);
    this.driverOk();
    return ring;
  }

  /** Rings queue 0's doorbell. */
  kick(queueIndex = 0): void {
    this.transport.notifyQueue(queueIndex);
  }
}
