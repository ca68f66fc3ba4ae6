/**
 * What both doors speak of: a request read whole, its reply, and a WebSocket with its session. Contracts
 * only; server.ts joins them to uWebSockets.js, and nobody else knows that it is there.
 */

/** A request, complete and within the limits of its server. */
export interface ApiRequest {
  /** As it was sent: methods are case-sensitive. */
  readonly method: string;
  /** As it was sent, without the query; percent-encoding is kept. */
  readonly path: string;
  /** Without the question mark; empty when there is none. */
  readonly query: string;
  /** A header's value by its lower-case name. */
  header(name: string): string | undefined;
  /** Empty when there is none. A private copy. */
  readonly body: Uint8Array;
  /** Aborted when the client has gone, or its server closes. */
  readonly signal: AbortSignal;
}

/** The answer to a request. */
export interface ApiReply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Absent: none; Content-Length is 0 then, and with 204 there is none. JSON unless a header says what it is. */
  readonly body?: string | Uint8Array;
}

/** Answers requests; never rejects (what goes wrong is a reply). */
export type ApiHandler = (request: ApiRequest) => ApiReply | Promise<ApiReply>;

/** The client's end of a WebSocket. */
export interface SocketPeer {
  /**
   * Sends a text or a binary message; `false`: it was queued, and no more should be sent until `onDrain`. A
   * peer that lets more than its server's limit queue up is closed with code 1013.
   */
  send(message: string | Uint8Array): boolean;
  /** Bytes that were queued and not sent yet. */
  readonly bufferedBytes: number;
  /** Closes with a code of RFC 6455 § 7.4 and a reason of at most 123 bytes. */
  close(code: number, reason: string): void;
}

/** What one WebSocket does; every call is made on the server's thread. */
export interface SocketSession {
  /** A message within the server's limit; valid during the call only. */
  onMessage?(message: Uint8Array, isBinary: boolean): void;
  /** What was queued is sent. */
  onDrain?(): void;
  /** The socket is gone, whoever closed it; called once, last. */
  onClose(): void;
}

/** Makes the session of an upgrade request, or says no with a reply. Called before the upgrade. */
export type SocketOpener = (
  request: ApiRequest,
) => ApiReply | ((peer: SocketPeer) => SocketSession);
