/**
 * Back of the 16550A UART: drains what the guest sends into a sink, and pushes what it is to
 * receive.
 *
 * Owns no queue of its own. Output that the sink does not take stays in the transmit ring and slows
 * the guest down; input that the guest does not take stays with the caller, who hears of room by
 * `onReceiveRoom`. Every handshake stores its own word, then loads the other side's
 * (serial-16550.state.ts).
 */
import type { ByteSink } from "./backend.js";
import type { IrqLine } from "./device.js";
import { SERIAL_RECEIVE_EMPTY, SERIAL_RTS_RAISED, SERIAL_TRANSMIT } from "./events.js";
import type { RateLimiter } from "./rate-limiter.js";
import { rtsRaised } from "./serial-16550.js";
import { IER_RECEIVE_MASK, IER_TRANSMIT_MASK } from "./serial-16550.regs.js";
import * as words from "./serial-16550.state.js";

/** What a serial back is joined to. */
export interface SerialBackOptions {
  readonly irq: IrqLine;
  /** Where the guest's output goes. When it answers `false`, call `drain` once it takes more. */
  readonly sink: ByteSink;
  /**
   * Hold input back until the guest has raised RTS for the first time (default false). Linux clears
   * the receiver when it opens a port, and raises RTS after that: input from a pipe would be lost
   * in part.
   */
  readonly waitForRts?: boolean;
  /**
   * Runs a task a little later (default: at once). The guest tells of output only when the ring was empty:
   * what is drained a millisecond later is one wake-up for a line of text instead of one for each byte.
   */
  readonly later?: (task: () => void) => void;
  /** Output beyond it is dropped and counted, as Firecracker does (default: no limit, at no cost). */
  readonly limit?: RateLimiter;
}

/** The device side of one UART. */
export class SerialBack {
  /** Set by the owner: there may be room in the receive ring again; call `push`. */
  onReceiveRoom: (() => void) | undefined;
  /** Bursts handed to the sink, and bytes in them. */
  flushCount = 0;
  transmittedBytes = 0;
  receivedBytes = 0;
  /** Output that the limit dropped. */
  droppedBytes = 0;

  readonly #state: Int32Array;
  readonly #rings: words.SerialRings;
  readonly #irq: IrqLine;
  readonly #sink: ByteSink;
  readonly #waitForRts: boolean;
  readonly #later: (task: () => void) => void;
  readonly #limit: RateLimiter | undefined;
  #sinkReady = true;
  /** A flush comes later. */
  #isPutOff = false;

  constructor(state: Int32Array, options: SerialBackOptions) {
    this.#state = state;
    this.#rings = words.serialRings(state);
    this.#irq = options.irq;
    this.#sink = options.sink;
    this.#waitForRts = options.waitForRts ?? false;
    this.#later = options.later ?? ((task) => task());
    this.#limit = options.limit;
  }

  /** Takes an event that a front posted (devices/events.ts). */
  handleEvent(event: number): void {
    if (event === SERIAL_TRANSMIT) {
      this.#flushLater();
    } else if (event === SERIAL_RECEIVE_EMPTY || event === SERIAL_RTS_RAISED) {
      this.onReceiveRoom?.();
    }
  }

  /** Hands over what waits for more output, at once; for a pause. Does nothing while the sink wants no more. */
  flush(): void {
    if (this.#sinkReady) this.drain();
  }

  /** Hands everything sent to the sink, which takes it whether it wants it or not: the guest has ended. */
  drainAll(): void {
    while (!this.drained) this.drain();
  }

  /**
   * Hands what was sent to the sink, until it says that it wants no more. What is sent meanwhile comes later: a
   * guest that goes on sending may not occupy the thread.
   */
  drain(): void {
    const state = this.#state;
    this.#sinkReady = true;
    let tail = state[words.TRANSMIT_TAIL_WORD];
    const head = Atomics.load(state, words.TRANSMIT_HEAD_WORD);
    while (this.#sinkReady && tail !== head) {
      const used = (head - tail) | 0;
      const at = tail & (words.TRANSMIT_BYTES - 1);
      // A private copy, up to the ring's end.
      const bytes = this.#rings.transmit.slice(at, Math.min(at + used, words.TRANSMIT_BYTES));
      tail = (tail + bytes.length) | 0;
      Atomics.store(state, words.TRANSMIT_TAIL_WORD, tail);
      this.#unblockTransmitter(tail);
      this.flushCount++;
      this.transmittedBytes += bytes.length;
      const allowed = this.#limit?.admitUpTo(bytes.length) ?? bytes.length;
      this.droppedBytes += bytes.length - allowed;
      if (allowed > 0) this.#sinkReady = this.#sink.write(bytes.subarray(0, allowed));
    }
    // The guest tells only of the first byte in an empty ring.
    if (this.#sinkReady && !this.drained) this.#flushLater();
  }

  /**
   * Gives the guest bytes to receive and returns how many it took: 0 while the ring is full, while
   * RTS is dropped (once it has been raised), or before it was raised with `waitForRts`. For the
   * rest wait for `onReceiveRoom`.
   */
  push(bytes: Uint8Array): number {
    const state = this.#state;
    const head = state[words.RECEIVE_HEAD_WORD];
    let accepted = 0;
    // Twice at most: the guest may have emptied the ring before it could see that we wait.
    for (let round = 0; round < 2 && accepted < bytes.length; round++) {
      if (this.#mayPush()) {
        const at = (head + accepted) | 0;
        const used = (at - Atomics.load(state, words.RECEIVE_TAIL_WORD)) | 0;
        const count = Math.min(bytes.length - accepted, words.RECEIVE_BYTES - used);
        for (let index = 0; index < count; index++) {
          const slot = (at + index) & (words.RECEIVE_BYTES - 1);
          this.#rings.receive[slot] = bytes[accepted + index];
        }
        accepted += count;
      }
      Atomics.store(state, words.RECEIVE_HEAD_WORD, (head + accepted) | 0);
      const more = accepted < bytes.length ? 1 : 0;
      Atomics.store(state, words.RECEIVE_WAITING_WORD, more);
    }
    if (accepted > 0) {
      this.receivedBytes += accepted;
      if ((Atomics.load(state, words.IER_WORD) & IER_RECEIVE_MASK) !== 0) this.#irq.raise();
    }
    return accepted;
  }

  /** Whether everything that the guest has sent was handed to the sink. */
  get drained(): boolean {
    const state = this.#state;
    return Atomics.load(state, words.TRANSMIT_HEAD_WORD) === state[words.TRANSMIT_TAIL_WORD];
  }

  /** Once at a time, whoever asks. */
  #flushLater(): void {
    if (this.#isPutOff) return;
    this.#isPutOff = true;
    this.#later(() => {
      this.#isPutOff = false;
      this.flush();
    });
  }

  #mayPush(): boolean {
    const state = this.#state;
    if (Atomics.load(state, words.RTS_SEEN_WORD) === 0) return !this.#waitForRts;
    return rtsRaised(Atomics.load(state, words.MCR_WORD));
  }

  #unblockTransmitter(tail: number): void {
    const state = this.#state;
    const used = (Atomics.load(state, words.TRANSMIT_HEAD_WORD) - tail) | 0;
    if (used > words.TRANSMIT_LOW_BYTES) return;
    if (Atomics.exchange(state, words.TRANSMIT_BLOCKED_WORD, 0) === 0) return;
    Atomics.store(state, words.THRE_PENDING_WORD, 1);
    if ((Atomics.load(state, words.IER_WORD) & IER_TRANSMIT_MASK) !== 0) this.#irq.raise();
  }
}
