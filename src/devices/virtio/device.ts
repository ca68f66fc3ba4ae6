/**
 * The contract between a virtio device's back and what surrounds it (transport, actor, tests).
 *
 * A back is a pure machine: it is told when its driver is ready, when a queue was rung and when to
 * forget everything; it answers by using queues and by asking its host for an interrupt. It owns no
 * thread, no descriptor and no timer. Specification: VirtIO 1.2 §§ 2, 4.2, 5.
 */
import type { GuestMemory } from "../../native/guest-memory.js";
import type { VirtQueue } from "./queue.js";

/** 64 feature bits as two u32 words, so that no BigInt is needed. */
export interface FeatureBits {
  /** Bits 0 to 31. */
  readonly low: number;
  /** Bits 32 to 63. */
  readonly high: number;
}

/** What a back may ask of its surroundings. */
export interface VirtioHost {
  readonly memory: GuestMemory;
  /**
   * A used buffer was published on this queue and its driver wants to know: ISR bit 0, then the
   * line.
   */
  interruptQueue(queueIndex: number): void;
  /**
   * Has `processQueue` called now, as if the driver had rung: for a device that left chains in its
   * queue and can take them again. Dropped during a pause and while no driver is ready, as
   * doorbells are. Raises nothing, unless called by `processQueue` or `activate`: what the device throws is
   * its failure.
   */
  notifyQueue(queueIndex: number): void;
  /** As `notifyQueue`, once and after other devices had their turn: for a driver that keeps one busy. */
  deferQueue(queueIndex: number): void;
  /** Replaces the device's configuration space, bumps its generation, ISR bit 1, then the line. */
  updateConfig(bytes: Uint8Array): void;
  /** As `updateConfig` without a word to the driver: for what follows from its own requests. */
  storeConfig(bytes: Uint8Array): void;
  /**
   * The driver broke a rule that leaves the queues unusable: DEVICE_NEEDS_RESET, config interrupt,
   * an event.
   */
  needsReset(reason: string): void;
  /**
   * The device's own code failed outside a call of the host's, in a promise for example: as if it had
   * thrown.
   */
  deviceFailed(error: unknown): void;
}

/** A virtio device's back. */
export interface VirtioBack {
  /** Device type as in VirtIO 1.2 § 5: 2 block, 4 entropy, … */
  readonly deviceType: number;
  /** Features offered, VERSION_1 included. */
  readonly features: FeatureBits;
  /** Maximum size of each queue, in entries. */
  readonly queueSizes: readonly number[];
  /** Initial configuration space, at most 256 bytes. */
  readonly config: Uint8Array;
  /**
   * Bytes of configuration space that the driver may write, `start` to before `end`; absent: none.
   */
  readonly writableConfig?: { readonly start: number; readonly end: number };
  /**
   * DRIVER_OK was set: the queues are checked and ready, `undefined` where the driver set none up.
   * Called once between two resets.
   */
  activate(accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void;
  /**
   * The driver rang (or a pause ended): take what is available. Never called before `activate`,
   * during a pause or for a queue that is not set up. A guest's fault may be thrown: it ends in
   * `needsReset`; anything else that is thrown fails the device.
   */
  processQueue(queueIndex: number): void;
  /** The driver wrote to configuration space. Absent where the device has no writable field. */
  configWritten?(offset: number, sizeBytes: number, value: number): void;
  /**
   * Forget the driver: no queue is touched after the returned promise is fulfilled (I/O in flight
   * has ended). `undefined` means: at once. Never rejects; may be called again.
   */
  reset(): Promise<void> | undefined;
  /** As `reset` for a pause: what is in flight has ended and was published; everything is kept. */
  quiesce(): Promise<void> | undefined;
}
