/**
 * Memory that is plugged and unplugged: the host says how much the guest is to have, the guest asks for blocks
 * of a region and gives blocks back until it has that.
 *
 *     ├─ plugged ─┤░░░░├─ plugged ─┤░░░░░░░░░░░░┊                   │
 *     start                                     usable              end of the region
 *
 * Blocks are plugged within the usable part, which grows with what was asked for, in whole slots, and shrinks
 * when everything is unplugged. Giving memory back takes the host time: it is done a slice in a turn, and the
 * request is answered when all of it is done. A reset leaves blocks as they are. Specification: VirtIO 1.2
 * § 5.15.
 */
import { alignUp, MIB } from "../../units.js";
import type { MemoryPlugger } from "../backend.js";
import { gatherReadable, scatter } from "./chain-io.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { featureBits, hasFeature, RING_FEATURES } from "./features.js";
import * as regs from "./mem.regs.js";
import {
  countRequest,
  createMemMetrics,
  type MemRequest,
  type MemState,
  runsOf,
} from "./mem.state.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

/** How a memory device is made; all sizes in bytes. */
export interface MemOptions {
  readonly plugger: MemoryPlugger;
  /** Of the region, a multiple of `blockBytes`. */
  readonly start: number;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** A multiple of `blockBytes`, of which `sizeBytes` is one. */
  readonly slotBytes: number;
  /** Microseconds of a monotonic clock. */
  readonly nowUs: () => number;
}

const QUEUE_SIZE = 256;
const REQUEST_QUEUE = 0;
/** Given back in one turn; more only where one block is. */
const SLICE_BYTES = 128 * MIB;

const REQUEST_NAMES: readonly MemRequest[] = ["plug", "unplug", "unplug_all", "state"];

/** Blocks on their way back to the host. */
interface Unplugging {
  readonly request: MemRequest;
  readonly sinceUs: number;
  block: number;
  readonly endBlock: number;
  /** The chain to answer; `undefined` after a reset. */
  head: number | undefined;
}

/** Back of the memory device. */
export class VirtioMem implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features = featureBits([...RING_FEATURES, regs.FEATURE_UNPLUGGED_INACCESSIBLE_BIT]);
  readonly queueSizes = [QUEUE_SIZE];
  readonly config = new Uint8Array(regs.CONFIG_BYTES);
  readonly metrics = createMemMetrics();
  pluggedBytes = 0;
  requestedBytes = 0;

  readonly #host: VirtioHost;
  readonly #options: MemOptions;
  /** One for each block of the region. */
  readonly #plugged: Uint8Array;
  readonly #view = new DataView(this.config.buffer);
  readonly #chain = new DescriptorChain(QUEUE_SIZE);
  readonly #request = new Uint8Array(regs.REQUEST_BYTES);
  readonly #requestView = new DataView(this.#request.buffer);
  readonly #response = new Uint8Array(regs.RESPONSE_BYTES);
  readonly #responseView = new DataView(this.#response.buffer);
  #usableBytes = 0;
  #unplugging: Unplugging | undefined;
  #queue: VirtQueue | undefined;

  constructor(host: VirtioHost, options: MemOptions) {
    this.#host = host;
    this.#options = options;
    this.#plugged = new Uint8Array(options.sizeBytes / options.blockBytes);
    this.#set(regs.CONFIG_BLOCK_SIZE_OFFSET, options.blockBytes);
    this.#set(regs.CONFIG_ADDRESS_OFFSET, options.start);
    this.#set(regs.CONFIG_REGION_SIZE_OFFSET, options.sizeBytes);
  }

  /** How much the guest is to have from now on: whole blocks, at most the region (checked by the caller). */
  setRequested(sizeBytes: number): void {
    this.requestedBytes = sizeBytes;
    this.#set(regs.CONFIG_REQUESTED_SIZE_OFFSET, sizeBytes);
    this.#setUsable(Math.max(this.#usableBytes, alignUp(sizeBytes, this.#options.slotBytes)));
    this.#host.updateConfig(this.config);
  }

  activate(accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    if (hasFeature(accepted, regs.FEATURE_UNPLUGGED_INACCESSIBLE_BIT)) {
      this.#queue = queues[REQUEST_QUEUE];
    } else {
      this.#host.needsReset("the driver would touch memory that is not plugged");
    }
  }

  processQueue(): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    this.metrics.queue_event_count++;
    try {
      this.#takeAll(queue);
    } finally {
      if (queue.publish()) this.#host.interruptQueue(REQUEST_QUEUE);
    }
  }

  /** What is on its way back goes on when there is a driver again, before its first request. */
  reset(): undefined {
    this.#queue = undefined;
    if (this.#unplugging !== undefined) this.#unplugging.head = undefined;
  }

  quiesce(): undefined {}

  /** The device's record for a snapshot. */
  save(): MemState {
    const { start, sizeBytes, blockBytes, slotBytes } = this.#options;
    const work = this.#unplugging;
    return {
      version: 1,
      ...{ start, sizeBytes, blockBytes, slotBytes },
      requestedBytes: this.requestedBytes,
      usableBytes: this.#usableBytes,
      plugged: runsOf(this.#plugged),
      unplugging: work && {
        request: work.request,
        block: work.block,
        endBlock: work.endBlock,
        head: work.head,
      },
    };
  }

  #takeAll(queue: VirtQueue): void {
    let budget = queue.size;
    do {
      queue.disableNotifications();
      while (budget > 0) {
        let isTurnOver = true;
        if (this.#unplugging !== undefined) this.#unplugSlice(queue, this.#unplugging);
        else {
          if (!queue.next(this.#chain)) break;
          budget--;
          isTurnOver = this.#serve(queue);
        }
        // One slice or one plug, and others have their turn before the next.
        if (isTurnOver) {
          this.#host.deferQueue(REQUEST_QUEUE);
          return;
        }
      }
      if (budget === 0) {
        this.#host.deferQueue(REQUEST_QUEUE);
        return;
      }
    } while (queue.enableNotifications());
  }

  /** Serves the request in the scratch; true: it was a plug, which takes the host time. */
  #serve(queue: VirtQueue): boolean {
    const { head } = this.#chain;
    const bytes = gatherReadable(this.#host.memory, this.#chain, 0, this.#request);
    const request = REQUEST_NAMES[this.#requestView.getUint16(regs.REQUEST_TYPE_OFFSET, true)];
    const isWhole = bytes === regs.REQUEST_BYTES || (request === "unplug_all" && bytes >= 8);
    if (request === undefined || !isWhole || this.#chain.writableBytes < regs.RESPONSE_BYTES) {
      this.metrics.queue_event_fails++;
      this.#answer(queue, head, regs.RESPONSE_ERROR);
      return false;
    }
    const sinceUs = this.#options.nowUs();
    const answer = this.#carryOut(request, head, sinceUs);
    if (answer === undefined) return false;
    countRequest(
      this.metrics,
      request,
      answer !== regs.RESPONSE_ACK,
      this.#options.nowUs() - sinceUs,
    );
    this.#answer(queue, head, answer);
    return request === "plug";
  }

  /** The response's type; `undefined`: it comes when the blocks are unplugged. */
  #carryOut(request: MemRequest, head: number, sinceUs: number): number | undefined {
    this.#responseView.setUint16(regs.RESPONSE_STATE_OFFSET, 0, true);
    if (request === "unplug_all") {
      // From here on it may grow again, but not beyond what is asked for.
      this.#setUsable(alignUp(this.requestedBytes, this.#options.slotBytes));
      this.#unplugging = { request, sinceUs, block: 0, endBlock: this.#plugged.length, head };
      return undefined;
    }
    const { start, blockBytes } = this.#options;
    // Inexact above 2^53, which is far outside.
    const address = Number(this.#requestView.getBigUint64(regs.REQUEST_ADDRESS_OFFSET, true));
    const count = this.#requestView.getUint16(regs.REQUEST_BLOCKS_OFFSET, true);
    const block = (address - start) / blockBytes;
    const isInside = block >= 0 && (block + count) * blockBytes <= this.#usableBytes;
    if (!Number.isInteger(block) || count === 0 || !isInside) return regs.RESPONSE_ERROR;
    const blocks = this.#plugged.subarray(block, block + count);
    if (request === "state") return this.#tellState(blocks);
    if (request === "plug") return this.#plug(block, blocks);
    if (blocks.includes(0)) return regs.RESPONSE_ERROR;
    this.#unplugging = { request, sinceUs, block, endBlock: block + count, head };
    return undefined;
  }

  #tellState(blocks: Uint8Array): number {
    const isSome = blocks.includes(1);
    const isAll = !blocks.includes(0);
    const whole = isAll ? regs.STATE_PLUGGED : regs.STATE_UNPLUGGED;
    const state = isSome && !isAll ? regs.STATE_MIXED : whole;
    this.#responseView.setUint16(regs.RESPONSE_STATE_OFFSET, state, true);
    return regs.RESPONSE_ACK;
  }

  #plug(block: number, blocks: Uint8Array): number {
    if (blocks.includes(1)) return regs.RESPONSE_ERROR;
    const { start, blockBytes, plugger } = this.#options;
    const bytes = blocks.length * blockBytes;
    if (this.pluggedBytes + bytes > this.requestedBytes) return regs.RESPONSE_NACK;
    if (!plugger.plug(start + block * blockBytes, bytes)) return regs.RESPONSE_NACK;
    blocks.fill(1);
    this.metrics.plug_bytes += bytes;
    this.#setPlugged(this.pluggedBytes + bytes);
    return regs.RESPONSE_ACK;
  }

  /** Unplugs as much as one turn takes; the request is answered with the rest. */
  #unplugSlice(queue: VirtQueue, work: Unplugging): void {
    const { start, blockBytes, plugger } = this.#options;
    const first = this.#plugged.indexOf(1, work.block);
    if (first >= 0 && first < work.endBlock) {
      const most = Math.max(1, Math.floor(SLICE_BYTES / blockBytes));
      const end = Math.min(first + most, work.endBlock);
      const blocks = this.#plugged.subarray(first, end);
      const plugged = blocks.reduce((sum, one) => sum + one, 0) * blockBytes;
      blocks.fill(0);
      if (!plugger.unplug(start + first * blockBytes, blocks.length * blockBytes)) {
        this.metrics.unplug_discard_fails++;
      }
      this.metrics.unplug_bytes += plugged;
      this.#setPlugged(this.pluggedBytes - plugged);
      work.block = end;
      if (end < work.endBlock) return;
    }
    this.#unplugging = undefined;
    countRequest(this.metrics, work.request, false, this.#options.nowUs() - work.sinceUs);
    // The chain is still the one it came with: nothing is taken from the queue meanwhile.
    if (work.head !== undefined) this.#answer(queue, work.head, regs.RESPONSE_ACK);
  }

  #answer(queue: VirtQueue, head: number, type: number): void {
    this.#responseView.setUint16(regs.RESPONSE_TYPE_OFFSET, type, true);
    queue.addUsed(head, scatter(this.#host.memory, this.#chain, this.#response));
  }

  #setPlugged(sizeBytes: number): void {
    this.pluggedBytes = sizeBytes;
    this.#set(regs.CONFIG_PLUGGED_SIZE_OFFSET, sizeBytes);
    this.#host.storeConfig(this.config);
  }

  #setUsable(sizeBytes: number): void {
    this.#usableBytes = sizeBytes;
    this.#set(regs.CONFIG_USABLE_SIZE_OFFSET, sizeBytes);
    this.#host.storeConfig(this.config);
  }

  #set(offset: number, value: number): void {
    this.#view.setBigUint64(offset, BigInt(value), true);
  }
}
