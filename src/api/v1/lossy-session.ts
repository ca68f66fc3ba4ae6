/**
 * One client of a stream that leaves out what its client does not read in time, and tells it how much that was:
 * a hello, then messages until the microVM ends.
 */
import { isEstaloError } from "../../errors.js";
import type { SocketPeer, SocketSession } from "../http.js";
import { CLOSE_NORMAL, CLOSE_NOT_FOUND, CLOSE_POLICY, CLOSE_WRONG_STATE } from "./close-codes.js";
import type { DoorFleet, LiveMicrovm } from "./fleet.js";

/** Where a stream's messages go. */
export interface Sink {
  /** False: the client is behind, or gone. What is sent all the same waits for it. */
  isReady(): boolean;
  send(message: string | Uint8Array): void;
  /** Nothing more will come. */
  end(): void;
}

/** Begins a stream; returns what ends it. */
export type Subscribe = (sink: Sink) => () => void;

/** Opens the session of one client. */
export type OpenSession = (peer: SocketPeer) => SocketSession;

/**
 * What opens the session of one client with a microVM: `open` gives it. One that is not there, or has no `what` since
 * it does not exist at the moment, closes the socket.
 */
export function openLive(
  fleet: DoorFleet,
  idOrName: string,
  what: string,
  open: (id: string, live: LiveMicrovm) => OpenSession,
): OpenSession {
  try {
    const { id, state } = fleet.get(idOrName);
    const live = fleet.supervisor(idOrName);
    if (live !== undefined) return open(id, live);
    return closed(CLOSE_WRONG_STATE, `the microVM is ${state}: it has no ${what}`);
  } catch (error) {
    if (!isEstaloError(error) || error.code !== "ERR_ESTALO_NOT_FOUND") throw error;
    return closed(CLOSE_NOT_FOUND, "there is no such microVM");
  }
}

function closed(code: number, reason: string): OpenSession {
  return (peer) => {
    peer.close(code, reason);
    return { onClose() {} };
  };
}

/** See the file's header. */
export class LossySession implements SocketSession {
  readonly #peer: SocketPeer;
  #isBehind = false;
  #hasEnded = false;
  #isClosed = false;
  #unsubscribe: () => void = () => {};

  constructor(peer: SocketPeer, hello: string, subscribe: Subscribe) {
    this.#peer = peer;
    this.#send(hello);
    const unsubscribe = subscribe({
      isReady: () => !this.#isBehind && !this.#isClosed,
      send: (message) => this.#send(message),
      end: () => {
        this.#hasEnded = true;
        this.#finish();
      },
    });
    this.#unsubscribe = unsubscribe;
    // Closed by what was sent meanwhile.
    if (this.#isClosed) unsubscribe();
  }

  onMessage(): void {
    this.#close(CLOSE_POLICY, "this socket takes no messages");
  }

  onDrain(): void {
    this.#isBehind = false;
    this.#finish();
  }

  onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#unsubscribe();
  }

  #send(message: string | Uint8Array): void {
    if (!this.#isClosed) this.#isBehind = !this.#peer.send(message);
  }

  /** Closes when the microVM has ended and its last messages were sent. */
  #finish(): void {
    if (this.#hasEnded && !this.#isBehind) this.#close(CLOSE_NORMAL, "the microVM has ended");
  }

  #close(code: number, reason: string): void {
    if (this.#isClosed) return;
    this.onClose();
    this.#peer.close(code, reason);
  }
}
