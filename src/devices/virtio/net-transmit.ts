/**
 * The transmit half of a network device: frames from the driver's queue to the backend, many in one call.
 */
import type { FrameDetour, NetBackend } from "../backend.js";
import type { RateLimiter } from "../rate-limiter.js";
import { gatherReadable } from "./chain-io.js";
import { ChainTable } from "./chain-table.js";
import type { VirtioHost } from "./device.js";
import * as regs from "./net.regs.js";
import type { NetMetrics } from "./net.state.js";
import { isSpoofed, START_BYTES } from "./net-frames.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

/** What the halves of all pairs of a device share. */
export interface NetShared {
  readonly host: VirtioHost;
  readonly metrics: NetMetrics;
  readonly mac: Uint8Array;
  isLinkUp: boolean;
  detour: FrameDetour | undefined;
}

/** See the file's header. */
export class NetTransmitter {
  /** Where frames go; another one for a pair that its driver does not use (any more). */
  backend: NetBackend;

  readonly #net: NetShared;
  readonly #limiter: RateLimiter | undefined;
  readonly #chain: DescriptorChain;
  /** Frames that were taken from the queue and not sent yet. */
  readonly #table: ChainTable;
  readonly #start = new Uint8Array(START_BYTES);
  #queue: VirtQueue | undefined;
  /** A chain behind those in the table has been used. */
  #isOvertaken = false;
  /** The limiter refused the frame that is next. */
  #isThrottled = false;

  constructor(
    net: NetShared,
    backend: NetBackend,
    queueSize: number,
    limiter: RateLimiter | undefined,
  ) {
    this.#net = net;
    this.backend = backend;
    this.#limiter = limiter;
    this.#chain = new DescriptorChain(queueSize);
    this.#table = new ChainTable(queueSize, 2 * queueSize);
  }

  activate(queue: VirtQueue | undefined): void {
    this.#queue = queue;
    this.#table.clear();
    this.#isOvertaken = false;
  }

  /** Takes what the driver offers and sends it, a queue's worth in one turn. */
  process(): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    try {
      this.#takeAll(queue);
    } finally {
      if (queue.publish()) this.#net.host.interruptQueue(queue.index);
    }
  }

  /**
   * For a pause: gives the chains that wait back to the queue, where the next turn finds them; the limiter admits
   * them again. Where one behind them was used already they cannot go back, and their frames are lost.
   */
  release(): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    const table = this.#table;
    if (this.#isOvertaken) this.#net.metrics.tx_fails += table.count;
    for (let chain = table.first; chain < table.end; chain++) {
      if (this.#isOvertaken) queue.addUsed(table.heads[chain], 0);
      else {
        this.#limiter?.refund(table.bytes[chain]);
        queue.undoNext();
      }
    }
    table.clear();
    this.#isOvertaken = false;
    if (queue.publish()) this.#net.host.interruptQueue(queue.index);
  }

  #takeAll(queue: VirtQueue): void {
    const { metrics, host } = this.#net;
    let budget = queue.size;
    let taken = 0;
    do {
      queue.disableNotifications();
      while (budget > 0) {
        const more = this.#collect(queue, budget);
        budget -= more;
        taken += more;
        if (!this.#send(queue) || this.#isThrottled) return;
        if (more === 0) break;
      }
      if (budget === 0) {
        metrics.tx_remaining_reqs_count++;
        host.deferQueue(queue.index);
        return;
      }
    } while (queue.enableNotifications());
    if (taken === 0) metrics.no_tx_avail_buffer++;
  }

  /** Fills the table, at most with `budget` chains; returns how many chains were taken from the queue. */
  #collect(queue: VirtQueue, budget: number): number {
    const chain = this.#chain;
    const table = this.#table;
    let taken = 0;
    this.#isThrottled = false;
    while (taken < budget && queue.next(chain)) {
      if (this.#isMalformed(chain)) {
        this.#net.metrics.tx_malformed_frames++;
        this.#finish(queue);
      } else if (this.#limiter?.admit(chain.readableBytes) === false) {
        queue.undoNext();
        this.#net.metrics.tx_rate_limiter_throttled++;
        this.#isThrottled = true;
        return taken;
      } else if (this.#goesElsewhere(chain)) {
        this.#finish(queue);
      } else if (!table.add(chain, 0, chain.count)) {
        this.#limiter?.refund(chain.readableBytes);
        queue.undoNext();
        return taken;
      }
      taken++;
    }
    return taken;
  }

  /** Is done with the chain in the scratch, whatever waits before it. */
  #finish(queue: VirtQueue): void {
    queue.addUsed(this.#chain.head, 0);
    if (this.#table.count > 0) this.#isOvertaken = true;
  }

  #isMalformed(chain: DescriptorChain): boolean {
    const bytes = chain.readableBytes;
    return (
      chain.writableBytes > 0 ||
      bytes < regs.HEADER_BYTES + regs.ETHERNET_HEADER_BYTES ||
      bytes > regs.FRAME_BYTES_MAX
    );
  }

  /** Looks at the frame; true: there is no link, or a detour took it. */
  #goesElsewhere(chain: DescriptorChain): boolean {
    const { metrics, host, mac, detour, isLinkUp } = this.#net;
    if (isSpoofed(host.memory, chain, mac)) metrics.tx_spoofed_mac_count++;
    if (!isLinkUp) {
      metrics.tx_fails++;
      return true;
    }
    if (detour?.transmit !== undefined) {
      const frameBytes = chain.readableBytes - regs.HEADER_BYTES;
      const count = gatherReadable(host.memory, chain, regs.HEADER_BYTES, this.#start);
      const copy = () => {
        const whole = new Uint8Array(frameBytes);
        gatherReadable(host.memory, chain, regs.HEADER_BYTES, whole);
        // What was decided on is what is taken: the guest may have changed its memory since.
        whole.set(this.#start.subarray(0, count));
        return whole;
      };
      const copyHeader = () => {
        const header = new Uint8Array(regs.HEADER_BYTES);
        gatherReadable(host.memory, chain, 0, header);
        return header;
      };
      const start = this.#start.subarray(0, count);
      const fate = detour.transmit(start, frameBytes, copy, copyHeader);
      if (fate === true) this.#limiter?.refund(chain.readableBytes);
      if (fate !== false) return true;
    }
    return false;
  }

  /** Sends what the table holds; false: the backend has no room for all of it. */
  #send(queue: VirtQueue): boolean {
    const table = this.#table;
    if (table.count === 0) return true;
    const { metrics } = this.#net;
    const { backend } = this;
    const failed = backend.sendErrors;
    const done = backend.send(table, table.first, table.end);
    metrics.tx_fails += backend.sendErrors - failed;
    metrics.tx_count++;
    for (let frame = 0; frame < done; frame++) {
      metrics.tx_packets_count++;
      metrics.tx_bytes_count += table.bytes[table.first];
      queue.addUsed(table.heads[table.first], 0);
      table.shift();
    }
    if (table.count > 0) return false;
    this.#isOvertaken = false;
    return true;
  }
}
