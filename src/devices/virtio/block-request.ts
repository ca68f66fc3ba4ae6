/**
 * One block request, decoded: type, sector, data segments and the place of the status byte, however
 * the driver cut it into descriptors. Scratch, used again for each request. VirtIO 1.2 §§ 2.7.4,
 * 5.2.6.
 */
import { EstaloError } from "../../errors.js";
import type { GuestMemory } from "../../native/guest-memory.js";
import type { Gpa } from "../../units.js";
import * as regs from "./block.regs.js";
import { gather } from "./chain-io.js";
import type { DescriptorChain } from "./queue.js";

/** Most ranges in one DISCARD or WRITE_ZEROES. */
export const MAX_RANGES = 16;

/** What the driver is told of a backend's result (0 or more, or a negative errno). */
export function statusOf(result: number): number {
  if (result >= 0) return regs.STATUS_OK;
  return result === -regs.ERRNO_EOPNOTSUPP ? regs.STATUS_UNSUPP : regs.STATUS_IOERR;
}

/** First sector of the range at index `range` of a table of ranges. */
export function sectorOf(ranges: Uint32Array, range: number): number {
  const at = range * regs.RANGE_WORDS;
  return ranges[at] + ranges[at + 1] * 2 ** 32;
}

/** Scratch for one request after the other. */
export class BlockRequest {
  type = 0;
  /** First sector; inexact above 2^53, which is beyond every disk. */
  sector = 0;
  /** Device-readable bytes after the header: what an OUT carries. */
  outBytes = 0;
  /** Device-writable bytes before the status: what an IN wants. */
  inBytes = 0;
  /** Where the status byte goes; in RAM. */
  statusAddress: Gpa = 0;
  /** Segments of the data, within the chain's arrays: set by `selectOut` or `selectIn`. */
  first = 0;
  count = 0;
  /** Ranges of a DISCARD or WRITE_ZEROES, four words each as in the guest; see `readRanges`. */
  readonly ranges = new Uint32Array(MAX_RANGES * regs.RANGE_WORDS);

  readonly #memory: GuestMemory;
  readonly #chain: DescriptorChain;
  readonly #header = new Uint32Array(regs.HEADER_BYTES / 4);
  readonly #headerBytes = new Uint8Array(this.#header.buffer);
  readonly #rangeBytes = new Uint8Array(this.ranges.buffer);

  /** @param chain - the scratch that requests are decoded from */
  constructor(memory: GuestMemory, chain: DescriptorChain) {
    this.#memory = memory;
    this.#chain = chain;
  }

  /** Decodes the chain. Raises ERR_ESTALO_GUEST_FAULT if it has no room for header or status. */
  parse(): void {
    const chain = this.#chain;
    if (chain.readableBytes < regs.HEADER_BYTES || chain.writableBytes < regs.STATUS_BYTES) {
      throw new EstaloError(
        "ERR_ESTALO_GUEST_FAULT",
        `block request of ${chain.readableBytes} and ${chain.writableBytes} bytes`,
      );
    }
    const header = this.#header;
    if (chain.lengths[0] >= regs.HEADER_BYTES) {
      this.#memory.copyWords(chain.addresses[0], header, header.length);
    } else {
      const readable = { first: 0, end: chain.firstWritable, skip: 0 };
      gather(this.#memory, chain, readable, this.#headerBytes, regs.HEADER_BYTES);
    }
    this.type = header[regs.HEADER_TYPE_WORD];
    this.sector =
      header[regs.HEADER_SECTOR_LOW_WORD] + header[regs.HEADER_SECTOR_HIGH_WORD] * 2 ** 32;
    this.outBytes = chain.readableBytes - regs.HEADER_BYTES;
    this.inBytes = chain.writableBytes - regs.STATUS_BYTES;
    const last = chain.count - 1;
    this.statusAddress = chain.addresses[last] + chain.lengths[last] - regs.STATUS_BYTES;
    this.first = 0;
    this.count = 0;
  }

  /** Bytes that the request moves to or from the disk; 0 unless it is an IN or OUT. */
  get dataBytes(): number {
    if (this.type === regs.TYPE_IN) return this.inBytes;
    return this.type === regs.TYPE_OUT ? this.outBytes : 0;
  }

  /** Cuts the header off the readable segments and selects the rest. */
  selectOut(): void {
    const { addresses, lengths, firstWritable } = this.#chain;
    let skip = regs.HEADER_BYTES;
    let first = 0;
    while (first < firstWritable && lengths[first] <= skip) skip -= lengths[first++];
    if (first < firstWritable) {
      addresses[first] += skip;
      lengths[first] -= skip;
    }
    this.first = first;
    this.count = firstWritable - first;
  }

  /** Cuts the status off the writable segments and selects the rest. */
  selectIn(): void {
    const { lengths, firstWritable, count } = this.#chain;
    const last = count - 1;
    lengths[last] -= regs.STATUS_BYTES;
    this.first = firstWritable;
    this.count = (lengths[last] === 0 ? last : count) - firstWritable;
  }

  /**
   * Reads the ranges of a DISCARD or WRITE_ZEROES; returns how many, or -1 if their bytes are no
   * whole ranges.
   */
  readRanges(): number {
    const count = this.outBytes / regs.RANGE_BYTES;
    if (!Number.isInteger(count) || count < 1 || count > MAX_RANGES) return -1;
    const chain = this.#chain;
    const readable = { first: 0, end: chain.firstWritable, skip: regs.HEADER_BYTES };
    gather(this.#memory, chain, readable, this.#rangeBytes, this.outBytes);
    return count;
  }

  rangeSector(range: number): number {
    return sectorOf(this.ranges, range);
  }

  rangeSectors(range: number): number {
    return this.ranges[range * regs.RANGE_WORDS + regs.RANGE_SECTORS_WORD];
  }

  rangeFlags(range: number): number {
    return this.ranges[range * regs.RANGE_WORDS + regs.RANGE_FLAGS_WORD];
  }
}
