/**
 * A client of `estalo serve`, as a program and the command's verbs use it. Loads nothing native: it may run
 * where no microVM can.
 */
import type { GuestAgent } from "../../actors/agent/guest-agent.js";
import { EstaloError } from "../../errors.js";
import { TIMER_MS_MAX } from "../../units.js";
import { agentOf } from "./agent-stream.js";
import { MicrovmConfiguration } from "./configuration.js";
import { type CallOptions, Connection } from "./connection.js";
import { type ConsoleOptions, ConsoleStream } from "./console-stream.js";
import { closedError } from "./errors.js";
import { type EventsOptions, streamEvents } from "./event-stream.js";
import { type ExitsMessage, type ExitsOptions, streamMessages } from "./exit-stream.js";
import { Microvms, pathOf } from "./microvms.js";
import { resolveServer, type ServerOptions } from "./server-address.js";
import type { FleetEvent, Health, LimitsHello, RateLimitMessage, ServerInfo } from "./types.js";

/** Options of {@link EstaloClient}. */
export interface ClientOptions extends ServerOptions {
  /**
   * How long the server may say nothing before a call is given up with ERR_ESTALO_CONNECT, in milliseconds;
   * calls that wait by their nature have their own time on top. Default 60,000.
   */
  readonly timeoutMs?: number;
  /** The longest reply that is read, in bytes. Default 256 MiB. */
  readonly replyBytesMax?: number;
}

const TIMEOUT_MS = 60_000;
const REPLY_BYTES_MAX = 256 * 1024 * 1024;

/**
 * A client of one server.
 *
 * @example
 * ```ts
 * import { EstaloClient } from "estalo/client";
 *
 * await using client = new EstaloClient();
 * const { id } = await client.microvms.create({ name: "web", config: { memoryMib: 256 } });
 * const { exit } = await client.microvms.wait(id);
 * ```
 */
export class EstaloClient implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #timeoutMs: number;
  readonly #closing = new AbortController();
  /** The microVMs of the server. */
  readonly microvms: Microvms;

  /** Connects at the first call. Raises ERR_ESTALO_CONFIG_INVALID or ERR_ESTALO_CONFIG_FILE. */
  constructor(options: ClientOptions = {}) {
    this.#timeoutMs = wholeNumber("timeoutMs", options.timeoutMs ?? TIMEOUT_MS, TIMER_MS_MAX);
    const replyBytesMax = wholeNumber(
      "replyBytesMax",
      options.replyBytesMax ?? REPLY_BYTES_MAX,
      Number.MAX_SAFE_INTEGER,
    );
    this.#connection = new Connection(resolveServer(options), {
      timeoutMs: this.#timeoutMs,
      replyBytesMax,
    });
    this.microvms = new Microvms(this.#connection);
  }

  /** The server, as messages name it: `unix:///run/estalo/estalo.sock`. */
  get host(): string {
    return this.#connection.address.name;
  }

  /** Whether it is reached by a Unix socket, and so shares this host's files. */
  get isLocal(): boolean {
    return this.#connection.address.socketPath !== undefined;
  }

  /** The server, and how many microVMs are in each state. */
  info(options: CallOptions = {}): Promise<ServerInfo> {
    const { signal } = options;
    return this.#connection.json({ method: "GET", path: "/v1/info", signal }, isInfo);
  }

  /** Whether the server's process answers. */
  health(options: CallOptions = {}): Promise<Health> {
    const { signal } = options;
    return this.#connection.json({ method: "GET", path: "/healthz", signal }, isHealth);
  }

  /** Counters of the server and all microVMs in Prometheus' text format. */
  async prometheus(options: CallOptions = {}): Promise<string> {
    const { signal } = options;
    const headers = { accept: "text/plain, application/json" };
    const { body } = await this.#connection.send({
      method: "GET",
      path: "/metrics",
      headers,
      signal,
    });
    return Buffer.from(body).toString("utf8");
  }

  /** A microVM's configuration step by step, as Firecracker's API has it. */
  configuration(id: string): MicrovmConfiguration {
    return new MicrovmConfiguration(this.#connection, id);
  }

  /**
   * What happens to the server's microVMs, each event once and in order, across lost connections and restarts
   * of the server. Ends when `signal` aborts. A reader that is slow makes the server wait for it.
   */
  events(options: EventsOptions = {}): AsyncIterableIterator<FleetEvent> {
    return streamEvents(this.#connection.address, this.#timeoutMs, {
      ...options,
      signal: this.#signal(options),
    });
  }

  /** A microVM's serial console as a Node stream, which ends when the microVM does. */
  console(id: string, options: ConsoleOptions = {}): ConsoleStream {
    const { address } = this.#connection;
    const { signal } = this.#closing;
    return new ConsoleStream(address, pathOf(id, "console"), this.#timeoutMs, options, signal);
  }

  /**
   * The agent in a microVM's guest: `exec`, `files`, `health`, as a {@link MicroVm} has them. Its calls reject
   * with ERR_ESTALO_STATE when the microVM has no vsock device or its guest no agent.
   */
  agent(id: string): GuestAgent {
    const { address } = this.#connection;
    return agentOf(address, pathOf(id, "agent"), this.#timeoutMs, this.#closing.signal);
  }

  /**
   * A microVM's exits while they happen, as the server filters, samples or counts them, until the microVM
   * ends. A reader that is slow loses some; messages say how many.
   */
  exits(id: string, options: ExitsOptions = {}): AsyncGenerator<ExitsMessage, void, void> {
    const { address } = this.#connection;
    const signal = this.#signal(options);
    return streamMessages(address, pathOf(id, "exits"), this.#timeoutMs, { ...options, signal });
  }

  /**
   * What the rate limiters of a microVM's devices do, until the microVM ends. A reader that is slow loses some;
   * `dropped` says how many. Throws as `exits`.
   */
  async *rateLimits(
    id: string,
    options: CallOptions = {},
  ): AsyncGenerator<RateLimitMessage, void, void> {
    const { address } = this.#connection;
    const signal = this.#signal(options);
    const path = pathOf(id, "limits");
    for await (const message of streamMessages(address, path, this.#timeoutMs, { signal })) {
      const told = "json" in message ? (message.json as RateLimitMessage | LimitsHello) : undefined;
      if (told !== undefined && told.type !== "hello") yield told;
    }
  }

  /** Ends connections and open streams; calls under way, and later ones, reject with ERR_ESTALO_ABORTED. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(closedError());
    this.#connection.close();
  }

  #signal({ signal }: CallOptions): AbortSignal {
    const { signal: closing } = this.#closing;
    return signal === undefined ? closing : AbortSignal.any([signal, closing]);
  }
}

function wholeNumber(field: string, value: number, maximum: number): number {
  if (Number.isInteger(value) && value >= 1 && value <= maximum) return value;
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `${field}: expected a whole number from 1 to ${maximum}, got ${value}`,
    { data: { field, got: value } },
  );
}

function isInfo(value: unknown): boolean {
  const { version, apiVersion } = (value ?? {}) as Record<string, unknown>;
  return typeof version === "string" && typeof apiVersion === "string";
}

function isHealth(value: unknown): boolean {
  return typeof (value as { status?: unknown } | null)?.status === "string";
}
