/**
 * The microVMs of a server: one method for each operation of /v1/microvms, typed by the server's schemas.
 *
 * Everywhere a microVM is named by its id or its name. Calls reject with an EstaloError: the server's own
 * (ERR_ESTALO_NOT_FOUND, ERR_ESTALO_STATE, …, whether or not this client knows the code), ERR_ESTALO_CONNECT,
 * ERR_ESTALO_REPLY, or ERR_ESTALO_ABORTED.
 */
import { randomUUID } from "node:crypto";
import { EstaloError } from "../../errors.js";
import type { CallOptions, Connection, HttpCall } from "./connection.js";
import type {
  DeviceChanges,
  Microvm,
  MicrovmMetrics,
  MicrovmPage,
  MicrovmSpec,
  MicrovmState,
  MicrovmUpdate,
  WaitResult,
} from "./types.js";

/** Options of {@link Microvms.create}. */
export interface CreateOptions extends CallOptions {
  /**
   * 1 to 128 printable characters: a second call with the same key and specification gives the microVM of the
   * first. Default: a random one, so that a connection that breaks never makes two.
   */
  readonly idempotencyKey?: string;
}

/** Which microVMs a list holds. */
export interface ListOptions extends CallOptions {
  readonly states?: readonly MicrovmState[];
  readonly name?: string;
  /** Labels it must have, with these values. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Of one page: 1 to 1000. Default 100. */
  readonly limit?: number;
  /** `next` of the page before. */
  readonly after?: string;
}

/** Options of {@link Microvms.stop}. */
export interface StopCallOptions extends CallOptions {
  /** How long the guest has to shut down before it is killed, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
}

/** The server's longest long poll is 600 s; one that is shorter passes more middlemen. */
const POLL_MS = 50_000;
/** What `stop` waits when it is not told (docs/cli.md). */
const STOP_TIMEOUT_MS = 5000;

/** See the file's header. */
export class Microvms {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Creates a microVM and, unless `start` is false, starts it. */
  create(spec: MicrovmSpec = {}, options: CreateOptions = {}): Promise<Microvm> {
    const key = options.idempotencyKey ?? randomUUID();
    return this.#one({
      method: "POST",
      path: "/v1/microvms",
      body: spec,
      headers: { "idempotency-key": checkKey(key) },
      isIdempotent: true,
      signal: options.signal,
    });
  }

  /** One page of the list, oldest first. */
  list(options: ListOptions = {}): Promise<MicrovmPage> {
    const { states, name, labels, limit, after, signal } = options;
    const query = {
      state: states === undefined || states.length === 0 ? undefined : states.join(","),
      name,
      label: Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`),
      limit,
      after,
    };
    return this.#connection.json({ method: "GET", path: "/v1/microvms", query, signal }, isPage);
  }

  /** Every microVM that the options ask for, page after page. */
  async *all(options: Omit<ListOptions, "after"> = {}): AsyncGenerator<Microvm, void, void> {
    let after: string | undefined;
    do {
      const page = await this.list({ limit: 1000, ...options, ...(after && { after }) });
      yield* page.items;
      // A cursor that does not move would be read for ever.
      if (page.next !== null && page.next === after) throw stuck(page.next);
      after = page.next ?? undefined;
    } while (after !== undefined);
  }

  get(id: string, options: CallOptions = {}): Promise<Microvm> {
    return this.#one({ method: "GET", path: pathOf(id), signal: options.signal });
  }

  /** Changes name, labels (all of them) or restart policy, in any state. */
  update(id: string, change: MicrovmUpdate, options: CallOptions = {}): Promise<Microvm> {
    const { signal } = options;
    return this.#one({ method: "PATCH", path: pathOf(id), body: change, signal });
  }

  /** Changes devices of one that runs or is paused, one after the other, now and for later starts. */
  changeDevices(id: string, changes: DeviceChanges, options: CallOptions = {}): Promise<Microvm> {
    const { signal } = options;
    return this.#one({ method: "PATCH", path: pathOf(id, "devices"), body: changes, signal });
  }

  /** Deletes the record of a microVM that does not run; with `force` one that does is killed first. */
  async delete(
    id: string,
    options: CallOptions & { readonly force?: boolean } = {},
  ): Promise<void> {
    const query = { force: options.force };
    await this.#connection.send({
      method: "DELETE",
      path: pathOf(id),
      query,
      signal: options.signal,
    });
  }

  /** From configured, stopped, failed and lost. */
  start(id: string, options: CallOptions = {}): Promise<Microvm> {
    return this.#change(id, "start", options);
  }

  /** Stops vCPUs and devices, while it runs. */
  pause(id: string, options: CallOptions = {}): Promise<Microvm> {
    return this.#change(id, "pause", options);
  }

  /** Goes on after `pause`. */
  resume(id: string, options: CallOptions = {}): Promise<Microvm> {
    return this.#change(id, "resume", options);
  }

  /** Ends it at once; does nothing to an ended one. */
  kill(id: string, options: CallOptions = {}): Promise<Microvm> {
    return this.#change(id, "kill", options, { isIdempotent: true });
  }

  /** Asks the guest to shut down and kills it when it does not; does nothing to an ended one. */
  stop(id: string, options: StopCallOptions = {}): Promise<Microvm> {
    const { timeoutMs, signal } = options;
    return this.#change(
      id,
      "stop",
      { signal },
      {
        isIdempotent: true,
        waitMs: timeoutMs ?? STOP_TIMEOUT_MS,
        ...(timeoutMs === undefined ? {} : { body: { timeoutMs } }),
      },
    );
  }

  /** Presses Ctrl, Alt and Delete. */
  async ctrlAltDelete(id: string, options: CallOptions = {}): Promise<void> {
    const { signal } = options;
    await this.#connection.send({ method: "POST", path: pathOf(id, "ctrl-alt-delete"), signal });
  }

  /** Waits until it has ended and will not be restarted, however long that takes. */
  async wait(id: string, options: CallOptions = {}): Promise<Microvm> {
    for (;;) {
      const { ended, microvm } = await this.#connection.json<WaitResult>(
        {
          method: "GET",
          path: pathOf(id, "wait"),
          query: { timeoutMs: POLL_MS },
          waitMs: POLL_MS,
          signal: options.signal,
        },
        isWaitResult,
      );
      if (ended) return microvm;
    }
  }

  /** What its console showed last, at most 64 KiB, or the last `tailBytes` of it. */
  async logs(
    id: string,
    options: CallOptions & { readonly tailBytes?: number } = {},
  ): Promise<Uint8Array> {
    const { tailBytes, signal } = options;
    const { body } = await this.#connection.send({
      method: "GET",
      path: pathOf(id, "logs"),
      query: { tailBytes },
      headers: { accept: "application/octet-stream, application/json" },
      signal,
    });
    return body;
  }

  /** Its counters, as they are now. */
  metrics(id: string, options: CallOptions = {}): Promise<MicrovmMetrics> {
    const { signal } = options;
    return this.#connection.json({ method: "GET", path: pathOf(id, "metrics"), signal }, isMetrics);
  }

  #one(call: HttpCall): Promise<Microvm> {
    return this.#connection.json(call, isMicrovm);
  }

  #change(
    id: string,
    verb: string,
    { signal }: CallOptions,
    more: Partial<HttpCall> = {},
  ): Promise<Microvm> {
    return this.#one({ method: "POST", path: pathOf(id, verb), signal, ...more });
  }
}

/** The path of a microVM, or of something of it. */
export function pathOf(id: string, ...below: readonly string[]): string {
  // A dot-segment would be another path, and an empty one the list.
  if (typeof id !== "string" || id === "" || id === "." || id === "..") {
    throw new EstaloError(
      "ERR_ESTALO_CONFIG_INVALID",
      `id: expected a microVM's id or name, got ${JSON.stringify(id)}`,
      { data: { field: "id", got: id } },
    );
  }
  return ["/v1/microvms", ...[id, ...below].map(encodeURIComponent)].join("/");
}

function checkKey(key: string): string {
  if (typeof key === "string" && /^[\x21-\x7e]{1,128}$/.test(key)) return key;
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    "idempotencyKey: expected 1 to 128 printable characters without spaces",
    { data: { field: "idempotencyKey" } },
  );
}

function stuck(next: string): EstaloError {
  return new EstaloError("ERR_ESTALO_REPLY", `GET /v1/microvms: the page after ${next} is itself`);
}

/** Enough of a shape to know that the reply is about what was asked. */
function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isMicrovm(value: unknown): boolean {
  return (
    isObject(value) &&
    [value.id, value.name, value.state].every((text) => typeof text === "string") &&
    [value.config, value.labels, value.restart].every(isObject)
  );
}

function isPage(value: unknown): boolean {
  if (!isObject(value) || !Array.isArray(value.items)) return false;
  return value.items.every(isMicrovm) && (value.next === null || typeof value.next === "string");
}

function isWaitResult(value: unknown): boolean {
  return isObject(value) && typeof value.ended === "boolean" && isMicrovm(value.microvm);
}

function isMetrics(value: unknown): boolean {
  return isObject(value) && Array.isArray(value.vcpus) && isObject(value.drives);
}
