/**
 * Which front answers which address, for port I/O and MMIO alike: one bus for each space and vCPU
 * thread.
 *
 * Few windows (tens), accesses come in runs: the last hit is tried first, then a linear search. The
 * bus holds the device's lock around each access, so fronts on several vCPU threads run one at a
 * time per device. An access that is not wholly inside one window, or not of 1, 2 or 4 bytes, is
 * unclaimed: it reads 0, writes nothing and is counted. Eight-byte MMIO accesses are split in two
 * by the caller.
 */
import { EstaloError } from "../errors.js";
import { hex } from "../units.js";
import { type DeviceFront, lockState, unlockState } from "./device.js";

/** A device's place on a bus. */
export interface BusWindow {
  /** First address: a port number or a guest-physical address. */
  readonly start: number;
  readonly sizeBytes: number;
  readonly front: DeviceFront;
  /** The device's shared words, for its lock. */
  readonly state: Int32Array;
}

/** `value` cut to its low `sizeBytes` bytes, as an unsigned number. */
function maskToSize(value: number, sizeBytes: number): number {
  return sizeBytes === 4 ? value >>> 0 : value & ((1 << (8 * sizeBytes)) - 1);
}

/** One address space as one vCPU thread sees it. */
export class Bus {
  /** Accesses that no device answered. */
  unclaimedReads = 0;
  unclaimedWrites = 0;

  readonly #windows: BusWindow[] = [];
  #last: BusWindow | undefined;

  constructor(windows: readonly BusWindow[] = []) {
    for (const window of windows) this.add(window);
  }

  /** Adds a window; raises ERR_ESTALO_BUG if it overlaps another. */
  add(window: BusWindow): void {
    const end = window.start + window.sizeBytes;
    const other = this.#windows.find((w) => window.start < w.start + w.sizeBytes && w.start < end);
    if (other !== undefined) {
      throw new EstaloError(
        "ERR_ESTALO_BUG",
        `bus windows at ${hex(window.start)} and ${hex(other.start)} overlap`,
      );
    }
    this.#windows.push(window);
  }

  /** Removes the window that starts at `start`; does nothing if there is none. */
  remove(start: number): void {
    const index = this.#windows.findIndex((w) => w.start === start);
    if (index >= 0) this.#windows.splice(index, 1);
    this.#last = undefined;
  }

  /** The value at `address`, zero-extended from `sizeBytes` (1, 2 or 4). */
  read(address: number, sizeBytes: number): number {
    const window = this.#find(address, sizeBytes);
    if (window === undefined) {
      this.unclaimedReads++;
      return 0;
    }
    lockState(window.state);
    try {
      return maskToSize(window.front.read(address - window.start, sizeBytes), sizeBytes);
    } finally {
      unlockState(window.state);
    }
  }

  /** Writes the low `sizeBytes` (1, 2 or 4) bytes of `value` to `address`. */
  write(address: number, sizeBytes: number, value: number): void {
    const window = this.#find(address, sizeBytes);
    if (window === undefined) {
      this.unclaimedWrites++;
      return;
    }
    lockState(window.state);
    try {
      window.front.write(address - window.start, sizeBytes, maskToSize(value, sizeBytes));
    } finally {
      unlockState(window.state);
    }
  }

  #find(address: number, sizeBytes: number): BusWindow | undefined {
    if (sizeBytes !== 1 && sizeBytes !== 2 && sizeBytes !== 4) return undefined;
    const end = address + sizeBytes;
    const last = this.#last;
    if (last !== undefined && address >= last.start && end <= last.start + last.sizeBytes) {
      return last;
    }
    for (const window of this.#windows) {
      if (address >= window.start && end <= window.start + window.sizeBytes) {
        this.#last = window;
        return window;
      }
    }
    return undefined;
  }
}
