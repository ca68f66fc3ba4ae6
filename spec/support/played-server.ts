/**
 * A server that plays `estalo serve` for the client's specs: whatever a spec wants it to say, true or not.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { type WebSocket, WebSocketServer } from "ws";

/** What is answered. */
export interface PlayedReply {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  /** An object is sent as JSON. */
  readonly body?: unknown;
}

/** A request as it came. */
export interface PlayedRequest {
  readonly method: string;
  /** With the query. */
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
  readonly response: ServerResponse;
  readonly socket: Socket;
}

/** What a spec says: `undefined` leaves the response to itself. */
export type Play = (request: PlayedRequest) => PlayedReply | undefined | Promise<PlayedReply>;

/** See the file's header. */
export class PlayedServer implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "estalo-played-"));
  readonly #connections = new Set<Socket>();
  #server: Server | undefined;
  /** Everything that was asked for, in order: "GET /v1/info". */
  readonly asked: string[] = [];
  play: Play = () => ({ status: 404, body: problem("ERR_ESTALO_NOT_FOUND", "nothing here") });
  /** A WebSocket that was opened. */
  onSocket: (socket: WebSocket, url: URL) => void = (socket) => socket.close(4404);
  /** Refuses a WebSocket, when it gives something. */
  refuse: (url: URL) => PlayedReply | undefined = () => undefined;

  static async open(): Promise<PlayedServer> {
    const server = new PlayedServer();
    await server.listen();
    return server;
  }

  get path(): string {
    return join(this.#folder, "estalo.sock");
  }

  get host(): string {
    return `unix://${this.path}`;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Again, after `down`. */
  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.#answer(request, response));
    const sockets = new WebSocketServer({ noServer: true });
    server.on("connection", (connection) => {
      this.#connections.add(connection);
      connection.once("close", () => this.#connections.delete(connection));
    });
    server.on("upgrade", (request, connection, head) => {
      const url = new URL(request.url as string, "http://localhost");
      this.asked.push(`WS ${request.url}`);
      const refusal = this.refuse(url);
      if (refusal !== undefined) {
        const { status = 400, headers = {}, body } = refusal;
        const text = typeof body === "string" ? body : JSON.stringify(body);
        const fields = { "content-type": "application/json", ...headers };
        const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
        connection.end(
          `HTTP/1.1 ${status} No\r\n${lines.join("")}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
        );
        return;
      }
      sockets.handleUpgrade(request, connection, head, (socket) => this.onSocket(socket, url));
    });
    this.#server = server;
    await new Promise<void>((resolve) => server.listen(this.path, resolve));
  }

  /** Breaks every connection, and listens no more. */
  async down(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    for (const connection of this.#connections) connection.destroy();
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers, socket } = request;
    this.asked.push(`${method} ${url}`);
    const body = (await buffer(request)).toString("utf8");
    const reply = await this.play({ method, url, headers, body, response, socket });
    if (reply === undefined) return;
    const isText = typeof reply.body === "string" || reply.body instanceof Uint8Array;
    const json = isText ? {} : { "content-type": "application/json" };
    response.writeHead(reply.status ?? 200, { ...json, ...reply.headers });
    response.end(isText || reply.body === undefined ? reply.body : JSON.stringify(reply.body));
  }
}

/** The body of an error. */
export function problem(code: string, message: string, more: object = {}): object {
  return { error: { code, message, ...more } };
}

/** A microVM as the server would tell it. */
export function playedMicrovm(change: object = {}): Record<string, unknown> {
  return {
    id: "vm-1",
    name: "web",
    labels: {},
    config: { memoryMib: 128, vcpuCount: 1 },
    restart: { policy: "no" },
    autoRemove: false,
    state: "running",
    createdAtMs: 1_700_000_000_000,
    startedAtMs: 1_700_000_001_000,
    endedAtMs: null,
    exit: null,
    lostReason: null,
    restartCount: 0,
    ...change,
  };
}
