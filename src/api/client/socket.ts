/**
 * WebSockets to a server: opened with its errors as errors, read as messages with back-pressure, and watched
 * for a peer that is gone without a word. The only user of `ws`, which is loaded when the first one opens.
 */
import type { IncomingMessage } from "node:http";
import { connect as connectPlain } from "node:net";
import { connect as connectSecure } from "node:tls";
import type { RawData, WebSocket } from "ws";
import { type ErrorCode, EstaloError } from "../../errors.js";
import { authorization, type QueryValues, queryText, tlsOptions } from "./connection.js";
import { abortedError, connectError, type HttpReply, refusal, silentError } from "./errors.js";
import type { ServerAddress } from "./server-address.js";

/** How a socket ended (RFC 6455 § 7.4; 4000 and up are the server's own). */
export interface SocketEnd {
  /** 1006: the connection broke. */
  readonly code: number;
  readonly reason: string;
}

/** One message. */
export interface SocketMessage {
  readonly data: Uint8Array;
  readonly isBinary: boolean;
}

/** What a socket is opened for. */
export interface SocketCall {
  readonly path: string;
  readonly query?: QueryValues;
  readonly signal?: AbortSignal | undefined;
  /** How long the server may take to answer, and be silent afterwards, in milliseconds. */
  readonly timeoutMs: number;
}

/** Close codes of the server: docs/client.md lists them. */
export const CLOSE = {
  ended: 1000,
  serverCloses: 1001,
  broken: 1006,
  tooSlow: 1013,
  notFound: 4404,
  wrongState: 4409,
  gap: 4410,
} as const;

const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;
/** A refusal is short. */
const REFUSAL_BYTES_MAX = 1024 * 1024;

/**
 * Opens a socket, paused, so that nothing comes before somebody listens. Rejects with the server's refusal,
 * ERR_ESTALO_CONNECT, or ERR_ESTALO_ABORTED.
 */
export async function openSocket(address: ServerAddress, call: SocketCall): Promise<WebSocket> {
  const { signal, timeoutMs } = call;
  if (signal?.aborted) throw abortedError(signal);
  const { WebSocket } = await import("ws");
  const { hostname, port, isSecure } = address;
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  const origin = `${isSecure ? "wss" : "ws"}://${host}${port === 0 ? "" : `:${port}`}`;
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${origin}${call.path}${queryText(call.query)}`, {
      perMessageDeflate: false,
      maxPayload: MESSAGE_BYTES_MAX,
      headers: authorization(address),
      createConnection: () => connectTo(address),
    });
    const what = `WebSocket ${call.path}`;
    const timer = setTimeout(() => fail(silentError(address, what, timeoutMs)), timeoutMs);
    const onAbort = () => fail(abortedError(signal as AbortSignal));
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      socket.off("error", onError);
    };
    const fail = (error: EstaloError) => {
      settle();
      // Ending a handshake is an error to ws.
      socket.on("error", () => {});
      socket.terminate();
      reject(error);
    };
    const onError = (error: Error) => fail(connectError(address, error));
    signal?.addEventListener("abort", onAbort, { once: true });
    socket.on("error", onError);
    socket.once("unexpected-response", (_request, response) => {
      readRefusal(response).then((reply) => fail(refusal(address, what, reply)), onError);
    });
    socket.once("open", () => {
      settle();
      socket.pause();
      resolve(socket);
    });
  });
}

function connectTo(address: ServerAddress) {
  const { socketPath, hostname, port, isSecure } = address;
  if (socketPath !== undefined) return connectPlain({ path: socketPath });
  if (!isSecure) return connectPlain({ host: hostname, port });
  const isAddress = /^[\d.]+$|:/.test(hostname);
  const server = isAddress ? {} : { servername: hostname };
  return connectSecure({ host: hostname, port, ...server, ...tlsOptions(address) });
}

async function readRefusal(response: IncomingMessage): Promise<HttpReply> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response) {
    sizeBytes += chunk.length;
    if (sizeBytes > REFUSAL_BYTES_MAX) break;
    chunks.push(chunk);
  }
  const contentType = response.headers["content-type"] ?? "";
  return { status: response.statusCode ?? 0, contentType, body: Buffer.concat(chunks) };
}

/** The error that a socket's end is, `undefined` for one that is in order. */
export function endError(
  address: ServerAddress,
  what: string,
  { code, reason }: SocketEnd,
): EstaloError | undefined {
  if (code === CLOSE.ended) return undefined;
  const text = `${what}: ${reason === "" ? `closed with code ${code}` : reason}`;
  const error = (kind: ErrorCode, message: string, hint?: string) =>
    new EstaloError(kind, message, {
      data: { host: address.name, closeCode: code },
      ...(hint === undefined ? {} : { hint }),
    });
  switch (code) {
    case CLOSE.notFound:
      return error("ERR_ESTALO_NOT_FOUND", text);
    case CLOSE.wrongState:
      return error("ERR_ESTALO_STATE", text);
    case CLOSE.gap:
      return error("ERR_ESTALO_EVENTS_GAP", text);
    case CLOSE.serverCloses:
      return error("ERR_ESTALO_CONNECT", `${what}: ${address.name} closes`);
    case CLOSE.broken:
      return error("ERR_ESTALO_CONNECT", `${what}: the connection to ${address.name} broke`);
    case CLOSE.tooSlow:
      return error(
        "ERR_ESTALO_CONNECT",
        `${what}: ${address.name} ended it, because it was read too slowly`,
      );
  }
  return error("ERR_ESTALO_REPLY", text);
}

/** A message's bytes as one piece. */
export function bytesOf(data: RawData): Uint8Array {
  if (Array.isArray(data)) return Buffer.concat(data);
  return data instanceof ArrayBuffer ? new Uint8Array(data) : data;
}

/** The server leaves a socket on which it hears nothing for 32 s; it hears of us each so often. */
const LIFE_SIGN_MS = 10_000;

/**
 * Asks a peer that says nothing whether it is there, and ends the socket when it does not answer. While
 * reading is paused nothing can be heard, and nothing is asked; nor is the peer's own question answered, so it
 * is told without.
 */
export function watchPeer(socket: WebSocket, timeoutMs: number): void {
  let wasHeard = true;
  const hear = () => {
    wasHeard = true;
  };
  socket.on("pong", hear).on("ping", hear).on("message", hear);
  const timer = setInterval(() => {
    if (socket.isPaused) {
      wasHeard = true;
      return;
    }
    if (!wasHeard) {
      socket.terminate();
      return;
    }
    wasHeard = false;
    socket.ping(undefined, undefined, () => {});
  }, timeoutMs / 2);
  const tellLife = () => {
    if (socket.isPaused) socket.pong(undefined, undefined, () => {});
  };
  const living = setInterval(tellLife, Math.min(timeoutMs / 2, LIFE_SIGN_MS));
  socket.once("close", () => {
    clearInterval(timer);
    clearInterval(living);
  });
}

/** Messages kept for a reader that is busy; with more the server has to wait. */
const QUEUED_MESSAGES_MAX = 256;
const QUEUED_BYTES_MAX = 1024 * 1024;

/** A socket's messages, one after the other. */
export class SocketMessages {
  readonly #socket: WebSocket;
  readonly #queue: SocketMessage[] = [];
  #queuedBytes = 0;
  #end: SocketEnd | undefined;
  #wake: (() => void) | undefined;

  constructor(socket: WebSocket, timeoutMs: number) {
    this.#socket = socket;
    watchPeer(socket, timeoutMs);
    socket.on("message", (data, isBinary) => this.#take(bytesOf(data), isBinary));
    // A broken frame or connection; the end that follows says so.
    socket.on("error", () => {});
    socket.once("close", (code, reason) => {
      this.#end = { code, reason: reason.toString("utf8") };
      this.#wake?.();
    });
    socket.resume();
  }

  /** The next message; `undefined` after the last one. Only one call at a time. */
  async next(): Promise<SocketMessage | undefined> {
    while (this.#queue.length === 0 && this.#end === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#queue.shift();
    if (message === undefined) return undefined;
    this.#queuedBytes -= message.data.length;
    const hasRoom =
      this.#queue.length < QUEUED_MESSAGES_MAX / 2 && this.#queuedBytes < QUEUED_BYTES_MAX / 2;
    if (this.#socket.isPaused && hasRoom) this.#socket.resume();
    return message;
  }

  /** How it ended; known after the last message. */
  get end(): SocketEnd {
    return this.#end ?? { code: CLOSE.broken, reason: "" };
  }

  /** Ends it from our side. */
  close(): void {
    closeSocket(this.#socket);
  }

  #take(data: Uint8Array, isBinary: boolean): void {
    this.#queue.push({ data, isBinary });
    this.#queuedBytes += data.length;
    const isFull =
      this.#queue.length >= QUEUED_MESSAGES_MAX || this.#queuedBytes >= QUEUED_BYTES_MAX;
    if (isFull) this.#socket.pause();
    this.#wake?.();
  }
}

/** A peer that does not answer our goodbye within this time is left. */
const GOODBYE_MS = 1000;

/** Says goodbye, and leaves. */
export function closeSocket(socket: WebSocket): void {
  socket.on("error", () => {});
  socket.close(CLOSE.ended);
  // What was not read is not wanted any more, and the peer's answer comes after it.
  socket.resume();
  const timer = setTimeout(() => socket.terminate(), GOODBYE_MS);
  socket.once("close", () => clearTimeout(timer));
}
