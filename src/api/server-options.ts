/**
 * What a server is told, and what it tells: address, limits, the replies it makes itself, counters.
 */
import { EstaloError } from "../errors.js";
import { errorReply } from "./errors-http.js";
import type { ApiHandler, ApiReply, ApiRequest, SocketOpener } from "./http.js";
import type { TlsFiles } from "./tls-front.js";

/** Where a server listens. */
export type ServerAddress =
  | {
      /** At most 107 bytes. The socket gets mode 0600. */
      readonly path: string;
      /** Remove a socket nobody listens on first. Default: refuse whatever is there. */
      readonly removeStale?: boolean;
    }
  | {
      /** A name or an address; "localhost" means 127.0.0.1. */
      readonly host: string;
      /** 0: any free one. */
      readonly port: number;
      readonly tls?: TlsFiles;
    };

/** What a server bears. */
export interface ServerLimits {
  /** A request's body. Default 1 MiB. */
  readonly bodyBytes: number;
  /** Connections at once, WebSockets among them. Default 1024. */
  readonly connections: number;
  /** A WebSocket message from a client; a longer one closes it. Default 64 KiB. */
  readonly messageBytes: number;
  /** What may queue up for a WebSocket client before it is closed with 1013. Default 1 MiB. */
  readonly backlogBytes: number;
}

/** The replies that a server makes itself; by default door 2's error bodies. */
export interface ServerReplies {
  /** To a connection over the limit, before it said anything. */
  tooManyConnections(): ApiReply;
  /** `bytes`: as declared, or what has come so far. */
  bodyTooLarge(bytes: number, limitBytes: number): ApiReply;
  /** To a first line and headers of more than 4096 bytes. */
  headTooLarge(limitBytes: number): ApiReply;
  /** To HTTP that uWebSockets.js lets pass and we do not. */
  badRequest(why: string): ApiReply;
  /** To a request while the server closes. */
  closing(): ApiReply;
  /** To a request whose handler failed. */
  failed(error: EstaloError): ApiReply;
}

export interface ServerOptions {
  readonly address: ServerAddress;
  /** The reply to a request, or an upgrade, that goes no further, by its head alone: `body` is empty. Never throws. */
  readonly admit?: (request: ApiRequest) => ApiReply | undefined;
  readonly handler: ApiHandler;
  /** WebSockets by path template, as in "/v1/microvms/{id}/console". */
  readonly sockets?: Readonly<Record<string, SocketOpener>>;
  readonly limits?: Partial<ServerLimits>;
  readonly replies?: Partial<ServerReplies>;
  /** Sent with every reply. */
  readonly headers?: Readonly<Record<string, string>>;
  /** "HTTP/1.1 204 No Content"; `false`: "HTTP/1.1 204 ", as Firecracker writes it. Default true. */
  readonly reasonPhrases?: boolean;
  /** Told of a handler's failure, which the client sees as status 500. */
  readonly onFailure?: (error: EstaloError) => void;
}

/** What a server has seen, all since it listens but the two `open` ones. */
export interface ServerCounters {
  readonly connections: number;
  readonly openConnections: number;
  readonly refusedConnections: number;
  readonly requests: number;
  /** Bytes of bodies. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Requests whose client had gone before the reply. */
  readonly droppedReplies: number;
  /** Requests whose handler failed. */
  readonly failures: number;
  readonly sockets: number;
  readonly openSockets: number;
  /** WebSocket clients closed with 1013. */
  readonly slowSockets: number;
}

export const DEFAULT_LIMITS: ServerLimits = {
  bodyBytes: 2 ** 20,
  connections: 1024,
  messageBytes: 65_536,
  backlogBytes: 2 ** 20,
};

export const DEFAULT_REPLIES: ServerReplies = {
  tooManyConnections: () =>
    errorReply(new EstaloError("ERR_ESTALO_BUSY", "too many open connections")),
  bodyTooLarge: (_bytes, limit) =>
    errorReply(new EstaloError("ERR_ESTALO_TOO_LARGE", `the body has more than ${limit} bytes`)),
  headTooLarge: (limit) => ({
    ...errorReply(new EstaloError("ERR_ESTALO_TOO_LARGE", `the head has more than ${limit} bytes`)),
    status: 431,
  }),
  badRequest: (why) => errorReply(new EstaloError("ERR_ESTALO_REQUEST", why)),
  closing: () => errorReply(new EstaloError("ERR_ESTALO_BUSY", "the server closes")),
  failed: errorReply,
};

/** All at zero. */
export function newCounters(): { -readonly [K in keyof ServerCounters]: number } {
  return {
    connections: 0,
    openConnections: 0,
    refusedConnections: 0,
    requests: 0,
    receivedBytes: 0,
    sentBytes: 0,
    droppedReplies: 0,
    failures: 0,
    sockets: 0,
    openSockets: 0,
    slowSockets: 0,
  };
}
