/**
 * The receive half of a network device: frames from the backend into the driver's buffers, many in one call
 * and straight into guest memory.
 *
 * Buffers are taken from the queue ahead of the frames. With MRG_RXBUF a frame fills as many of them as it
 * needs, in order, so what is left is always the last that were taken and can be given back.
 */
import type { NetBackend } from "../backend.js";
import type { RateLimiter } from "../rate-limiter.js";
import { ChainTable } from "./chain-table.js";
import * as regs from "./net.regs.js";
import { copyIn, START_BYTES } from "./net-frames.js";
import type { NetShared } from "./net-transmit.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";

/** Frames in one call of the backend. */
const BATCH = 64;
/** Frames of the host's own that wait for buffers; the oldest is dropped for a newer one. */
const INJECTED_MAX = 256;

/** A frame in the host's memory that waits for buffers; `header`: of one that came from the backend. */
interface Injected {
  readonly frame: Uint8Array;
  readonly header: Uint8Array | undefined;
}

/** See the file's header. */
export class NetReceiver {
  readonly #net: NetShared;
  readonly #backend: NetBackend;
  readonly #limiter: RateLimiter | undefined;
  readonly #chain: DescriptorChain;
  readonly #table: ChainTable;
  readonly #frameBytes = new Uint32Array(BATCH);
  readonly #frameBuffers = new Uint16Array(BATCH);
  readonly #injected: Injected[] = [];
  readonly #header = new Uint8Array(regs.HEADER_BYTES);
  readonly #countBytes = new Uint8Array(2);
  #queue: VirtQueue | undefined;
  #mergeable = false;
  /** Most bytes of buffers that the driver ever had on offer: less than a frame's for a small queue. */
  #mostBytes = 0;
  /** A frame of the host's own has come: this turn is for it. */
  #isInjecting = false;
  /** The limiter refused the frame in the host's memory that is next. */
  #isThrottled = false;
  /** Frames that lie in the buffers already and wait for the limiter: `#parked` to before `#parkedEnd`. */
  #parked = 0;
  #parkedEnd = 0;
  /** Frames, and buffers without use, that are still taken in this turn. */
  #budget = 0;

  constructor(
    net: NetShared,
    backend: NetBackend,
    queueSize: number,
    limiter: RateLimiter | undefined,
  ) {
    this.#net = net;
    this.#backend = backend;
    this.#limiter = limiter;
    this.#chain = new DescriptorChain(queueSize);
    this.#table = new ChainTable(queueSize, 4 * queueSize);
  }

  activate(queue: VirtQueue | undefined, mergeable: boolean): void {
    this.#queue = queue;
    this.#mergeable = mergeable;
    this.#mostBytes = 0;
    // They were for the driver that is gone.
    this.#net.metrics.rx_fails += this.#injected.length;
    this.#injected.length = 0;
    this.#forget();
  }

  /**
   * A frame of the host's own for the guest, from its Ethernet header on; with `header` one that came from the
   * backend, was looked at and goes on.
   */
  inject(frame: Uint8Array, header?: Uint8Array): void {
    if (frame.length > regs.FRAME_BYTES_MAX - regs.HEADER_BYTES) {
      this.#net.metrics.rx_fails++;
      return;
    }
    if (this.#injected.length === INJECTED_MAX) {
      this.#injected.shift();
      this.#net.metrics.rx_fails++;
    }
    this.#injected.push({ frame, header });
    this.#isInjecting = true;
  }

  /**
   * Gives the driver what waits, a queue's worth in one turn. What the backend has waits for another one where
   * this one is a frame's of the host's own: whoever looks at frames sends many, and each would bring a queue's
   * worth of others to look at.
   */
  process(): void {
    const queue = this.#queue;
    if (queue === undefined) return;
    this.#budget = this.#isInjecting ? 0 : queue.size;
    this.#isInjecting = false;
    try {
      this.#giveAll(queue);
    } finally {
      if (queue.publish()) this.#net.host.interruptQueue(queue.index);
    }
  }

  /** Gives unused buffers back to the queue. Frames that waited for the limiter are lost. */
  release(): void {
    this.#net.metrics.rx_fails += this.#parkedEnd - this.#parked;
    for (let left = this.#table.count; left > 0; left--) this.#queue?.undoNext();
    this.#forget();
  }

  #forget(): void {
    this.#table.clear();
    this.#parked = 0;
    this.#parkedEnd = 0;
  }

  #giveAll(queue: VirtQueue): void {
    for (;;) {
      if (!this.#giveParked(queue)) return;
      if (!this.#hasRoom(queue)) return;
      if (!this.#giveInjected(queue)) {
        if (this.#isThrottled) return;
        continue;
      }
      if (this.#budget <= 0) {
        this.#net.host.deferQueue(queue.index);
        return;
      }
      const frames = this.#receive(queue);
      if (frames === 0) return;
      this.#budget -= frames;
    }
  }

  /**
   * Takes buffers; false: there are too few for a frame, and the driver is asked to ring for more, or the turn
   * is over.
   */
  #hasRoom(queue: VirtQueue): boolean {
    const table = this.#table;
    for (;;) {
      const hasTakenAll = this.#takeBuffers(queue);
      this.#mostBytes = Math.max(this.#mostBytes, table.totalBytes);
      const needed = this.#mergeable ? Math.min(regs.FRAME_BYTES_MAX, this.#mostBytes) : 1;
      // What could not be taken waits for what was: no more can be had now, however little this is.
      if (!hasTakenAll && table.count > 0) return true;
      if (!hasTakenAll) {
        this.#net.host.deferQueue(queue.index);
        return false;
      }
      if (table.count > 0 && table.totalBytes >= needed) return true;
      if (queue.enableNotifications()) {
        queue.disableNotifications();
        continue;
      }
      this.#net.metrics.no_rx_avail_buffer++;
      return false;
    }
  }

  /** Takes what the driver offers; false: some of it could not be taken yet, or not in this turn. */
  #takeBuffers(queue: VirtQueue): boolean {
    const chain = this.#chain;
    queue.disableNotifications();
    while (queue.next(chain)) {
      // A buffer that cannot hold the header is no buffer: it goes back unused.
      if (chain.writableBytes < regs.HEADER_BYTES) {
        if (this.#table.count > 0 || this.#budget <= 0) {
          queue.undoNext();
          return false;
        }
        this.#budget--;
        this.#net.metrics.rx_fails++;
        queue.addUsed(chain.head, 0);
      } else if (!this.#table.add(chain, chain.firstWritable, chain.count)) {
        queue.undoNext();
        return false;
      }
    }
    return true;
  }

  /** Gives the guest what lies in the host's memory; false: buffers ran out, look again, or the limiter refuses. */
  #giveInjected(queue: VirtQueue): boolean {
    const table = this.#table;
    this.#isThrottled = false;
    let given = 0;
    while (this.#injected.length > 0) {
      const { frame, header } = this.#injected[0];
      const bytes = regs.HEADER_BYTES + frame.length;
      let buffers = 0;
      let room = 0;
      const most = this.#mergeable ? table.count : Math.min(1, table.count);
      while (room < bytes && buffers < most) room += table.bytes[table.first + buffers++];
      if (room < bytes) {
        // Others have taken buffers before it: it fits into more of them.
        if (this.#mergeable && given > 0) return false;
        this.#injected.shift();
        this.#net.metrics.rx_fails++;
        return false;
      }
      // What the host sends of itself is free.
      if (header !== undefined && this.#limiter?.admit(bytes) === false) {
        this.#isThrottled = true;
        this.#net.metrics.rx_rate_limiter_throttled++;
        return false;
      }
      this.#injected.shift();
      given++;
      copyIn(this.#net.host.memory, table, buffers, 0, header ?? this.#header);
      copyIn(this.#net.host.memory, table, buffers, regs.HEADER_BYTES, frame);
      this.#deliver(queue, bytes, buffers);
      if (table.count === 0) return false;
    }
    return true;
  }

  /** Has the backend fill buffers; returns the number of frames, which are parked then. */
  #receive(queue: VirtQueue): number {
    const { metrics, detour, isLinkUp } = this.#net;
    const backend = this.#backend;
    const failed = backend.receiveErrors;
    let frames = 0;
    if (detour?.receive !== undefined || !isLinkUp) {
      frames = this.#receiveThroughHost();
    } else {
      const { first, end } = this.#table;
      // biome-ignore format: six arguments, so that nothing is allocated for a batch
      frames = backend.receive(this.#table, first, end, this.#mergeable, this.#frameBytes, this.#frameBuffers);
      this.#parked = 0;
      this.#parkedEnd = frames;
    }
    const lost = backend.receiveErrors - failed;
    metrics.rx_fails += lost;
    if (frames > 0) metrics.rx_count++;
    // Only lost ones: there may be more behind them, of which nobody tells again.
    else if (lost > 0) this.#net.host.deferQueue(queue.index);
    return frames;
  }

  /** Frames that somebody looks at, or that nobody gets: one by one through the host's memory. */
  #receiveThroughHost(): number {
    const { metrics, detour, isLinkUp } = this.#net;
    let frames = 0;
    while (frames < BATCH && this.#injected.length < INJECTED_MAX) {
      const frame = this.#backend.receiveBytes();
      if (frame === undefined) break;
      frames++;
      const content = frame.subarray(regs.HEADER_BYTES);
      const start = content.subarray(0, START_BYTES);
      if (!isLinkUp) metrics.rx_fails++;
      else {
        const header = frame.subarray(0, regs.HEADER_BYTES);
        const isTaken = detour?.receive?.(
          start,
          content.length,
          () => content,
          () => header,
        );
        if (isTaken === undefined || isTaken === false) {
          this.#injected.push({ frame: content, header });
        }
      }
    }
    return frames;
  }

  /** Gives frames that lie in the buffers to the driver; false: the limiter keeps the rest. */
  #giveParked(queue: VirtQueue): boolean {
    while (this.#parked < this.#parkedEnd) {
      const bytes = this.#frameBytes[this.#parked];
      if (this.#limiter?.admit(bytes) === false) {
        this.#net.metrics.rx_rate_limiter_throttled++;
        return false;
      }
      this.#deliver(queue, bytes, this.#frameBuffers[this.#parked]);
      this.#parked++;
    }
    return true;
  }

  /** The first `buffers` of the table hold a frame: says so in its header, and hands them to the driver. */
  #deliver(queue: VirtQueue, bytes: number, buffers: number): void {
    const { metrics, host } = this.#net;
    const table = this.#table;
    this.#countBytes[0] = buffers;
    this.#countBytes[1] = buffers >>> 8;
    const offset = regs.HEADER_NUM_BUFFERS_OFFSET;
    copyIn(host.memory, table, buffers, offset, this.#countBytes);
    let left = bytes;
    for (let buffer = 0; buffer < buffers; buffer++) {
      const used = Math.min(left, table.bytes[table.first]);
      queue.addUsed(table.heads[table.first], used);
      left -= used;
      table.shift();
    }
    metrics.rx_packets_count++;
    metrics.rx_bytes_count += bytes;
  }
}
