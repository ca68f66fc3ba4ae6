/**
 * Requests in flight, by tag: what a completion needs to know, in columns, so that none is
 * allocated.
 */
import { MIB } from "../../units.js";
import type { DiskOperation } from "../backend.js";
import { RANGE_FLAGS_WORD, RANGE_SECTORS_WORD, RANGE_WORDS } from "./block.regs.js";
import { MAX_RANGES, sectorOf } from "./block-request.js";

/** Data in flight, but for the rest of a request: other disks wait behind it for the same threads of the host's. */
const BYTES_MAX = 64 * MIB;

/** As many tags as the backend takes requests at once. */
export class BlockFlights {
  /** Per tag: the chain's head, DISK_…, where its status goes, bytes of data, when it started. */
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
  #bytes = 0;
  // Made when the first range arrives: most disks never see one.
  #ranges = new Uint32Array(0);

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
    return this.#freeCount === 0 || this.#bytes >= BYTES_MAX;
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
    this.#bytes += dataBytes;
    this.rangeCount[tag] = 0;
    this.nextRange[tag] = 0;
    return tag;
  }

  release(tag: number): void {
    this.#free[this.#freeCount++] = tag;
    this.#bytes -= this.dataBytes[tag];
  }

  /** Keeps a copy of a request's ranges. */
  setRanges(tag: number, ranges: Uint32Array, count: number): void {
    const tagWords = MAX_RANGES * RANGE_WORDS;
    if (this.#ranges.length === 0) this.#ranges = new Uint32Array(this.head.length * tagWords);
    this.#ranges.set(ranges.subarray(0, count * RANGE_WORDS), tag * tagWords);
    this.rangeCount[tag] = count;
  }

  rangeSector(tag: number, range: number): number {
    return sectorOf(this.#ranges, tag * MAX_RANGES + range);
  }

  rangeSectors(tag: number, range: number): number {
    return this.#ranges[(tag * MAX_RANGES + range) * RANGE_WORDS + RANGE_SECTORS_WORD];
  }

  rangeFlags(tag: number, range: number): number {
    return this.#ranges[(tag * MAX_RANGES + range) * RANGE_WORDS + RANGE_FLAGS_WORD];
  }
}
