/**
 * One TCP connection of a guest to the metadata service: requests in, replies out, one after the other.
 *
 *     SYN ─▶ SYN, ACK ─▶ requests ◀─▶ replies ─▶ FIN of the guest ─▶ last reply, FIN ─▶ its ACK: done
 *
 * It only ever answers: the guest opens and closes. Segments in order are taken, others acknowledged and
 * dropped; what is sent and not acknowledged in time is sent again from there on. It has no timer: it says when
 * it wants to be looked at. RFC 9293; limits are Firecracker's (src/vmm/src/dumbo/tcp/endpoint.rs).
 */
import type { TcpSegment } from "./frames.js";
import * as regs from "./frames.regs.js";
import { endOfRequest } from "./http.js";

/** Longest request, and the window that is told. */
const REQUEST_BYTES_MAX = 2500;
/** Retransmission timeout, and how often before the connection is given up. */
export const RETRANSMISSION_US = 300_000;
const RETRANSMISSIONS_MAX = 15;
/** From when on a silent connection gives way to a new one. */
export const IDLE_US = 10_000_000;
/** Segments under way at once: all connections together stay below what the device keeps for its guest. */
const FLIGHT_SEGMENTS = 8;
const DUPLICATES_FOR_RESEND = 3;

const NOTHING = new Uint8Array(0);

/** Distance from b to a on the circle of sequence numbers: negative when a comes before b. */
function distance(a: number, b: number): number {
  return (a - b) | 0;
}

function add(sequence: number, count: number): number {
  return (sequence + count) >>> 0;
}

/** What a connection is opened with. */
export interface TcpOpening {
  /** The guest's SYN. */
  readonly syn: TcpSegment;
  readonly initialSequence: number;
  readonly nowUs: number;
  /** Makes a reply of a request. */
  readonly answer: (request: Uint8Array) => Uint8Array;
}

/** What became of a segment. */
export type TcpVerdict = "taken" | "unusual" | "refused";

/** See the file's header. */
export class TcpConnection {
  readonly #syn: TcpSegment;
  readonly #answer: (request: Uint8Array) => Uint8Array;
  readonly #mss: number;
  readonly #request = new Uint8Array(REQUEST_BYTES_MAX);
  #requestBytes = 0;
  #reply: Uint8Array = NOTHING;
  /** Sequence number of the reply's first byte. */
  #replyStart: number;
  /** Oldest that is not acknowledged, next to send, and after all that was ever sent. */
  #oldest: number;
  #next: number;
  #newest: number;
  /** Behind the last byte that the guest has room for. */
  #remoteEdge: number;
  /** Next that is expected of the guest. */
  #expected: number;
  #isEstablished = false;
  #isAckDue = false;
  #finReceived = false;
  /** Ours comes after the reply. */
  #isClosing = false;
  #isResetting = false;
  #isDone = false;
  #resendAtUs: number | undefined;
  #resends = 0;
  #duplicates = 0;
  /** One byte is under way for which the guest has told no room. */
  #isProbing = false;
  #lastReceivedUs: number;

  constructor({ syn, initialSequence, nowUs, answer }: TcpOpening) {
    this.#syn = syn;
    this.#answer = answer;
    this.#mss = Math.min(syn.mss ?? regs.MSS_DEFAULT, regs.MSS_MAX);
    this.#expected = add(syn.sequence, 1);
    this.#oldest = initialSequence;
    this.#next = initialSequence;
    this.#newest = initialSequence;
    this.#replyStart = add(initialSequence, 1);
    this.#remoteEdge = add(this.#replyStart, syn.window);
    this.#lastReceivedUs = nowUs;
  }

  /** Nothing will be sent or taken any more. */
  get isDone(): boolean {
    return this.#isDone;
  }

  /** When something was last heard of the guest's end. */
  get lastReceivedUs(): number {
    return this.#lastReceivedUs;
  }

  /** Takes a segment of this connection. */
  receive(segment: TcpSegment, nowUs: number): TcpVerdict {
    if (this.#isDone || this.#isResetting) return "unusual";
    const { flags } = segment;
    if ((flags & regs.FLAG_RST) !== 0) return this.#receiveReset(segment);
    this.#lastReceivedUs = nowUs;
    if ((flags & regs.FLAG_SYN) !== 0) return this.#receiveSyn(segment);
    if ((flags & regs.FLAG_ACK) === 0) return "unusual";
    if (!this.#receiveAck(segment, nowUs)) return "refused";
    if (this.#isDone) return "taken";
    const verdict = this.#receiveData(segment);
    this.#work();
    return verdict;
  }

  /** The next segment to send; `undefined`: none now. Call until there is none. */
  send(nowUs: number): TcpSegment | undefined {
    if (this.#isDone) return undefined;
    if (this.#resendAtUs !== undefined && nowUs >= this.#resendAtUs) this.#resend();
    if (this.#isResetting) {
      this.#isDone = true;
      return this.#segment(this.#next, regs.FLAG_RST | regs.FLAG_ACK, NOTHING);
    }
    const segment = this.#nextSegment();
    if (segment !== undefined) this.#isAckDue = false;
    if (this.#next !== this.#oldest || this.#hasUnsent) {
      this.#resendAtUs ??= nowUs + RETRANSMISSION_US;
    }
    return segment;
  }

  /** When `send` wants to be called at the latest; `undefined`: not before something was received. */
  get timeoutUs(): number | undefined {
    return this.#isDone ? undefined : this.#resendAtUs;
  }

  /** Gives the connection up: the guest is told. */
  reset(): void {
    this.#isResetting = true;
  }

  #receiveReset({ sequence }: TcpSegment): TcpVerdict {
    const ahead = distance(sequence, this.#expected);
    // RFC 5961 § 3: only from who knows where we are.
    if (ahead < 0 || ahead > REQUEST_BYTES_MAX) return "unusual";
    this.#isDone = true;
    return "unusual";
  }

  #receiveSyn({ sequence }: TcpSegment): TcpVerdict {
    if (!this.#isEstablished && sequence === this.#syn.sequence) {
      this.#next = this.#oldest;
      return "taken";
    }
    // RFC 5961 § 4: a guest that has forgotten the connection answers this with a reset.
    this.#isAckDue = true;
    return "unusual";
  }

  /** False: it acknowledges what was never sent. */
  #receiveAck({ acknowledgement, window, payload, flags }: TcpSegment, nowUs: number): boolean {
    const advance = distance(acknowledgement, this.#oldest);
    if (distance(acknowledgement, this.#newest) > 0) {
      this.#isAckDue = true;
      return false;
    }
    if (!this.#isEstablished && advance !== 1) return false;
    if (advance < 0) return true;
    this.#isEstablished = true;
    const edge = add(acknowledgement, window);
    const isSame = edge === this.#remoteEdge;
    this.#remoteEdge = edge;
    if (advance > 0) {
      this.#acknowledge(acknowledgement, nowUs);
    } else if (window === 0) {
      // It is there, and has no room: it is asked as long as it answers.
      this.#resends = 0;
    } else if (this.#isProbing) {
      this.#isProbing = false;
      this.#next = this.#oldest;
    } else if (isSame && payload.length === 0 && (flags & regs.FLAG_FIN) === 0) {
      this.#duplicates++;
      if (this.#duplicates === DUPLICATES_FOR_RESEND) this.#next = this.#oldest;
    }
    return true;
  }

  #acknowledge(acknowledgement: number, nowUs: number): void {
    this.#oldest = acknowledgement;
    if (distance(this.#next, acknowledgement) < 0) this.#next = acknowledgement;
    this.#resends = 0;
    this.#duplicates = 0;
    this.#isProbing = false;
    this.#resendAtUs = this.#newest === acknowledgement ? undefined : nowUs + RETRANSMISSION_US;
    const end = this.#replyEnd;
    if (distance(acknowledgement, end) < 0) return;
    this.#reply = NOTHING;
    if (this.#isClosing && acknowledgement === add(end, 1)) this.#isDone = true;
    this.#replyStart = end;
  }

  get #replyEnd(): number {
    return add(this.#replyStart, this.#reply.length);
  }

  #receiveData({ sequence, payload, flags }: TcpSegment): TcpVerdict {
    const hasFin = (flags & regs.FLAG_FIN) !== 0;
    if (payload.length === 0 && !hasFin) {
      // Keep-alives, RFC 9293 § 3.8.4, and what is outside the window, § 3.10.7.4.
      if (sequence !== this.#expected) this.#isAckDue = true;
      return "taken";
    }
    this.#isAckDue = true;
    const known = distance(this.#expected, sequence);
    if (known < 0 || this.#finReceived) return "unusual";
    const fresh = payload.subarray(Math.min(known, payload.length));
    const room = REQUEST_BYTES_MAX - this.#requestBytes;
    const taken = fresh.subarray(0, room);
    this.#request.set(taken, this.#requestBytes);
    this.#requestBytes += taken.length;
    this.#expected = add(this.#expected, taken.length);
    if (hasFin && this.#expected === add(sequence, payload.length)) {
      this.#finReceived = true;
      this.#expected = add(this.#expected, 1);
    }
    return taken.length < fresh.length ? "unusual" : "taken";
  }

  /** Answers a whole request; the next one waits until the reply was taken. */
  #work(): void {
    if (this.#reply.length > 0 || this.#isClosing) return;
    const end = endOfRequest(this.#request.subarray(0, this.#requestBytes));
    if (end > 0) {
      this.#reply = this.#answer(this.#request.slice(0, end));
      this.#request.copyWithin(0, end, this.#requestBytes);
      this.#requestBytes -= end;
      // There is room again.
      this.#isAckDue = true;
    } else if (this.#requestBytes === REQUEST_BYTES_MAX) {
      this.#isResetting = true;
    } else if (this.#finReceived) {
      this.#isClosing = true;
    }
  }

  /** The guest has not acknowledged in time: everything since goes again, or the connection is given up. */
  #resend(): void {
    this.#resendAtUs = undefined;
    if (this.#resends === RETRANSMISSIONS_MAX) {
      this.#isResetting = true;
      return;
    }
    this.#resends++;
    this.#next = this.#oldest;
    // The guest may have told of new room in a segment that was lost.
    const hasRoom = distance(this.#remoteEdge, this.#oldest) > 0;
    if (hasRoom || !this.#isEstablished || !this.#hasUnsent) return;
    this.#isProbing = true;
    this.#remoteEdge = add(this.#oldest, 1);
  }

  get #hasUnsent(): boolean {
    return distance(this.#replyEnd, this.#next) > 0;
  }

  #nextSegment(): TcpSegment | undefined {
    if (!this.#isEstablished) return this.#synAck();
    const data = this.#dataSegment() ?? this.#finSegment();
    if (data !== undefined) return data;
    return this.#isAckDue ? this.#segment(this.#next, regs.FLAG_ACK, NOTHING) : undefined;
  }

  #synAck(): TcpSegment | undefined {
    if (this.#next !== this.#oldest) return undefined;
    const segment = this.#segment(this.#next, regs.FLAG_SYN | regs.FLAG_ACK, NOTHING);
    this.#advance(1);
    return { ...segment, mss: regs.MSS_MAX };
  }

  #dataSegment(): TcpSegment | undefined {
    const flightEdge = add(this.#oldest, FLIGHT_SEGMENTS * this.#mss);
    const room = Math.min(
      distance(this.#remoteEdge, this.#next),
      distance(flightEdge, this.#next),
      distance(this.#replyEnd, this.#next),
      this.#mss,
    );
    if (room <= 0) return undefined;
    const start = distance(this.#next, this.#replyStart);
    const payload = this.#reply.subarray(start, start + room);
    const isLast = start + room === this.#reply.length;
    const flags = regs.FLAG_ACK | (isLast ? regs.FLAG_PSH : 0);
    const segment = this.#segment(this.#next, flags, payload);
    this.#advance(room);
    return segment;
  }

  #finSegment(): TcpSegment | undefined {
    if (!this.#isClosing || this.#next !== this.#replyEnd) return undefined;
    const segment = this.#segment(this.#next, regs.FLAG_FIN | regs.FLAG_ACK, NOTHING);
    this.#advance(1);
    return segment;
  }

  #advance(count: number): void {
    this.#next = add(this.#next, count);
    if (distance(this.#next, this.#newest) > 0) this.#newest = this.#next;
  }

  #segment(sequence: number, flags: number, payload: Uint8Array): TcpSegment {
    const { remoteIpv4, remotePort, localPort } = this.#syn;
    return {
      remoteIpv4,
      remotePort,
      localPort,
      sequence,
      acknowledgement: this.#expected,
      flags,
      window: REQUEST_BYTES_MAX - this.#requestBytes,
      mss: undefined,
      payload,
    };
  }
}
