/**
 * One stream between a port of the guest's and one of the host's: its states, its credit both ways, and what it
 * has to tell the guest. VirtIO 1.2 §§ 5.10.6.3 to 5.10.6.6.
 *
 *     host connects    requested ─ RESPONSE ─▶ open ─▶ SHUTDOWN, RST either way ─▶ closed
 *     guest connects   offered ── accept ────▶ open
 *
 * The guest sends at most what the host has said it has room for, or is reset; what the host writes waits here
 * until the guest has room. Counters of bytes wrap at 2^32, as the specification's do.
 */
import * as regs from "./vsock.regs.js";
import type { VsockHeader } from "./vsock-packet.js";

/** Why a connection ended. */
export type VsockCloseReason = "ended" | "refused" | "reset" | "timed-out";

/** The host's end of a connection; `onClose` is the last call. */
export interface VsockEnd {
  /** The guest has accepted a connection that the host asked for. */
  onOpen?(): void;
  /** Bytes from the guest, a private copy. The guest gets room for more by `consumed`. */
  onData(bytes: Uint8Array): void;
  /** The guest sends no more. */
  onEnd(): void;
  /** What was written has gone to the guest, or is lost as it takes no more: more may be. */
  onDrain?(): void;
  onClose(reason: VsockCloseReason): void;
}

/** What a connection asks of its device. */
export interface VsockMuxer {
  /** It has something for the guest. */
  ready(connection: VsockConnection): void;
  /** It is over. */
  remove(connection: VsockConnection): void;
  /** Runs `task` later unless it is cancelled before. */
  schedule(delayMs: number, task: () => void): () => void;
}

/** `write` answers false from here on. */
const HIGH_BYTES = regs.BUFFER_BYTES;

const SHUTDOWN_BOTH = regs.SHUTDOWN_RECEIVE_MASK | regs.SHUTDOWN_SEND_MASK;

type State = "requested" | "offered" | "open" | "closed";

/** See the file's header. */
export class VsockConnection {
  readonly hostPort: number;
  readonly guestPort: number;

  readonly #muxer: VsockMuxer;
  #state: State;
  #end: VsockEnd | undefined;
  /** Operations that are due, one bit for each. */
  #due = 0;
  /** Flags that SHUTDOWN has told or is to tell the guest, and that the guest has told us. */
  #ourShutdown = 0;
  #guestShutdown = 0;
  #toldShutdown = 0;
  /** Bytes for the guest. */
  readonly #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #wantsDrain = false;
  #endsAfterData = false;
  #closesAfterData = false;
  /** To the guest: its buffer, what it has taken, what was sent. */
  #guestBuffer = 0;
  #guestForwarded = 0;
  #sent = 0;
  #askedForCredit = false;
  /** From the guest: what has come, what was consumed, what it was told of that. */
  #received = 0;
  #forwarded = 0;
  #toldForwarded = 0;
  #cancelTimeout: (() => void) | undefined;
  #owesReset = false;

  /** A connection that the host asks for (`end`), or that the guest does. */
  constructor(muxer: VsockMuxer, hostPort: number, guestPort: number, end?: VsockEnd) {
    this.#muxer = muxer;
    this.hostPort = hostPort;
    this.guestPort = guestPort;
    this.#end = end;
    this.#state = end === undefined ? "offered" : "requested";
    if (end !== undefined) {
      this.#owe(regs.REQUEST);
      this.#closeUnlessAnswered();
    }
  }

  get isClosed(): boolean {
    return this.#state === "closed";
  }

  /** It was ended from this side, and the device is to send a reset in its name. */
  get owesReset(): boolean {
    return this.#owesReset;
  }

  /** Accepts what the guest asks for. */
  accept(end: VsockEnd): void {
    if (this.#state !== "offered") return;
    this.#state = "open";
    this.#end = end;
    this.#owe(regs.RESPONSE);
  }

  /**
   * Sends bytes to the guest, in order; false: no more before `onDrain`. The bytes must not change. They are lost
   * where the guest receives no more.
   */
  write(bytes: Uint8Array): boolean {
    if (this.#state === "closed" || this.#endsAfterData || bytes.length === 0) return true;
    // Nobody would ever take it, and what is to follow it would wait for ever.
    if ((this.#guestShutdown & regs.SHUTDOWN_RECEIVE_MASK) !== 0) return true;
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    this.#muxer.ready(this);
    this.#wantsDrain = this.#pendingBytes >= HIGH_BYTES;
    return !this.#wantsDrain;
  }

  /** The host writes no more; what it wrote still goes out. */
  end(): void {
    this.#endsAfterData = true;
    this.#shutDownWhenFlushed();
  }

  /** The host neither writes nor reads any more; what it wrote still goes out. */
  close(): void {
    if (this.#state === "requested" || this.#state === "offered") {
      this.destroy();
      return;
    }
    this.#endsAfterData = true;
    this.#closesAfterData = true;
    this.#shutDownWhenFlushed();
  }

  /** Ends it at once: the guest is told by a reset. */
  destroy(): void {
    this.#reset("reset");
  }

  /** The host has taken so many bytes of what `onData` gave. */
  consumed(bytes: number): void {
    if (this.#state === "closed") return;
    this.#forwarded = (this.#forwarded + bytes) >>> 0;
    const news = (this.#forwarded - this.#toldForwarded) >>> 0;
    if (news >= regs.CREDIT_UPDATE_BYTES) this.#owe(regs.CREDIT_UPDATE);
  }

  /** Takes a packet of the guest's; `payload` gives its bytes, a private copy. */
  take(header: VsockHeader, payload: () => Uint8Array): void {
    const { operation } = header;
    if (operation === regs.RESET) {
      this.#finish(this.#state === "requested" ? "refused" : "reset");
      return;
    }
    if (!this.#takeCredit(header)) {
      this.#reset("reset");
      return;
    }
    if (operation === regs.RESPONSE && this.#state === "requested") {
      this.#cancelTimeout?.();
      this.#state = "open";
      this.#end?.onOpen?.();
      // The host may have ended it before.
      this.#shutDownWhenFlushed();
    } else if (this.#state !== "open") {
      this.#reset("reset");
    } else if (operation === regs.DATA) {
      this.#takeData(payload());
    } else if (operation === regs.SHUTDOWN) {
      this.#takeShutdown(header.flags);
    } else if (operation === regs.CREDIT_REQUEST) {
      this.#owe(regs.CREDIT_UPDATE);
    } else if (operation !== regs.CREDIT_UPDATE) {
      this.#reset("reset");
    }
    if (this.#hasWork()) this.#muxer.ready(this);
  }

  /** What the guest says of itself when it asks for the connection. */
  takeRequest(header: VsockHeader): void {
    this.#guestBuffer = header.buffer;
    this.#guestForwarded = 0;
  }

  /**
   * The next packet for the guest, with at most `room` bytes of payload: fills the header but for its length
   * and gives the payload to `put`, part by part. Returns the payload's bytes; -1: there is nothing.
   */
  give(
    header: VsockHeader,
    guestCid: number,
    room: number,
    put: (bytes: Uint8Array) => void,
  ): number {
    const operation = this.#nextOperation();
    if (operation === 0) return -1;
    this.#due &= ~(1 << operation);
    const flags = operation === regs.SHUTDOWN ? this.#ourShutdown : 0;
    header.set(guestCid, this.hostPort, this.guestPort, operation, flags, this.#forwarded);
    this.#toldForwarded = this.#forwarded;
    this.#due &= ~(1 << regs.CREDIT_UPDATE);
    if (operation === regs.DATA) return this.#giveData(room, put);
    if (operation === regs.CREDIT_REQUEST) this.#askedForCredit = true;
    if (operation === regs.SHUTDOWN) {
      this.#toldShutdown = flags;
      // The guest answers with a reset when it has read everything.
      if (flags === SHUTDOWN_BOTH) this.#closeUnlessAnswered();
    }
    return 0;
  }

  /** Whether `give` would give something. */
  get hasWork(): boolean {
    return this.#hasWork();
  }

  /** The device was reset, or its microVM has ended: nothing is told to the guest any more. */
  drop(): void {
    this.#finish("reset");
  }

  #nextOperation(): number {
    if (this.#state === "closed") return 0;
    for (const operation of [regs.REQUEST, regs.RESPONSE]) {
      if ((this.#due & (1 << operation)) !== 0) return operation;
    }
    if (this.#state !== "open") return 0;
    if (this.#pendingBytes > 0) {
      if (this.#credit > 0) return regs.DATA;
      if (!this.#askedForCredit) return regs.CREDIT_REQUEST;
    }
    for (const operation of [regs.SHUTDOWN, regs.CREDIT_UPDATE]) {
      if ((this.#due & (1 << operation)) !== 0) return operation;
    }
    return 0;
  }

  #hasWork(): boolean {
    return this.#nextOperation() !== 0;
  }

  get #credit(): number {
    return Math.max(0, this.#guestBuffer - ((this.#sent - this.#guestForwarded) >>> 0));
  }

  #giveData(room: number, put: (bytes: Uint8Array) => void): number {
    let left = Math.min(room, this.#credit, this.#pendingBytes);
    const bytes = left;
    while (left > 0) {
      const first = this.#pending[0];
      const part = first.subarray(0, left);
      put(part);
      left -= part.length;
      if (part.length === first.length) this.#pending.shift();
      else this.#pending[0] = first.subarray(part.length);
    }
    this.#pendingBytes -= bytes;
    this.#sent = (this.#sent + bytes) >>> 0;
    if (this.#pendingBytes === 0) {
      this.#shutDownWhenFlushed();
      this.#drained();
    }
    return bytes;
  }

  #drained(): void {
    if (!this.#wantsDrain) return;
    this.#wantsDrain = false;
    this.#end?.onDrain?.();
  }

  /** False: what the guest says it has taken cannot be. */
  #takeCredit(header: VsockHeader): boolean {
    const inFlight = (this.#sent - this.#guestForwarded) >>> 0;
    const after = (this.#sent - header.forwarded) >>> 0;
    if (after > inFlight) return false;
    this.#guestForwarded = header.forwarded;
    this.#guestBuffer = header.buffer;
    // A guest that has none says more when it has some: asked again at once, it would answer for ever.
    if (this.#credit > 0) this.#askedForCredit = false;
    return true;
  }

  #takeData(bytes: Uint8Array): void {
    const held = (this.#received - this.#forwarded) >>> 0;
    const mayNot = (this.#guestShutdown & regs.SHUTDOWN_SEND_MASK) !== 0;
    if (mayNot || held + bytes.length > regs.BUFFER_BYTES) {
      this.#reset("reset");
      return;
    }
    this.#received = (this.#received + bytes.length) >>> 0;
    // Nobody reads it any more, so it is room again at once.
    if (this.#closesAfterData) this.consumed(bytes.length);
    else if (bytes.length > 0) this.#end?.onData(bytes);
  }

  #takeShutdown(flags: number): void {
    const before = this.#guestShutdown;
    this.#guestShutdown |= flags & SHUTDOWN_BOTH;
    const isNew = (mask: number) => (this.#guestShutdown & ~before & mask) !== 0;
    if (isNew(regs.SHUTDOWN_SEND_MASK)) this.#end?.onEnd();
    if (isNew(regs.SHUTDOWN_RECEIVE_MASK)) {
      this.#pending.length = 0;
      this.#pendingBytes = 0;
    }
    // The guest has closed it: the answer is a reset.
    if (this.#guestShutdown === SHUTDOWN_BOTH) {
      this.#reset("ended");
      return;
    }
    this.#shutDownWhenFlushed();
    if (isNew(regs.SHUTDOWN_RECEIVE_MASK)) this.#drained();
  }

  /** Once nothing waits, tells the guest what does not come any more. */
  #shutDownWhenFlushed(): void {
    if (this.#state !== "open" || this.#pendingBytes > 0 || !this.#endsAfterData) return;
    this.#ourShutdown |= regs.SHUTDOWN_SEND_MASK;
    const isOneWay = (this.#guestShutdown & regs.SHUTDOWN_SEND_MASK) === 0;
    if (this.#closesAfterData || !isOneWay) this.#ourShutdown |= regs.SHUTDOWN_RECEIVE_MASK;
    if (this.#ourShutdown !== this.#toldShutdown) this.#owe(regs.SHUTDOWN);
  }

  #closeUnlessAnswered(): void {
    this.#cancelTimeout?.();
    this.#cancelTimeout = this.#muxer.schedule(regs.ANSWER_TIMEOUT_MS, () => {
      this.#reset(this.#state === "requested" ? "timed-out" : "ended");
    });
  }

  #owe(operation: number): void {
    this.#due |= 1 << operation;
    this.#muxer.ready(this);
  }

  /** Ends it, and has the device tell the guest. */
  #reset(reason: VsockCloseReason): void {
    if (this.#state === "closed") return;
    this.#owesReset = true;
    this.#finish(reason);
  }

  #finish(reason: VsockCloseReason): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#cancelTimeout?.();
    this.#pending.length = 0;
    this.#pendingBytes = 0;
    this.#muxer.remove(this);
    // A reset after everything was said is the proper end.
    const isComplete =
      (this.#guestShutdown & regs.SHUTDOWN_SEND_MASK) !== 0 || this.#toldShutdown === SHUTDOWN_BOTH;
    this.#end?.onClose(reason === "reset" && isComplete ? "ended" : reason);
  }
}
