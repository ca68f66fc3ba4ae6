/**
 * Door 2 on a socket of its own over a played fleet, and a client that holds every reply against what the
 * operation's description promises.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { type IncomingHttpHeaders, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Ajv from "ajv/dist/2020.js";
import { WebSocket } from "ws";
import type { RouteSpec } from "../../src/api/route.js";
import { FleetDoor } from "../../src/api/v1/door.js";
import { ROUTE_SPECS } from "../../src/api/v1/route-specs.js";
import type { EstaloError } from "../../src/errors.js";
import { PlayedFleet } from "./played-fleet.js";

/** A reply, read whole. */
export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  /** The body as JSON; `undefined` when it is none. */
  // biome-ignore lint/suspicious/noExplicitAny: specs look into replies of every kind
  readonly json: any;
}

export interface Sending {
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

const ajv = new Ajv.default({ strict: false, validateFormats: false, allErrors: true });
const validators = new Map<object, ReturnType<typeof ajv.compile>>();

/** Throws unless the reply is one that the operation's description has. */
export function checkReply(spec: RouteSpec, reply: Reply): void {
  const promised = spec.replies[reply.status];
  const what = `${spec.operationId} answered ${reply.status}`;
  if (promised === undefined) throw new Error(`${what}, which it does not describe`);
  const { schema, contentType = "application/json" } = promised;
  if (schema === undefined) {
    if (reply.bytes.length > 0) throw new Error(`${what} with a body: ${reply.bytes}`);
    return;
  }
  if (reply.headers["content-type"] !== contentType) {
    throw new Error(`${what} as ${reply.headers["content-type"]}, not ${contentType}`);
  }
  if (contentType !== "application/json") return;
  let validate = validators.get(schema);
  if (validate === undefined) {
    validate = ajv.compile(schema);
    validators.set(schema, validate);
  }
  if (!validate(reply.json)) {
    throw new Error(`${what} with ${reply.bytes}: ${ajv.errorsText(validate.errors)}`);
  }
}

/** See the file's header. */
export class DoorHost {
  readonly fleet: PlayedFleet;
  readonly door: FleetDoor;
  readonly path: string;
  readonly failures: EstaloError[] = [];
  readonly #folder = mkdtempSync(join(tmpdir(), "estalo-door-"));

  private constructor(eventsKept?: number, limits: object = {}) {
    this.fleet = new PlayedFleet(eventsKept);
    this.path = join(this.#folder, "s");
    this.door = new FleetDoor({
      fleet: this.fleet,
      version: "0.0.0",
      limits,
      onFailure: (error) => this.failures.push(error),
    });
  }

  static async open(
    options: { readonly eventsKept?: number; readonly limits?: object } = {},
  ): Promise<DoorHost> {
    const host = new DoorHost(options.eventsKept, options.limits);
    await host.door.listen({ path: host.path }, { hosts: [], origins: [] });
    host.door.status = "ok";
    return host;
  }

  /** Sends anything to the door. A body that is no text or bytes goes as JSON. */
  send(method: string, path: string, { body, headers, signal }: Sending = {}): Promise<Reply> {
    const bytes =
      body === undefined || typeof body === "string" || body instanceof Uint8Array
        ? (body as string | Uint8Array | undefined)
        : JSON.stringify(body);
    return sendTo({ socketPath: this.path }, method, path, {
      ...(bytes === undefined ? {} : { body: bytes }),
      ...(headers === undefined ? {} : { headers }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** Calls an operation and checks its reply by its description. */
  async call(
    operation: keyof typeof ROUTE_SPECS,
    parameters: { readonly id?: string; readonly query?: string } & Sending = {},
  ): Promise<Reply> {
    const spec: RouteSpec = ROUTE_SPECS[operation];
    const { id = "", query } = parameters;
    const path = spec.path.replace("{id}", encodeURIComponent(id));
    const target = query === undefined ? path : `${path}?${query}`;
    const reply = await this.send(spec.method, target, parameters);
    checkReply(spec, reply);
    return reply;
  }

  /** A WebSocket to the door. */
  socket(path: string, protocols: string[] = []): WebSocket {
    return new WebSocket(`ws+unix://${this.path}:${path}`, protocols);
  }

  async close(): Promise<void> {
    await this.door.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

type Target = { readonly socketPath: string } | { readonly host: string; readonly port: number };

/** One request on a connection of its own. */
export function sendTo(
  target: Target,
  method: string,
  path: string,
  { body, headers, signal }: Sending = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        ...target,
        method,
        path,
        agent: false,
        headers: { ...headers },
        ...(signal === undefined ? {} : { signal }),
      },
      (incoming) => {
        const parts: Buffer[] = [];
        incoming.on("data", (part) => parts.push(part));
        incoming.on("error", reject);
        incoming.on("end", () => {
          const bytes = Buffer.concat(parts);
          const { statusCode: status = 0, headers: received } = incoming;
          resolve({ status, headers: received, bytes, json: jsonOf(bytes) });
        });
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body as string | Uint8Array | undefined);
  });
}

function jsonOf(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}

/** Fulfilled when the condition holds; looked at every few milliseconds, with a generous limit. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const limitMs = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > limitMs) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
