/**
 * The host's side of memory that is plugged: which blocks count as guest memory, here and in the addon, and which
 * parts of the region KVM has in a memory slot. A slot without a plugged block is taken from KVM: the guest finds
 * nothing there.
 */
import { PLUGGED_SLOT_FIRST } from "../../boot/layout.js";
import type { MemoryPlugger } from "../../devices/backend.js";
import type { NativeGuestMapping, NativeVm } from "../../native/binding.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import type { Gpa } from "../../units.js";

/** Where the region is and how it is divided, in bytes. */
export interface PluggedLayout {
  readonly start: Gpa;
  readonly blockBytes: number;
  readonly slotBytes: number;
  readonly sizeBytes: number;
}

/** See the file's header. Thread: the device host's. */
export class PluggedMemory implements MemoryPlugger {
  readonly #vm: Pick<NativeVm, "setMemorySlot" | "removeMemorySlot">;
  readonly #mapping: NativeGuestMapping;
  readonly #memory: GuestMemory;
  readonly #layout: PluggedLayout;
  /** Plugged blocks of each slot. */
  readonly #counts: Uint32Array;

  constructor(
    vm: Pick<NativeVm, "setMemorySlot" | "removeMemorySlot">,
    mapping: NativeGuestMapping,
    memory: GuestMemory,
    layout: PluggedLayout,
  ) {
    this.#vm = vm;
    this.#mapping = mapping;
    this.#memory = memory;
    this.#layout = layout;
    this.#counts = new Uint32Array(layout.sizeBytes / layout.slotBytes);
  }

  plug(start: Gpa, sizeBytes: number): boolean {
    const added: number[] = [];
    try {
      for (const slot of this.#slotsOf(start, sizeBytes)) {
        if (this.#counts[slot] > 0) continue;
        const { slotBytes } = this.#layout;
        const slotStart = this.#layout.start + slot * slotBytes;
        this.#vm.setMemorySlot(PLUGGED_SLOT_FIRST + slot, slotStart, slotBytes);
        added.push(slot);
      }
    } catch {
      // The host has no memory for it, or KVM no slot: the driver is told no, and may ask again.
      for (const slot of added) this.#vm.removeMemorySlot(PLUGGED_SLOT_FIRST + slot);
      return false;
    }
    this.#count(start, sizeBytes, 1);
    this.#mapping.setPlugged(start, sizeBytes, true);
    this.#memory.setPlugged(start, sizeBytes, true);
    return true;
  }

  unplug(start: Gpa, sizeBytes: number): boolean {
    const plugged = this.#count(start, sizeBytes, -1);
    this.#memory.setPlugged(start, sizeBytes, false);
    this.#mapping.setPlugged(start, sizeBytes, false);
    for (const slot of plugged) {
      if (this.#counts[slot] === 0) this.#vm.removeMemorySlot(PLUGGED_SLOT_FIRST + slot);
    }
    try {
      this.#mapping.discard(start, sizeBytes);
      return true;
    } catch {
      return false;
    }
  }

  /** Counts what becomes plugged or unplugged of the range; returns the slots in which something did. */
  #count(start: Gpa, sizeBytes: number, by: 1 | -1): Set<number> {
    const { blockBytes, slotBytes } = this.#layout;
    const touched = new Set<number>();
    for (let gpa = start; gpa < start + sizeBytes; gpa += blockBytes) {
      if (this.#memory.contains(gpa, blockBytes) === by > 0) continue;
      const slot = Math.floor((gpa - this.#layout.start) / slotBytes);
      this.#counts[slot] += by;
      touched.add(slot);
    }
    return touched;
  }

  *#slotsOf(start: Gpa, sizeBytes: number): Generator<number> {
    const { slotBytes } = this.#layout;
    const offset = start - this.#layout.start;
    for (let slot = Math.floor(offset / slotBytes); slot * slotBytes < offset + sizeBytes; slot++) {
      yield slot;
    }
  }
}
