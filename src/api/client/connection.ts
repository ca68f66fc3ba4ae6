/**
 * HTTP to one server, over a Unix socket, TCP or TLS, on connections that are kept.
 *
 * A call that may be repeated without harm is repeated when its connection was lost, as happens to kept ones
 * whose server was restarted; any other is not, because nobody knows whether the server did it.
 */
import {
  Agent,
  type ClientRequest,
  type IncomingMessage,
  request as plainRequest,
} from "node:http";
import { Agent as SecureAgent, request as secureRequest } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { isEstaloError } from "../../errors.js";
import {
  abortedError,
  closedError,
  connectError,
  type HttpReply,
  isJson,
  parse,
  refusal,
  replyError,
  silentError,
} from "./errors.js";
import type { ServerAddress } from "./server-address.js";

/** Options of every call. */
export interface CallOptions {
  /** Gives up the call: it rejects with ERR_ESTALO_ABORTED, whose cause is the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Values of a query or header; a list is a parameter that repeats; `undefined` leaves it out. */
export type QueryValues = Readonly<
  Record<string, string | number | boolean | readonly string[] | undefined>
>;

/** One request. */
export interface HttpCall extends CallOptions {
  readonly method: "GET" | "PUT" | "PATCH" | "POST" | "DELETE";
  /** Percent-encoded, from the root. */
  readonly path: string;
  readonly query?: QueryValues;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Doing it twice is doing it once. Default: of GET, PUT and DELETE. */
  readonly isIdempotent?: boolean;
  /** How long the server may take to answer beyond what any call may, in milliseconds. */
  readonly waitMs?: number;
}

/** Limits of a connection. */
export interface ConnectionLimits {
  /** How long a server may say nothing before a call is given up, in milliseconds. */
  readonly timeoutMs: number;
  /** The longest reply that is read. */
  readonly replyBytesMax: number;
}

/** Pauses before another attempt. */
const RETRY_DELAYS_MS = [0, 50, 250];
/** Errors of a connection that was there and broke. */
const LOST = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"]);

/** A server's HTTP side. */
export class Connection {
  readonly address: ServerAddress;
  readonly #limits: ConnectionLimits;
  readonly #agent: Agent;
  #isClosed = false;

  constructor(address: ServerAddress, limits: ConnectionLimits) {
    this.address = address;
    this.#limits = limits;
    const options = { keepAlive: true, scheduling: "lifo" } as const;
    this.#agent = address.isSecure
      ? new SecureAgent({ ...options, ...tlsOptions(address) })
      : new Agent(options);
  }

  /** Ends the kept connections, and what is under way on others, with ERR_ESTALO_ABORTED; no call is made any more. */
  close(): void {
    this.#isClosed = true;
    this.#agent.destroy();
  }

  /** A reply below 400; rejects with the server's refusal otherwise. */
  async send(call: HttpCall): Promise<HttpReply> {
    const reply = await this.#attempts(call);
    if (reply.status >= 200 && reply.status < 300) return reply;
    throw refusal(this.address, nameOf(call), reply);
  }

  /** A reply's JSON, if `isExpected` holds for it. */
  async json<T>(call: HttpCall, isExpected: (value: unknown) => boolean): Promise<T> {
    const reply = await this.send(call);
    const wrong = (what: string) => replyError(this.address, nameOf(call), what, reply);
    if (!isJson(reply)) throw wrong(`answered ${reply.contentType || "nothing"}, not JSON`);
    const value = parse(reply.body);
    if (value === undefined) throw wrong("answered with JSON that is broken");
    if (!isExpected(value)) throw wrong("answered with something else than what was asked for");
    return value as T;
  }

  async #attempts(call: HttpCall): Promise<HttpReply> {
    const mayRepeat = call.isIdempotent ?? ["GET", "PUT", "DELETE"].includes(call.method);
    for (let attempt = 0; ; attempt++) {
      if (call.signal?.aborted) throw abortedError(call.signal);
      if (this.#isClosed) throw closedError();
      try {
        const reply = await this.#attempt(call);
        // What an attempt whose answer was lost has deleted is deleted.
        const isDone = call.method === "DELETE" && attempt > 0 && reply.status === 404;
        return isDone ? { ...reply, status: 204 } : reply;
      } catch (error) {
        // We ended its connection ourselves.
        if (this.#isClosed && !isEstaloError(error)) throw closedError();
        const wasLost = LOST.has((error as NodeJS.ErrnoException).code ?? "");
        const isLast = !wasLost || !mayRepeat || attempt === RETRY_DELAYS_MS.length;
        if (isLast) throw connectError(this.address, error);
        await sleep(RETRY_DELAYS_MS[attempt], undefined, { signal: call.signal }).catch(() => {});
      }
    }
  }

  #attempt(call: HttpCall): Promise<HttpReply> {
    const { address } = this;
    const body = call.body === undefined ? undefined : JSON.stringify(call.body);
    const timeoutMs = this.#limits.timeoutMs + (call.waitMs ?? 0);
    return new Promise((resolve, reject) => {
      const { signal } = call;
      const request = this.#open(call, body);
      const onAbort = () => request.destroy(abortedError(signal as AbortSignal));
      const done = () => signal?.removeEventListener("abort", onAbort);
      const fail = (error: unknown) => {
        done();
        reject(error);
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      request.setTimeout(timeoutMs, () =>
        request.destroy(silentError(address, nameOf(call), timeoutMs)),
      );
      request.once("error", fail);
      request.once("response", (response) => {
        this.#collect(call, request, response).then((reply) => {
          done();
          resolve(reply);
        }, fail);
      });
      request.end(body);
    });
  }

  #open(call: HttpCall, body: string | undefined): ClientRequest {
    const { socketPath, hostname, port, isSecure } = this.address;
    const request = isSecure ? secureRequest : plainRequest;
    return request({
      agent: this.#agent,
      ...(socketPath === undefined ? { host: hostname, port } : { socketPath }),
      method: call.method,
      path: `${call.path}${queryText(call.query)}`,
      headers: {
        accept: "application/json",
        ...authorization(this.address),
        // A POST without a body says so.
        ...(body === undefined
          ? call.method === "GET" || call.method === "DELETE"
            ? {}
            : { "content-length": 0 }
          : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
        ...call.headers,
      },
    });
  }

  /** The whole reply, or a rejection when it breaks off or never ends. */
  #collect(call: HttpCall, request: ClientRequest, response: IncomingMessage): Promise<HttpReply> {
    const { replyBytesMax } = this.#limits;
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    return new Promise((resolve, reject) => {
      // Where a request was destroyed for a reason, this is the reason.
      request.once("error", reject);
      response.on("error", reject);
      response.on("data", (chunk: Uint8Array) => {
        sizeBytes += chunk.length;
        chunks.push(chunk);
        if (sizeBytes <= replyBytesMax) return;
        const wrong = `answered more than ${replyBytesMax} bytes`;
        request.destroy(replyError(this.address, nameOf(call), wrong));
      });
      response.once("end", () => {
        const contentType = response.headers["content-type"] ?? "";
        const body = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
        resolve({ status: response.statusCode ?? 0, contentType, body });
      });
    });
  }
}

/** How errors name a call. */
export function nameOf({ method, path }: Pick<HttpCall, "method" | "path">): string {
  return `${method} ${path}`;
}

/** A query with its question mark, or nothing. */
export function queryText(values: QueryValues = {}): string {
  const pairs = Object.entries(values).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((one): [string, string] => [name, String(one)]),
  );
  return pairs.length === 0 ? "" : `?${new URLSearchParams(pairs)}`;
}

/** The header that shows who we are. */
export function authorization({ token }: ServerAddress): Record<string, string> {
  return token === undefined ? {} : { authorization: `Bearer ${token}` };
}

/** What Node's TLS needs to know of a server. */
export function tlsOptions({ tls }: ServerAddress) {
  const { ca, cert, key, serverName } = tls;
  const pem = (name: string, value: typeof ca) =>
    value === undefined ? {} : { [name]: typeof value === "string" ? value : Buffer.from(value) };
  return {
    ...pem("ca", ca),
    ...pem("cert", cert),
    ...pem("key", key),
    ...(serverName === undefined ? {} : { servername: serverName }),
  };
}
