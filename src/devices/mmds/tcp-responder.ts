/**
 * All TCP connections of one interface to the metadata service, and the resets of what is none. Bounded in both:
 * a guest that opens more than there are places gets the place of one that has been silent for long, or a reset.
 */
import type { TcpSegment } from "./frames.js";
import * as regs from "./frames.regs.js";
import type { MmdsMetrics } from "./mmds.state.js";
import { IDLE_US, TcpConnection } from "./tcp-connection.js";

/** Firecracker 1.16, src/vmm/src/mmds/ns.rs. */
export const CONNECTIONS_MAX = 30;
export const RESETS_MAX = 100;

const OPENING_MASK = regs.FLAG_SYN | regs.FLAG_ACK | regs.FLAG_RST | regs.FLAG_FIN;
const PORTS = 65_536;

/** What it needs of the outside. */
export interface ResponderOptions {
  readonly metrics: MmdsMetrics;
  /** Makes a reply of a request. */
  readonly answer: (request: Uint8Array) => Uint8Array;
  /** Unpredictable, 32 bits. */
  readonly randomU32: () => number;
}

/** See the file's header. */
export class TcpResponder {
  readonly #options: ResponderOptions;
  /** By the guest's address and port; in the order of their turns to send. */
  readonly #connections = new Map<number, TcpConnection>();
  readonly #resets: TcpSegment[] = [];

  constructor(options: ResponderOptions) {
    this.#options = options;
  }

  /** Connections that are open. */
  get size(): number {
    return this.#connections.size;
  }

  /** Takes a segment for the service's port. */
  receive(segment: TcpSegment, nowUs: number): void {
    const { metrics } = this.#options;
    const key = segment.remoteIpv4 * PORTS + segment.remotePort;
    const connection = this.#connections.get(key);
    if (connection !== undefined) {
      const verdict = connection.receive(segment, nowUs);
      if (verdict === "refused") metrics.rx_accepted_err++;
      if (verdict === "unusual") metrics.rx_accepted_unusual++;
      if (connection.isDone) this.#remove(key);
    } else if ((segment.flags & OPENING_MASK) === regs.FLAG_SYN) {
      this.#open(key, segment, nowUs);
    } else {
      metrics.rx_accepted_unusual++;
      this.#refuse(segment);
    }
  }

  /** The next segment to send; `undefined`: none now. */
  send(nowUs: number): TcpSegment | undefined {
    const reset = this.#resets.shift();
    if (reset !== undefined) return reset;
    for (const [key, connection] of this.#connections) {
      const segment = connection.send(nowUs);
      if (connection.isDone) this.#remove(key);
      if (segment === undefined) continue;
      if (!connection.isDone) {
        // Its next turn comes after the others'.
        this.#connections.delete(key);
        this.#connections.set(key, connection);
      }
      return segment;
    }
    return undefined;
  }

  /** When `send` wants to be called at the latest; `undefined`: not before something was received. */
  get timeoutUs(): number | undefined {
    let earliest: number | undefined;
    for (const { timeoutUs } of this.#connections.values()) {
      if (timeoutUs !== undefined) earliest = Math.min(timeoutUs, earliest ?? timeoutUs);
    }
    return earliest;
  }

  #open(key: number, syn: TcpSegment, nowUs: number): void {
    const { metrics, answer, randomU32 } = this.#options;
    if (this.#connections.size >= CONNECTIONS_MAX) {
      const silent = this.#longestSilent(nowUs);
      if (silent === undefined) {
        this.#refuse(syn);
        return;
      }
      this.#giveUp(silent, nowUs);
    }
    const initialSequence = randomU32();
    this.#connections.set(key, new TcpConnection({ syn, initialSequence, nowUs, answer }));
    metrics.connections_created++;
  }

  /** The connection that may be given up for a new one. */
  #longestSilent(nowUs: number): number | undefined {
    let found: number | undefined;
    let leastUs = nowUs - IDLE_US;
    for (const [key, { lastReceivedUs }] of this.#connections) {
      if (lastReceivedUs >= leastUs) continue;
      leastUs = lastReceivedUs;
      found = key;
    }
    return found;
  }

  /** Its guest is told, so that it sends no request on it. */
  #giveUp(key: number, nowUs: number): void {
    const connection = this.#connections.get(key);
    connection?.reset();
    const reset = connection?.send(nowUs);
    if (reset !== undefined && this.#resets.length < RESETS_MAX) this.#resets.push(reset);
    this.#remove(key);
  }

  #remove(key: number): void {
    this.#connections.delete(key);
    this.#options.metrics.connections_destroyed++;
  }

  /** RFC 9293 § 3.10.7.1: a reset that the sender of this segment believes. */
  #refuse({
    remoteIpv4,
    remotePort,
    localPort,
    sequence,
    acknowledgement,
    flags,
    payload,
  }: TcpSegment) {
    if ((flags & regs.FLAG_RST) !== 0 || this.#resets.length >= RESETS_MAX) return;
    const hasAck = (flags & regs.FLAG_ACK) !== 0;
    const syn = (flags & regs.FLAG_SYN) === 0 ? 0 : 1;
    const fin = (flags & regs.FLAG_FIN) === 0 ? 0 : 1;
    this.#resets.push({
      remoteIpv4,
      remotePort,
      localPort,
      sequence: hasAck ? acknowledgement : 0,
      acknowledgement: hasAck ? 0 : (sequence + payload.length + syn + fin) >>> 0,
      flags: hasAck ? regs.FLAG_RST : regs.FLAG_RST | regs.FLAG_ACK,
      window: 0,
      mss: undefined,
      payload: new Uint8Array(0),
    });
  }
}
