/**
 * One WebSocket on uWebSockets.js: its peer for the session, and the limit on what may queue up for it.
 */
import type { WebSocket } from "uWebSockets.js";
import type { SocketPeer, SocketSession } from "./http.js";

/** What uWebSockets.js keeps with a socket. */
export interface SocketData {
  readonly open: (peer: SocketPeer) => SocketSession;
  peer?: WsPeer;
  session?: SocketSession;
  isClosed?: boolean;
}

/** RFC 6455 § 7.4 and the IANA registry: "try again later", what a peer too slow is told. */
export const TOO_SLOW = 1013;

/** The client's end of a WebSocket; does nothing once that is closed. */
export class WsPeer implements SocketPeer {
  #socket: WebSocket<SocketData> | undefined;
  readonly #maxBacklogBytes: number;
  readonly #onSlow: () => void;

  constructor(socket: WebSocket<SocketData>, maxBacklogBytes: number, onSlow: () => void) {
    this.#socket = socket;
    this.#maxBacklogBytes = maxBacklogBytes;
    this.#onSlow = onSlow;
  }

  send(message: string | Uint8Array): boolean {
    const socket = this.#socket;
    if (socket === undefined) return false;
    const isSent = socket.send(message, typeof message !== "string", false) === 1;
    if (!isSent && socket.getBufferedAmount() > this.#maxBacklogBytes) {
      this.#onSlow();
      this.close(TOO_SLOW, "too slow");
    }
    return isSent;
  }

  get bufferedBytes(): number {
    return this.#socket?.getBufferedAmount() ?? 0;
  }

  close(code: number, reason: string): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.end(code, reason);
  }

  /** The socket is gone: using it would throw. */
  lose(): void {
    this.#socket = undefined;
  }
}

/** The subprotocol that is chosen: the first that the client offers, as one that offers some wants one. */
export function firstProtocol(offered: string | undefined): string {
  return offered?.split(",")[0].trim() ?? "";
}
