/**
 * Pages of guest memory on their way back to the host: single pages and ranges in, few whole ranges out.
 *
 * A guest gives pages one by one, mostly in order. What follows on what came before, in either direction,
 * becomes one range; each range costs the host a system call.
 */
import type { GuestMemory } from "../../native/guest-memory.js";
import type { Gpa } from "../../units.js";
import type { PageReclaimer } from "../backend.js";
import { PAGE_BYTES } from "./balloon.regs.js";

/** Ranges in one call. */
const RANGES = 256;

/** Collects pages; `flush` gives them back. */
export class PageRanges {
  /** Bytes that the host took back, and pages that lie in no RAM or that it refused. */
  freedBytes = 0;
  failures = 0;

  readonly #memory: GuestMemory;
  readonly #reclaimer: PageReclaimer;
  readonly #starts = new Float64Array(RANGES);
  readonly #lengths = new Float64Array(RANGES);
  #count = 0;

  constructor(memory: GuestMemory, reclaimer: PageReclaimer) {
    this.#memory = memory;
    this.#reclaimer = reclaimer;
  }

  /** Adds the whole pages of a range; what lies in no RAM is counted and left out. */
  add(address: Gpa, bytes: number): void {
    const start = Math.ceil(address / PAGE_BYTES) * PAGE_BYTES;
    const length = Math.floor((address + bytes) / PAGE_BYTES) * PAGE_BYTES - start;
    if (length <= 0) return;
    if (!this.#memory.contains(start, length)) {
      this.failures++;
      return;
    }
    const last = this.#count - 1;
    const inRegion = (from: Gpa, size: number) => this.#memory.contains(from, size);
    if (last >= 0) {
      const [first, size] = [this.#starts[last], this.#lengths[last]];
      if (first + size === start && inRegion(first, size + length)) {
        this.#lengths[last] += length;
        return;
      }
      if (start + length === first && inRegion(start, size + length)) {
        this.#starts[last] = start;
        this.#lengths[last] += length;
        return;
      }
    }
    if (this.#count === RANGES) this.flush();
    this.#starts[this.#count] = start;
    this.#lengths[this.#count++] = length;
  }

  /** Gives everything back that was added. */
  flush(): void {
    if (this.#count === 0) return;
    let asked = 0;
    for (let range = 0; range < this.#count; range++) asked += this.#lengths[range];
    const freed = this.#reclaimer.reclaim(this.#starts, this.#lengths, this.#count);
    this.#count = 0;
    this.freedBytes += freed;
    if (freed < asked) this.failures++;
  }
}
