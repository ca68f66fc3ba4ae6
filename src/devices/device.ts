/**
 * What a device is made of, and what it is given.
 *
 * A device has a *front*, its register machine, and a *back*, which does what the registers ask
 * for:
 *
 *     vCPU thread (any of them)                     device host thread
 *     ┌──────────────────────────┐   shared words   ┌──────────────────────────┐
 *     │ DeviceFront  read/write  │◀──── state ─────▶│ back: queues, bytes, I/O │
 *     │   under the state's lock │                  │                          │
 *     └────────────┬─────────────┘                  └────────────▲─────────────┘
 *                  └── post(event, value) ── exit ring, eventfd ──┘
 *
 * Every vCPU thread has its own instance of each front over the same shared words, so a front keeps
 * *all* its state there. The bus holds the device's lock (word 0) around every access: fronts run
 * one at a time for each device and need no atomics among themselves. The back never takes the
 * lock; a word that both sides touch has one writer, or is changed by `Atomics` only, and its table
 * says which.
 *
 * No access waits for another thread, with one exception that VirtIO forces (see
 * virtio/mmio-transport.ts), and one that a user's device may ask for (mailbox.ts).
 */

/** Index of the lock in every device's shared words. */
export const LOCK_WORD = 0;
/** First word that belongs to the device itself. */
export const FIRST_STATE_WORD = 1;

/** What a front is given, on each vCPU thread. */
export interface FrontContext {
  /** The device's shared words; word 0 is the bus's lock. */
  readonly state: Int32Array;
  /**
   * Tells the back that something happened, in order, without waiting. `event` is the device's own
   * code (0 to 65,535), `value` any u32. Posts are hints as well as data: the back may look at the
   * state first.
   */
  post(event: number, value: number): void;
  /** Pulses the device's interrupt line (irqfd, edge). Not for virtio devices: their backs do (ADR 16). */
  raiseIrq(): void;
  /**
   * Blocks this vCPU until `state[word]` differs from `value`; returns at once when the vCPU is
   * asked to leave the guest (pause, stop). The exception named above; nothing else may call it.
   */
  waitWhile(word: number, value: number): void;
  /**
   * Blocks this vCPU until `state[word]` differs from `value`, also when it is asked to leave the guest, but
   * for a while only. Whether it differs. For the synchronous back of a user's device (mailbox.ts).
   */
  waitAnswer(word: number, value: number): boolean;
}

/** A register machine: offsets are relative to the device's window; sizes are 1, 2 or 4 bytes. */
export interface DeviceFront {
  /**
   * The value read, as a u32 (only `sizeBytes` low bytes count). Reading an unknown offset gives 0.
   */
  read(offset: number, sizeBytes: number): number;
  /** A write of a u32 (already masked to `sizeBytes`). Writing an unknown offset does nothing. */
  write(offset: number, sizeBytes: number, value: number): void;
}

/** The device's interrupt line, as a back sees it. */
export interface IrqLine {
  /** Pulses the line (edge). */
  raise(): void;
}

/** Which front class serves a window; each vCPU thread builds its instances from this. */
export type FrontKind =
  | "serial-16550"
  | "i8042"
  | "report"
  | "pvpanic"
  | "acpi-power"
  | "virtio-mmio"
  | "mailbox";

/** Takes the lock in word 0: a compare-and-swap, then a futex wait when another vCPU holds it. */
export function lockState(state: Int32Array): void {
  // 0 free, 1 held, 2 held with waiters.
  if (Atomics.compareExchange(state, LOCK_WORD, 0, 1) === 0) return;
  while (Atomics.exchange(state, LOCK_WORD, 2) !== 0) Atomics.wait(state, LOCK_WORD, 2);
}

/** Releases the lock and wakes one waiter if there may be one. */
export function unlockState(state: Int32Array): void {
  if (Atomics.exchange(state, LOCK_WORD, 0) === 2) Atomics.notify(state, LOCK_WORD, 1);
}
