/**
 * The virtio socket device: packets between two queues and any number of connections.
 *
 *     driver ─ transmit queue ─▶ header checked ─▶ connection ─▶ its end on the host
 *     driver ◀─ receive queue ── connections that have something, in turn
 *
 * Streams between the guest and context 2, the host; who answers the guest's requests is for the owner to say.
 * Specification: VirtIO 1.2 § 5.10.
 */
import { gatherReadable, scatter } from "./chain-io.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "./device.js";
import { featureBits, RING_FEATURES } from "./features.js";
import { DescriptorChain, type VirtQueue } from "./queue.js";
import * as regs from "./vsock.regs.js";
import { createVsockMetrics, type VsockState } from "./vsock.state.js";
import { VsockConnection, type VsockEnd } from "./vsock-connection.js";
import { VsockHeader } from "./vsock-packet.js";

/** What a socket device is made with. */
export interface VsockOptions {
  /** 3 to 2^32 - 2. */
  readonly guestCid: number;
  /** Most connections at once, both ways together. Default 1023. */
  readonly connectionsMax?: number;
  /** The guest asks for a port: `accept` the connection or `destroy` it, now or later. */
  readonly onRequest: (connection: VsockConnection) => void;
  /** Runs `task` later unless the returned function is called before. */
  readonly schedule: (delayMs: number, task: () => void) => () => void;
}

const QUEUE_SIZE = 256;
const CONNECTIONS_MAX = 1023;
/** Resets for ports that nobody has; what is beyond is not answered. */
const RESETS_MAX = 256;

/** Back of the socket device. */
export class VirtioVsock implements VirtioBack {
  readonly deviceType = regs.DEVICE_TYPE;
  readonly features = featureBits(RING_FEATURES);
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  readonly config: Uint8Array;
  readonly metrics = createVsockMetrics();

  readonly #host: VirtioHost;
  readonly #options: VsockOptions;
  readonly #chain = new DescriptorChain(QUEUE_SIZE);
  readonly #header = new VsockHeader();
  readonly #event = new Uint8Array(regs.EVENT_BYTES);
  /** By the host's port, then by the guest's. */
  readonly #connections = new Map<number, Map<number, VsockConnection>>();
  #count = 0;
  /** Those that may have something for the guest, in turn. */
  readonly #ready = new Set<VsockConnection>();
  readonly #resets: { readonly hostPort: number; readonly guestPort: number }[] = [];
  #queues: readonly (VirtQueue | undefined)[] = [];
  #nextHostPort: number = regs.HOST_PORT_FIRST;
  /** Packets are being taken or given: what that leads to goes out with them. */
  #isBusy = false;
  #owesTransportReset = false;

  constructor(host: VirtioHost, options: VsockOptions) {
    this.#host = host;
    this.#options = options;
    this.config = new Uint8Array(regs.CONFIG_BYTES);
    new DataView(this.config.buffer).setUint32(0, options.guestCid, true);
  }

  /** Connections there are. */
  get connectionCount(): number {
    return this.#count;
  }

  activate(_accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.#queues = queues;
  }

  processQueue(queueIndex: number): void {
    if (queueIndex === regs.TRANSMIT_QUEUE) {
      this.metrics.tx_queue_event_count++;
      this.#takeAll();
      this.#giveAll();
    } else if (queueIndex === regs.RECEIVE_QUEUE) {
      this.metrics.rx_queue_event_count++;
      this.#giveAll();
    } else {
      this.#giveEvent();
    }
  }

  reset(): undefined {
    this.#queues = [];
    this.#resets.length = 0;
    for (const connection of this.#all()) connection.drop();
  }

  quiesce(): undefined {}

  /**
   * Connects to a port of the guest's; `undefined`: there are as many connections as may be, or no driver.
   * Whether the guest accepts, `end` hears.
   */
  connect(guestPort: number, end: VsockEnd): VsockConnection | undefined {
    if (this.#queues.length === 0 || this.#isFull) return undefined;
    let hostPort = this.#nextHostPort;
    while (this.#connections.has(hostPort)) hostPort = this.#after(hostPort);
    this.#nextHostPort = this.#after(hostPort);
    return this.#add(hostPort, guestPort, end);
  }

  /** Ends all connections and tells the driver to forget them: the microVM is another one now. */
  resetTransport(): void {
    for (const connection of this.#all()) connection.drop();
    this.#owesTransportReset = true;
    this.#host.notifyQueue(regs.EVENT_QUEUE);
  }

  /** The device's record for a snapshot. */
  save(): VsockState {
    return { version: 1, guestCid: this.#options.guestCid };
  }

  get #isFull(): boolean {
    const { connectionsMax = CONNECTIONS_MAX } = this.#options;
    // Resets of those that were wait for the guest, who may never take one.
    return this.#count >= connectionsMax || this.#resets.length >= connectionsMax + RESETS_MAX;
  }

  #after(port: number): number {
    return port === regs.HOST_PORT_LAST ? regs.HOST_PORT_FIRST : port + 1;
  }

  #all(): VsockConnection[] {
    return [...this.#connections.values()].flatMap((ofPort) => [...ofPort.values()]);
  }

  #add(hostPort: number, guestPort: number, end?: VsockEnd): VsockConnection {
    const muxer = {
      ready: (connection: VsockConnection) => {
        this.#ready.add(connection);
        if (!this.#isBusy) this.#host.notifyQueue(regs.RECEIVE_QUEUE);
      },
      remove: (connection: VsockConnection) => this.#remove(connection),
      schedule: this.#options.schedule,
    };
    let ofPort = this.#connections.get(hostPort);
    if (ofPort === undefined) {
      ofPort = new Map();
      this.#connections.set(hostPort, ofPort);
    }
    const connection = new VsockConnection(muxer, hostPort, guestPort, end);
    ofPort.set(guestPort, connection);
    this.#count++;
    this.metrics.conns_added++;
    return connection;
  }

  #remove(connection: VsockConnection): void {
    const { hostPort, guestPort } = connection;
    const ofPort = this.#connections.get(hostPort);
    ofPort?.delete(guestPort);
    if (ofPort?.size === 0) this.#connections.delete(hostPort);
    this.#ready.delete(connection);
    this.#count--;
    this.metrics.conns_removed++;
    if (!connection.owesReset) return;
    this.metrics.conns_killed++;
    // However many: the guest would wait for this one for ever.
    this.#oweReset(hostPort, guestPort);
  }

  /** Answers what is for nobody. */
  #answerReset(hostPort: number, guestPort: number): void {
    if (this.#resets.length < RESETS_MAX) this.#oweReset(hostPort, guestPort);
  }

  #oweReset(hostPort: number, guestPort: number): void {
    this.#resets.push({ hostPort, guestPort });
    if (!this.#isBusy) this.#host.notifyQueue(regs.RECEIVE_QUEUE);
  }

  /** Takes the driver's packets, a queue's worth in one turn. */
  #takeAll(): void {
    const queue = this.#queues[regs.TRANSMIT_QUEUE];
    if (queue === undefined) return;
    let budget = queue.size;
    this.#isBusy = true;
    try {
      do {
        queue.disableNotifications();
        while (budget > 0 && queue.next(this.#chain)) {
          budget--;
          const { head } = this.#chain;
          this.#takePacket();
          queue.addUsed(head, 0);
        }
        if (budget === 0) {
          this.#host.deferQueue(regs.TRANSMIT_QUEUE);
          return;
        }
      } while (queue.enableNotifications());
    } finally {
      this.#isBusy = false;
      if (queue.publish()) this.#host.interruptQueue(regs.TRANSMIT_QUEUE);
    }
  }

  /** The only place where what the guest says of a packet is believed: checked here, or not at all. */
  #takePacket(): void {
    const header = this.#header;
    const chain = this.#chain;
    const { memory } = this.#host;
    const payloadBytes = chain.readableBytes - regs.HEADER_BYTES;
    const whole = gatherReadable(memory, chain, 0, header.bytes) === regs.HEADER_BYTES;
    const { length, sourcePort: guestPort, destinationPort: hostPort } = header;
    if (
      !whole ||
      length > payloadBytes ||
      length > regs.PAYLOAD_BYTES_MAX ||
      header.sourceCid !== this.#options.guestCid ||
      header.destinationCid !== regs.HOST_CID
    ) {
      this.metrics.tx_queue_event_fails++;
      return;
    }
    this.metrics.tx_packets_count++;
    const connection = this.#connections.get(hostPort)?.get(guestPort);
    if (header.type !== regs.TYPE_STREAM) {
      if (header.operation !== regs.RESET) this.#answerReset(hostPort, guestPort);
    } else if (connection !== undefined) {
      if (header.operation === regs.REQUEST) connection.destroy();
      else this.#hand(connection, length);
    } else if (header.operation === regs.REQUEST && !this.#isFull) {
      const offered = this.#add(hostPort, guestPort);
      offered.takeRequest(header);
      this.#options.onRequest(offered);
    } else if (header.operation !== regs.RESET) {
      this.#answerReset(hostPort, guestPort);
    }
  }

  #hand(connection: VsockConnection, length: number): void {
    connection.take(this.#header, () => {
      const payload = new Uint8Array(length);
      gatherReadable(this.#host.memory, this.#chain, regs.HEADER_BYTES, payload);
      this.metrics.tx_bytes_count += length;
      return payload;
    });
  }

  /** Gives the driver packets for as long as it has buffers and there are any. */
  #giveAll(): void {
    const queue = this.#queues[regs.RECEIVE_QUEUE];
    if (queue === undefined) return;
    let budget = queue.size;
    this.#isBusy = true;
    queue.disableNotifications();
    try {
      while (this.#resets.length > 0 || this.#ready.size > 0) {
        if (budget-- === 0) {
          this.#host.deferQueue(regs.RECEIVE_QUEUE);
          return;
        }
        if (!queue.next(this.#chain)) {
          if (!queue.enableNotifications()) return;
          queue.disableNotifications();
        } else if (this.#chain.writableBytes < regs.HEADER_BYTES) {
          this.metrics.rx_queue_event_fails++;
          queue.addUsed(this.#chain.head, 0);
        } else {
          const bytes = this.#givePacket();
          if (bytes === 0) queue.undoNext();
          else queue.addUsed(this.#chain.head, bytes);
        }
      }
    } finally {
      this.#isBusy = false;
      if (queue.publish()) this.#host.interruptQueue(regs.RECEIVE_QUEUE);
    }
  }

  /** Fills the buffer in the scratch; returns its bytes, 0 when there was nothing to give. */
  #givePacket(): number {
    const header = this.#header;
    const { guestCid } = this.#options;
    const reset = this.#resets.shift();
    if (reset !== undefined) {
      header.set(guestCid, reset.hostPort, reset.guestPort, regs.RESET, 0, 0);
      return this.#finishPacket(0);
    }
    const room = Math.min(this.#chain.writableBytes - regs.HEADER_BYTES, regs.PAYLOAD_BYTES_MAX);
    for (const connection of this.#ready) {
      this.#ready.delete(connection);
      let at = regs.HEADER_BYTES;
      const length = connection.give(header, guestCid, room, (bytes) => {
        scatter(this.#host.memory, this.#chain, bytes, at);
        at += bytes.length;
      });
      // Behind the others: each has its turn.
      if (connection.hasWork) this.#ready.add(connection);
      if (length >= 0) return this.#finishPacket(length);
    }
    return 0;
  }

  #finishPacket(length: number): number {
    this.#header.setLength(length);
    scatter(this.#host.memory, this.#chain, this.#header.bytes, 0);
    this.metrics.rx_packets_count++;
    this.metrics.rx_bytes_count += length;
    return regs.HEADER_BYTES + length;
  }

  #giveEvent(): void {
    const queue = this.#queues[regs.EVENT_QUEUE];
    if (queue === undefined || !this.#owesTransportReset || !queue.next(this.#chain)) return;
    this.#owesTransportReset = false;
    if (this.#chain.writableBytes < regs.EVENT_BYTES) {
      this.metrics.ev_queue_event_fails++;
      queue.addUsed(this.#chain.head, 0);
    } else {
      this.#event.fill(regs.EVENT_TRANSPORT_RESET);
      scatter(this.#host.memory, this.#chain, this.#event, 0);
      queue.addUsed(this.#chain.head, regs.EVENT_BYTES);
    }
    if (queue.publish()) this.#host.interruptQueue(regs.EVENT_QUEUE);
  }
}
