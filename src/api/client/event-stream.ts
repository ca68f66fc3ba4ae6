/**
 * The fleet's events as one unbroken sequence over as many connections as it takes: after each loss it goes
 * on behind the last event that its reader got. What comes twice is left out; what is missing is asked for
 * again, and said (ERR_ESTALO_EVENTS_GAP) when the server has it no more.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { EstaloError } from "../../errors.js";
import type { CallOptions } from "./connection.js";
import { parse, replyError } from "./errors.js";
import type { ServerAddress } from "./server-address.js";
import { CLOSE, endError, openSocket, type SocketMessage, SocketMessages } from "./socket.js";
import type { FleetEvent, FleetEventType } from "./types.js";

/** Which events, and from where on. */
export interface EventsOptions extends CallOptions {
  /** The sequence number behind which to begin; 0: all that are kept. Default: only what happens from now on. */
  readonly since?: number;
  /** Only of these microVMs, by id. */
  readonly microvms?: readonly string[];
  readonly types?: readonly FleetEventType[];
  /** End with the newest event that there was at the beginning. Default false. */
  readonly untilNewest?: boolean;
  /**
   * How long to try to come back to a server that is gone, in milliseconds; then ERR_ESTALO_CONNECT. A
   * server that was never reached is an error at once. Default 60,000.
   */
  readonly reconnectMs?: number;
}

const PATH = "/v1/events";
const WHAT = `WebSocket ${PATH}`;
const RECONNECT_MS = 60_000;
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 5000;

/** A server that is away, or just coming or going. */
const COMES_BACK: ReadonlySet<string> = new Set(["ERR_ESTALO_CONNECT", "ERR_ESTALO_BUSY"]);

interface Hello {
  readonly oldest: number;
  readonly newest: number;
}

/** See {@link EventsOptions}; ends when `signal` aborts. */
export function streamEvents(
  address: ServerAddress,
  timeoutMs: number,
  options: EventsOptions = {},
): AsyncIterableIterator<FleetEvent> {
  const closing = new AbortController();
  const { signal } = options;
  const stop = () => closing.abort();
  if (signal?.aborted) stop();
  else signal?.addEventListener("abort", stop, { once: true });
  // The signal may live much longer, and keeps what it knows of.
  const end = () => {
    stop();
    signal?.removeEventListener("abort", stop);
  };
  const reader = new EventReader(address, timeoutMs, options, closing.signal);
  const done = { done: true, value: undefined } as const;
  return {
    async next() {
      try {
        const value = await reader.next();
        if (value !== undefined) return { done: false, value };
      } catch (error) {
        if (!closing.signal.aborted) {
          end();
          throw error;
        }
      }
      end();
      return done;
    },
    async return() {
      end();
      return done;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** One reader's way through the events. */
class EventReader {
  readonly #address: ServerAddress;
  readonly #timeoutMs: number;
  readonly #options: EventsOptions;
  readonly #signal: AbortSignal;
  #messages: SocketMessages | undefined;
  /** Everything up to here was given, or is not wanted. */
  #reached: number | undefined;
  /** The last one, with `untilNewest`. */
  #last: number | undefined;
  /** Asked for again already: a server that leaves it out twice does not have it. */
  #missing: number | undefined;

  constructor(
    address: ServerAddress,
    timeoutMs: number,
    options: EventsOptions,
    signal: AbortSignal,
  ) {
    this.#address = address;
    this.#timeoutMs = timeoutMs;
    this.#options = options;
    this.#signal = signal;
    this.#reached = options.since;
    // Ends the wait for a message, too.
    signal.addEventListener("abort", () => this.#leave(), { once: true });
  }

  /** The next event; `undefined` when the signal aborted. */
  async next(): Promise<FleetEvent | undefined> {
    while (!this.#signal.aborted) {
      this.#messages ??= await this.#connect(false);
      if (this.#last !== undefined && (this.#reached as number) >= this.#last) break;
      const message = await this.#messages.next();
      if (this.#signal.aborted) break;
      if (message === undefined) {
        this.#checkEnd(this.#messages);
        this.#messages = await this.#connect(true);
        continue;
      }
      const event = this.#read(message) as FleetEvent;
      if (this.#isNext(event) && this.#isWanted(event)) return event;
    }
    this.#leave();
    return undefined;
  }

  /** The server sends only what is wanted, but where the end could not be seen then. */
  #isWanted({ microvm, type }: FleetEvent): boolean {
    const { untilNewest, microvms, types } = this.#options;
    if (!untilNewest) return true;
    return (microvms?.includes(microvm) ?? true) && (types?.includes(type) ?? true);
  }

  #isNext({ sequence }: FleetEvent): boolean {
    const reached = this.#reached as number;
    // Seen already: a connection began before the last one ended.
    if (sequence <= reached) return false;
    const { microvms, types, untilNewest } = this.#options;
    const isFiltered = !untilNewest && (microvms !== undefined || types !== undefined);
    if (isFiltered || sequence === reached + 1) {
      this.#reached = sequence;
      return true;
    }
    if (this.#missing === reached + 1) {
      throw this.#gap(`the server left out event ${reached + 1}`);
    }
    this.#missing = reached + 1;
    this.#leave();
    return false;
  }

  /** A connection whose greeting was read. */
  async #connect(isAgain: boolean): Promise<SocketMessages> {
    const reconnectMs = this.#options.reconnectMs ?? RECONNECT_MS;
    const giveUpAtMs = performance.now() + reconnectMs;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#open();
      } catch (error) {
        const isLost = COMES_BACK.has((error as EstaloError).code);
        const mayTry = isAgain || this.#missing !== undefined;
        const hasTime = performance.now() < giveUpAtMs && !this.#signal.aborted;
        if (!isLost || !mayTry || !hasTime) throw error;
      }
      // Not all readers of a server at the same moment.
      const delayMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** attempt) * (0.5 + Math.random());
      await sleep(delayMs, undefined, { signal: this.#signal }).catch(() => {});
    }
  }

  async #open(): Promise<SocketMessages> {
    const { untilNewest } = this.#options;
    const { microvms, types } = untilNewest ? {} : this.#options;
    const socket = await openSocket(this.#address, {
      path: PATH,
      query: {
        since: this.#reached,
        microvm: microvms,
        type: types === undefined ? undefined : types.join(","),
      },
      signal: this.#signal,
      timeoutMs: this.#timeoutMs,
    });
    const messages = new SocketMessages(socket, this.#timeoutMs);
    this.#messages = messages;
    const first = await messages.next();
    if (first === undefined) {
      this.#checkEnd(messages);
      throw endError(this.#address, WHAT, { code: CLOSE.broken, reason: "" });
    }
    const { newest } = this.#hello(first);
    if (this.#reached !== undefined && this.#reached > newest) {
      this.#leave();
      throw this.#gap(`the server's events begin anew: its newest is ${newest}`, newest);
    }
    this.#reached ??= newest;
    if (untilNewest) this.#last ??= newest;
    return messages;
  }

  #hello(message: SocketMessage): Hello {
    const hello = this.#parse(message) as Partial<Hello> & { type?: unknown };
    const isHello =
      hello.type === "hello" &&
      Number.isSafeInteger(hello.oldest) &&
      Number.isSafeInteger(hello.newest);
    if (isHello) return hello as Hello;
    throw this.#nonsense("did not begin its events with a greeting");
  }

  #read(message: SocketMessage): FleetEvent {
    const event = this.#parse(message) as Partial<FleetEvent>;
    const isEvent =
      Number.isSafeInteger(event.sequence) &&
      typeof event.type === "string" &&
      typeof event.microvm === "string";
    if (isEvent) return event as FleetEvent;
    throw this.#nonsense("sent something that is no event");
  }

  #parse({ data, isBinary }: SocketMessage): object {
    const value = isBinary ? undefined : parse(data);
    if (typeof value === "object" && value !== null) return value;
    throw this.#nonsense("sent a message that is not JSON");
  }

  #nonsense(wrong: string): EstaloError {
    this.#leave();
    return replyError(this.#address, WHAT, wrong);
  }

  /** Throws when there is no sense in coming back. */
  #checkEnd(messages: SocketMessages): void {
    const { end } = messages;
    if (end.code === CLOSE.gap) {
      throw this.#gap(`the events after ${this.#reached} are not kept any more`);
    }
    const error = endError(this.#address, WHAT, end);
    if (error !== undefined && error.code !== "ERR_ESTALO_CONNECT") throw error;
  }

  #gap(message: string, newest?: number): EstaloError {
    return new EstaloError("ERR_ESTALO_EVENTS_GAP", `${WHAT}: ${message}`, {
      data: { since: this.#reached, ...(newest === undefined ? {} : { newest }) },
      hint: "list the microVMs for how things are now, and read on without since",
    });
  }

  #leave(): void {
    this.#messages?.close();
    this.#messages = undefined;
  }
}
