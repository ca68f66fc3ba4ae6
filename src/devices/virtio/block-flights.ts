/**
 * Requests in flight, by tag: what a completion needs to know, in columns, so that none is allocated.
 */
import type { DiskOperation } from "../backend.js";
import { RANGE_WORDS } from "./block.regs.js";
import { MAX_RANGES } from "./block-request.js";

/** As many tags as the backend takes requests at once. */
export class BlockFlights {
  /** Per tag. `usedBytes`: what the used entry reports on success, and on failure. */
  readonly head: Uint16Array;
  readonly operation: Uint8Array;
  readonly statusAddress: Float64Array;
  readonly dataBytes: Float64Array;
  readonly startedUs: Float64Array;
  /** Ranges of the tag's DISCARD or WRITE_ZEROES: how many, and the next to do. */
  readonly rangeCount: Uint8Array;
  readonly nextRange: Uint8Array;

  // Tags not in use, as a stack.
  readonly #free: Uint16Array;
  #freeCount: number;
  // Made when the first range arrives: most disks never see one.
  #ranges: Uint32Array | undefined;

  constructor(depth: number) {
    this.head = new Uint16Array(depth);
    this.operation = new Uint8Array(depth);
    this.statusAddress = new Float64Array(depth);
    this.dataBytes = new Float64Array(depth);
    this.startedUs = new Float64Array(depth);
    this.rangeCount = new Uint8Array(depth);
    this.nextRange = new Uint8Array(depth);
    this.#free = Uint16Array.from({ length: depth }, (_, index) => depth - 1 - index);
    this.#freeCount = depth;
  }

  get full(): boolean {
    return this.#freeCount === 0;
  }

  get count(): number {
    return this.#free.length - this.#freeCount;
  }

  /** Takes a tag; there must be one. */
  take(head: number, operation: DiskOperation, statusAddress: number, dataBytes: number): number {
    const tag = this.#free[--this.#freeCount];
    this.head[tag] = head;
    this.operation[tag] = operation;
    this.statusAddress[tag] = statusAddress;
    this.dataBytes[tag] = dataBytes;
    this.rangeCount[tag] = 0;
    this.nextRange[tag] = 0;
    return tag;
  }

  release(tag: number): void {
    this.#free[this.#freeCount++] = tag;
  }

  /** Keeps a copy of a request's ranges. */
  setRanges(tag: number, ranges: Uint32Array, count: number): void {
    this.#ranges ??= new Uint32Array(this.head.length * MAX_RANGES * RANGE_WORDS);
    const words = ranges.subarray(0, count * RANGE_WORDS);
    this.#ranges.set(words, tag * MAX_RANGES * RANGE_WORDS);
    this.rangeCount[tag] = count;
  }

  /** A word of the tag's range: 0 and 1 sector, 2 number of sectors, 3 flags. */
  rangeWord(tag: number, range: number, word: number): number {
    return this.#ranges?.[(tag * MAX_RANGES + range) * RANGE_WORDS + word] ?? 0;
  }
}
