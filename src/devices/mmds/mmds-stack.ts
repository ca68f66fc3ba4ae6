/**
 * The metadata service as one interface's guest sees it: a neighbour with an address and a web server on port 80.
 *
 *     guest's frame ─▶ handleFrame ─▶ ARP, or IPv4 ─▶ TCP ─▶ HTTP ─▶ answer
 *     guest ◀─ takeFrame ◀───────────────────────────┘        (again at timeoutUs)
 *
 * Frames for other addresses are not its own. Whatever else comes to its address is swallowed, but for what is
 * no ARP request and no IPv4 packet at all, which goes on as if it were not here, as in Firecracker.
 */
import {
  type ArpRequest,
  arpReply,
  isArp,
  isFor,
  parseArpRequest,
  parseIpv4,
  parseTcp,
  sourceMac,
  tcpFrame,
} from "./frames.js";
import * as regs from "./frames.regs.js";
import type { MmdsMetrics } from "./mmds.state.js";
import { TcpResponder } from "./tcp-responder.js";

/** What a stack is made of. */
export interface MmdsStackOptions {
  readonly ipv4Address: number;
  readonly metrics: MmdsMetrics;
  /** Monotonic, microseconds. */
  readonly nowUs: () => number;
  /** Unpredictable, 32 bits. */
  readonly randomU32: () => number;
  /** Makes a reply of a request. */
  readonly answer: (request: Uint8Array) => Uint8Array;
}

/** See the file's header. */
export class MmdsStack {
  readonly #options: MmdsStackOptions;
  readonly #responder: TcpResponder;
  #guestMac: Uint8Array = regs.MMDS_MAC;
  #arpRequest: ArpRequest | undefined;

  constructor(options: MmdsStackOptions) {
    this.#options = options;
    this.#responder = new TcpResponder(options);
  }

  /** Whether the frame that starts with these bytes (42 or more, if it has them) is for the service. */
  isOwn(start: Uint8Array): boolean {
    return isFor(start, this.#options.ipv4Address);
  }

  /** Takes a frame of the guest; false: it is not the service's. */
  handleFrame(frame: Uint8Array): boolean {
    const { metrics } = this.#options;
    if (frame.length < regs.ETH_BYTES) {
      metrics.rx_bad_eth++;
      return false;
    }
    const isTaken =
      this.isOwn(frame) && (isArp(frame) ? this.#takeArp(frame) : this.#takeIpv4(frame));
    if (isTaken) metrics.rx_accepted++;
    return isTaken;
  }

  /** The next frame to the guest; `undefined`: none now. */
  takeFrame(): Uint8Array | undefined {
    const frame = this.#nextFrame();
    if (frame === undefined) return undefined;
    const { metrics } = this.#options;
    metrics.tx_count++;
    metrics.tx_frames++;
    metrics.tx_bytes += frame.length;
    return frame;
  }

  /** When `takeFrame` wants to be called at the latest; `undefined`: not before a frame was handled. */
  get timeoutUs(): number | undefined {
    return this.#responder.timeoutUs;
  }

  #takeArp(frame: Uint8Array): boolean {
    const request = parseArpRequest(frame);
    if (request === undefined) return false;
    this.#guestMac = request.senderMac;
    this.#arpRequest = request;
    return true;
  }

  #takeIpv4(frame: Uint8Array): boolean {
    const { metrics, nowUs } = this.#options;
    const packet = parseIpv4(frame);
    if (packet === undefined) return false;
    if (packet.protocol !== regs.PROTOCOL_TCP || packet.isFragment) {
      metrics.rx_accepted_unusual++;
      return true;
    }
    const segment = parseTcp(packet.payload, packet.source);
    if (segment?.localPort !== regs.MMDS_PORT) {
      metrics.rx_accepted_err++;
      return true;
    }
    metrics.rx_count++;
    this.#guestMac = sourceMac(frame);
    this.#responder.receive(segment, nowUs());
    return true;
  }

  #nextFrame(): Uint8Array | undefined {
    const { ipv4Address, nowUs } = this.#options;
    const request = this.#arpRequest;
    if (request !== undefined) {
      this.#arpRequest = undefined;
      return arpReply(request, ipv4Address);
    }
    const segment = this.#responder.send(nowUs());
    return segment && tcpFrame(segment, ipv4Address, this.#guestMac);
  }
}
