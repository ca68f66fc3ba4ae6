/**
 * Several chains side by side, as a backend takes them in one call: the segments of all in two arrays, and for
 * each chain where its segments end. A chain's segments begin where those of the chain before it end.
 *
 *     ends       2        5      6
 *     segments   s0 s1 │ s2 s3 s4 │ s5 │
 *     chains     0       1          2
 */
import type { FrameSegments } from "../backend.js";
import type { DescriptorChain } from "./queue.js";

/** A table with room for a queue's chains; filled at its end, emptied from its start. */
export class ChainTable implements FrameSegments {
  readonly addresses: Float64Array;
  readonly lengths: Uint32Array;
  readonly ends: Uint32Array;
  /** Head and bytes of each chain. */
  readonly heads: Uint16Array;
  readonly bytes: Uint32Array;
  /** Index of the first chain that is left, and after the last one. */
  first = 0;
  end = 0;
  /** Bytes of the chains that are left. */
  totalBytes = 0;

  /** @param chains, segments - most at once; a chain has at most as many segments as its queue entries */
  constructor(chains: number, segments: number) {
    this.addresses = new Float64Array(segments);
    this.lengths = new Uint32Array(segments);
    this.ends = new Uint32Array(chains);
    this.heads = new Uint16Array(chains);
    this.bytes = new Uint32Array(chains);
  }

  /** Chains that are left. */
  get count(): number {
    return this.end - this.first;
  }

  /** Index of a chain's first segment. */
  startOf(chain: number): number {
    return chain === 0 ? 0 : this.ends[chain - 1];
  }

  /** Adds the chain's segments `first` to before `end`; false, and nothing done, when there is no room. */
  add(chain: DescriptorChain, first: number, end: number): boolean {
    if (this.first > 0) this.#moveToStart();
    const at = this.startOf(this.end);
    const count = end - first;
    if (this.end === this.ends.length || at + count > this.addresses.length) return false;
    let bytes = 0;
    for (let index = 0; index < count; index++) {
      this.addresses[at + index] = chain.addresses[first + index];
      this.lengths[at + index] = chain.lengths[first + index];
      bytes += chain.lengths[first + index];
    }
    this.ends[this.end] = at + count;
    this.heads[this.end] = chain.head;
    this.bytes[this.end] = bytes;
    this.totalBytes += bytes;
    this.end++;
    return true;
  }

  /** Takes the first chain off. */
  shift(): void {
    this.totalBytes -= this.bytes[this.first];
    this.first++;
    if (this.first === this.end) this.clear();
  }

  clear(): void {
    this.first = 0;
    this.end = 0;
    this.totalBytes = 0;
  }

  #moveToStart(): void {
    const { first, end } = this;
    const start = this.startOf(first);
    const last = this.startOf(end);
    this.addresses.copyWithin(0, start, last);
    this.lengths.copyWithin(0, start, last);
    this.heads.copyWithin(0, first, end);
    this.bytes.copyWithin(0, first, end);
    for (let chain = first; chain < end; chain++)
      this.ends[chain - first] = this.ends[chain] - start;
    this.first = 0;
    this.end = end - first;
  }
}
