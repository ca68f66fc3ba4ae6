/**
 * The HTTP and WebSocket server of both doors; the only file that loads uWebSockets.js.
 *
 * Requests are read whole, copied, handed over and answered; what a client does wrong costs it its
 * connection and nobody else anything. A response must not be used after its client has gone, and an
 * exception in a callback would end the process: an `Exchange` forgets its response, every callback catches.
 *
 * What uWebSockets.js decides by itself is in docs/api.md, "The HTTP server": its time limits (10 s for a
 * request's head, 10 s or 16 KiB/s for its body, 10 s between requests) and its answers to malformed HTTP.
 */

import uws, {
  type HttpRequest,
  type HttpResponse,
  type TemplatedApp,
  type us_listen_socket,
  type us_socket_context_t,
  type WebSocket,
} from "uWebSockets.js";
import { KeptBytes } from "../actors/kept-bytes.js";
import { EstaloError, toEstaloError } from "../errors.js";
import type { ApiReply, SocketOpener } from "./http.js";
import { Exchange, type ReplyStyle, writeReply } from "./server-exchange.js";
import {
  DEFAULT_LIMITS,
  DEFAULT_REPLIES,
  newCounters,
  type ServerCounters,
  type ServerLimits,
  type ServerOptions,
  type ServerReplies,
} from "./server-options.js";
import { firstProtocol, type SocketData, WsPeer } from "./server-socket.js";
import { type TlsFiles, TlsFront } from "./tls-front.js";
import { claimUnixPath, dropSocket, settleSocket } from "./unix-path.js";

/** A WebSocket without a message or an answer to a ping for so long is closed. */
const SOCKET_IDLE_TIMEOUT_S = 32;

/** What uWebSockets.js bears of a head that comes in pieces; one that comes whole may not have more. */
const HEAD_MAX_BYTES = 4096;

const DEFAULT_CLOSE_TIMEOUT_MS = 5000;

/** Listen on a port that another process has: no (SO_REUSEPORT would share it). */
const EXCLUSIVE_PORT = 1;

export class ApiServer {
  readonly #options: ServerOptions;
  readonly #limits: ServerLimits;
  readonly #replies: ServerReplies;
  readonly #style: ReplyStyle;
  readonly #app: TemplatedApp;
  readonly #running = new Set<Exchange>();
  readonly #peers = new Set<WsPeer>();
  readonly #counters = newCounters();
  #stopListening: () => void = () => {};
  #release: () => void = () => {};
  #reloadTls: () => void = () => {};
  #port: number | undefined;
  #onIdle: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  private constructor(options: ServerOptions) {
    this.#options = options;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#replies = { ...DEFAULT_REPLIES, ...options.replies };
    this.#style = {
      headers: options.headers ?? {},
      reasonPhrases: options.reasonPhrases ?? true,
    };
    silenceServerHeader();
    this.#app = uws.App();
    this.#app.filter((response, change) => this.#onConnection(response, Number(change)));
    for (const [template, opener] of Object.entries(options.sockets ?? {})) {
      this.#serveSocket(template, opener);
    }
    this.#app.any("/*", (response, request) => this.#onRequest(response, request));
  }

  /**
   * Listens.
   *
   * @throws ERR_ESTALO_LISTEN when the address cannot be had (its `data` says why), or the TLS files are no use
   */
  static async listen(options: ServerOptions): Promise<ApiServer> {
    const server = new ApiServer(options);
    const { address } = options;
    if ("path" in address) {
      await claimUnixPath(address.path, address.removeStale ?? false);
      server.#listenUnix(address.path);
      return server;
    }
    const { port, tls } = address;
    // Its first address may be IPv6's, which clients of the other do not reach.
    const host = address.host === "localhost" ? "127.0.0.1" : address.host;
    if (tls === undefined) server.#listenTcp(host, port);
    else await server.#listenTls(host, port, tls);
    return server;
  }

  /** The TCP port. */
  get port(): number | undefined {
    return this.#port;
  }

  get counters(): ServerCounters {
    return { ...this.#counters };
  }

  /** Reads the TLS files again, for connections from now on; with ERR_ESTALO_LISTEN the old ones stay. */
  reloadTls(): void {
    this.#reloadTls();
  }

  /**
   * Stops listening, aborts the signals of what runs, closes WebSockets with 1001, waits for the replies that
   * are due for up to `timeoutMs` (default 5000), and closes every connection. Never rejects.
   */
  close({ timeoutMs = DEFAULT_CLOSE_TIMEOUT_MS } = {}): Promise<void> {
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  async #close(timeoutMs: number): Promise<void> {
    this.#stopListening();
    for (const peer of [...this.#peers]) peer.close(1001, "server closes");
    for (const exchange of [...this.#running]) exchange.abort();
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      timer = setTimeout(resolve, timeoutMs);
      if (this.#running.size === 0) resolve();
    });
    clearTimeout(timer);
    this.#app.close();
    this.#release();
  }

  #listenUnix(path: string): void {
    let socket: us_listen_socket | false = false;
    // Bound with mode 0700 less the umask: nobody else gets in before the next line either.
    this.#app.listen_unix((listening) => {
      socket = listening;
    }, path);
    if (!socket) throw cannotListen(path);
    const bound = settleSocket(path);
    this.#stopListening = () => {
      uws.us_listen_socket_close(socket as us_listen_socket);
      dropSocket(path, bound);
    };
  }

  #listenTcp(host: string, port: number): void {
    let socket: us_listen_socket | false = false;
    const accept = (listening: us_listen_socket | false) => {
      socket = listening;
    };
    // The declarations have no form with host and options; the code does.
    (this.#app.listen as (...args: unknown[]) => void)(host, port, EXCLUSIVE_PORT, accept);
    if (!socket) throw cannotListen(`${host}:${port}`);
    this.#port = uws.us_socket_local_port(socket);
    this.#stopListening = () => uws.us_listen_socket_close(socket as us_listen_socket);
  }

  async #listenTls(host: string, port: number, files: TlsFiles): Promise<void> {
    const maxConnections = this.#limits.connections;
    const front = await TlsFront.listen({ host, port, files, maxConnections });
    this.#release = () => front.close();
    try {
      this.#listenUnix(front.innerPath);
    } catch (error) {
      front.close();
      throw error;
    }
    this.#port = front.port;
    this.#reloadTls = () => front.reload();
    const stopInner = this.#stopListening;
    this.#stopListening = () => {
      front.stopListening();
      stopInner();
    };
  }

  #onConnection(response: HttpResponse, change: number): void {
    const counters = this.#counters;
    counters.openConnections += change;
    if (change < 0) return;
    counters.connections++;
    if (counters.openConnections + counters.openSockets <= this.#limits.connections) return;
    counters.refusedConnections++;
    writeReply(response, this.#replies.tooManyConnections(), this.#style, false, true);
  }

  #onRequest(response: HttpResponse, request: HttpRequest): void {
    const exchange = this.#take(response, request);
    if (exchange === undefined) return;
    const declared = exchange.header("content-length");
    const hasBody = declared !== undefined || exchange.header("transfer-encoding") !== undefined;
    const refusal = this.#options.admit?.(exchange);
    if (!hasBody) {
      if (refusal === undefined) this.#run(exchange);
      else this.#send(exchange, refusal);
      return;
    }
    const limit = this.#limits.bodyBytes;
    if (Number(declared) > limit) {
      this.#send(exchange, this.#replies.bodyTooLarge(Number(declared), limit), true);
      return;
    }
    this.#readBody(exchange, response, refusal);
  }

  /** The request, unless it is answered already: while the server closes, and what is no request. */
  #take(response: HttpResponse, request: HttpRequest): Exchange | undefined {
    this.#counters.requests++;
    const exchange = new Exchange(response, request, this.#style);
    response.onAborted(() => exchange.lose());
    if (this.#closed !== undefined) {
      this.#send(exchange, this.#replies.closing(), true);
    } else if (exchange.headBytes > HEAD_MAX_BYTES) {
      this.#send(exchange, this.#replies.headTooLarge(HEAD_MAX_BYTES), true);
    } else if (exchange.fault !== undefined) {
      this.#send(exchange, this.#replies.badRequest(exchange.fault), true);
    } else {
      return exchange;
    }
    return undefined;
  }

  /** Of a refused request the body is read, so that its client hears the refusal, and not kept. */
  #readBody(exchange: Exchange, response: HttpResponse, refusal: ApiReply | undefined): void {
    const limit = this.#limits.bodyBytes;
    let received = 0;
    const kept = new KeptBytes();
    response.onData((chunk, isLast) => {
      if (!exchange.isOpen) return;
      received += chunk.byteLength;
      this.#counters.receivedBytes += chunk.byteLength;
      if (received > limit) {
        kept.take();
        this.#send(exchange, this.#replies.bodyTooLarge(received, limit), true);
        return;
      }
      // A copy: the chunk is uWebSockets.js's own memory, and gone after this call.
      if (refusal === undefined) kept.append(new Uint8Array(chunk));
      if (!isLast) return;
      if (refusal !== undefined) {
        this.#send(exchange, refusal);
        return;
      }
      exchange.body = new Uint8Array(kept.take());
      this.#run(exchange);
    });
  }

  #run(exchange: Exchange): void {
    let reply: ApiReply | Promise<ApiReply>;
    try {
      reply = this.#options.handler(exchange);
    } catch (error) {
      this.#fail(exchange, error);
      return;
    }
    if (!(reply instanceof Promise)) {
      this.#send(exchange, reply);
      return;
    }
    this.#running.add(exchange);
    reply
      .then(
        (later) => this.#send(exchange, later),
        (error) => this.#fail(exchange, error),
      )
      .finally(() => {
        this.#running.delete(exchange);
        if (this.#running.size === 0) this.#onIdle?.();
      });
  }

  #fail(exchange: Exchange, thrown: unknown): void {
    this.#send(exchange, this.#replies.failed(this.#countFailure(thrown)));
  }

  #send(exchange: Exchange, reply: ApiReply, closes = this.#closed !== undefined): void {
    try {
      const bytes = exchange.send(reply, closes);
      if (bytes === undefined) this.#counters.droppedReplies++;
      else this.#counters.sentBytes += bytes;
    } catch (error) {
      if (exchange.isOpen) this.#fail(exchange, error);
    }
  }

  #serveSocket(template: string, opener: SocketOpener): void {
    this.#app.ws<SocketData>(template.replaceAll(/\{(\w+)\}/g, ":$1"), {
      maxPayloadLength: this.#limits.messageBytes,
      // Unlimited there: the peer has the limit, and a close code for it.
      maxBackpressure: 0,
      idleTimeout: SOCKET_IDLE_TIMEOUT_S,
      sendPingsAutomatically: true,
      compression: uws.DISABLED,
      upgrade: (response, request, context) => {
        const exchange = this.#take(response, request);
        if (exchange !== undefined) this.#upgrade(exchange, opener, context);
      },
      open: (socket) => this.#guard(socket, () => this.#onOpen(socket)),
      message: (socket, message, isBinary) =>
        this.#guard(socket, () =>
          socket.getUserData().session?.onMessage?.(new Uint8Array(message), isBinary),
        ),
      drain: (socket) => this.#guard(socket, () => socket.getUserData().session?.onDrain?.()),
      close: (socket) => this.#onSocketClose(socket.getUserData()),
    });
  }

  #upgrade(exchange: Exchange, opener: SocketOpener, context: us_socket_context_t): void {
    let opened: ReturnType<SocketOpener>;
    try {
      opened = this.#options.admit?.(exchange) ?? opener(exchange);
    } catch (error) {
      this.#fail(exchange, error);
      return;
    }
    if (typeof opened !== "function") {
      this.#send(exchange, opened);
      return;
    }
    if (exchange.header("sec-websocket-version") !== "13") {
      this.#send(exchange, this.#replies.badRequest("Sec-WebSocket-Version is not 13"), true);
      return;
    }
    const response = exchange.take();
    if (response === undefined) return;
    // An upgraded connection never tells the filter that it is closed.
    this.#counters.openConnections--;
    this.#counters.openSockets++;
    this.#counters.sockets++;
    const key = exchange.header("sec-websocket-key") ?? "";
    const protocol = firstProtocol(exchange.header("sec-websocket-protocol"));
    response.upgrade<SocketData>({ open: opened }, key, protocol, "", context);
  }

  #onOpen(socket: WebSocket<SocketData>): void {
    const data = socket.getUserData();
    data.peer = new WsPeer(socket, this.#limits.backlogBytes, () => {
      this.#counters.slowSockets++;
    });
    this.#peers.add(data.peer);
    data.session = data.open(data.peer);
    // It may have closed its peer before it returned.
    if (data.isClosed) data.session.onClose();
  }

  #onSocketClose(data: SocketData): void {
    this.#counters.openSockets--;
    data.isClosed = true;
    if (data.peer !== undefined) {
      data.peer.lose();
      this.#peers.delete(data.peer);
    }
    try {
      data.session?.onClose();
    } catch (error) {
      this.#countFailure(error);
    }
  }

  /** A session's failure closes its socket. */
  #guard(socket: WebSocket<SocketData>, call: () => void): void {
    const { peer } = socket.getUserData();
    try {
      call();
    } catch (error) {
      this.#countFailure(error);
      (peer ?? socket.getUserData().peer)?.close(1011, "internal error");
    }
  }

  #countFailure(thrown: unknown): EstaloError {
    const error = toEstaloError(thrown);
    this.#counters.failures++;
    this.#options.onFailure?.(error);
    return error;
  }
}

/** uWebSockets.js reports no errno. */
function cannotListen(address: string): EstaloError {
  return new EstaloError("ERR_ESTALO_LISTEN", `listen on ${address}: refused by the system`, {
    data: { operation: "listen", object: address },
    hint: "the address is taken, is not this host's, or its folder is missing or not writable",
  });
}

/** Leaves out the header that names the server's library; `headers` says what a door wants to be called. */
function silenceServerHeader(): void {
  // The declarations leave it out. The key is any string whose bytes add up to 655.
  (uws as unknown as { _cfg(key: string): void })._cfg("999999990007");
}
