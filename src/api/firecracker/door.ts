/**
 * Door 1: Firecracker's API over one machine.
 *
 *     request ─▶ log ─▶ one after the other ─▶ match ─▶ id ─▶ body ─▶ moment ─▶ operation ─▶ reply
 *
 * Requests are carried out strictly in the order they come, whatever connections they come on. Replies, their
 * words and the order of the checks are Firecracker's (1.16). `handle` never rejects.
 */
import { toEstaloError } from "../../errors.js";
import { checkJson } from "../check.js";
import { serdeWording } from "../check-wording.js";
import type { ApiReply, ApiRequest } from "../http.js";
import { ApiCounters } from "./api-counters.js";
import { isEmptyUpdate } from "./boot.js";
import { Fault, NOT_AFTER_BOOT, NOT_BEFORE_BOOT, unreadableBody } from "./faults.js";
import { type FirecrackerLog, SILENT_LOG } from "./log.js";
import { type Match, matchRequest } from "./match.js";
import type { Operation } from "./operation.js";
import { FIRECRACKER_OPERATIONS } from "./operations.js";
import type { MachineConfigUpdateJson } from "./schemas.js";
import type { FirecrackerTarget } from "./target.js";

const METHODS = ["GET", "PUT", "PATCH", "DELETE"];
/** Where lines of the log come from: each is held back by itself when there are too many. */
const REQUEST_SITE = "api_server::request";
const REPLY_SITE = "api_server::reply";
const FAULT_SITE = "api_server::fault";
const DEPRECATION_SITE = "api_server::deprecation";

const BUG_TEXT = "A mistake in Estalo, not in the request; the log has it.";

const BY_PLACE: ReadonlyMap<string, Operation> = new Map(
  FIRECRACKER_OPERATIONS.map((operation) => [`${operation.method} ${operation.path}`, operation]),
);

const utf8 = new TextDecoder("utf-8");

/** See the file's header. */
export class FirecrackerDoor {
  readonly counters = new ApiCounters();
  readonly #target: FirecrackerTarget;
  readonly #log: FirecrackerLog;
  /** The request before the next one. */
  #previous: Promise<unknown> = Promise.resolve();

  constructor(target: FirecrackerTarget, log: FirecrackerLog = SILENT_LOG) {
    this.#target = target;
    this.#log = log;
  }

  /** Answers one request, after those before it. */
  handle(request: ApiRequest): Promise<ApiReply> {
    const path = request.query === "" ? request.path : `${request.path}?${request.query}`;
    if (METHODS.includes(request.method))
      this.#log.write("Info", REQUEST_SITE, received(request, path));
    return this.exclusively(() => this.#answer(request, path));
  }

  /** Does something between requests: after those that came before it, before those that come later. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#previous.then(work);
    this.#previous = done.catch(() => {});
    return done;
  }

  async #answer({ method, body }: ApiRequest, path: string): Promise<ApiReply> {
    // Firecracker's HTTP parser knows no others, and has a way of its own to say so.
    if (!METHODS.includes(method))
      return parserFault("Invalid HTTP Method: Unsupported HTTP method.");
    let operation: Operation | undefined;
    try {
      const match = matchRequest(method, path, body.length > 0);
      operation = operationAt(match);
      this.counters.count(method, operation.counter, "count");
      const { result, isDeprecated } = await this.#run(operation, match, body);
      return this.#succeeded(result, isDeprecated);
    } catch (error) {
      this.counters.count(method, operation?.counter, "fails");
      return this.#failed(error);
    }
  }

  async #run(operation: Operation, { id }: Match, bytes: Uint8Array) {
    const body = readBody(operation, bytes);
    checkId(operation, id, body);
    if (operation.method === "PATCH" && operation.path === "/machine-config") {
      if (isEmptyUpdate(body as MachineConfigUpdateJson)) throw new Fault("Empty PATCH request.");
    }
    const isStarted = this.#target.phase !== "Not started";
    if (operation.when === "before boot" && isStarted) throw new Fault(NOT_AFTER_BOOT);
    if (operation.when === "after boot" && !isStarted) throw new Fault(NOT_BEFORE_BOOT);
    let isDeprecated = false;
    const result = await operation.run({
      target: this.#target,
      body,
      id,
      log: this.#log,
      counters: this.counters,
      deprecated: (what) => {
        isDeprecated = true;
        this.counters.deprecated_api.deprecated_http_api_calls += 1;
        this.#log.write("Warn", DEPRECATION_SITE, what);
      },
    });
    return { result, isDeprecated };
  }

  #succeeded(result: unknown, isDeprecated: boolean): ApiReply {
    const headers = isDeprecated ? { headers: { Deprecation: "true" } } : {};
    const status = result === undefined ? "204 No Content" : "200 OK";
    this.#log.write(
      "Info",
      REPLY_SITE,
      `The request was executed successfully. Status code: ${status}.`,
    );
    if (result === undefined) return { status: 204, ...headers };
    return { status: 200, ...headers, body: JSON.stringify(result) };
  }

  #failed(error: unknown): ApiReply {
    const known = toEstaloError(error);
    const isFault = error instanceof Fault;
    const isBug = !isFault && known.family === "bug";
    const status = isFault ? error.status : isBug ? 500 : 400;
    const text = isFault ? error.message : known.message;
    const name = status === 400 ? "400 Bad Request" : String(status);
    this.#log.write("Error", FAULT_SITE, `Received Error. Status code: ${name}. Message: ${text}`);
    // Where in the program it happened is the log's to know.
    return { status, body: JSON.stringify({ fault_message: isBug ? BUG_TEXT : text }) };
  }
}

/** What Firecracker's HTTP parser answers; the line break makes it no JSON, and clients are used to it. */
export function parserFault(text: string): ApiReply {
  return {
    status: 400,
    body: `{ "error": "${text}\nAll previous unanswered requests will be dropped." }`,
  };
}

/** As above, for a body over the limit. */
export function bodyTooLarge(sizeBytes: number, limitBytes: number): ApiReply {
  return parserFault(
    `Request payload with size ${sizeBytes} is larger than the limit of ${limitBytes} allowed by server.`,
  );
}

/** To a connection that is one too many. */
export function tooManyConnections(): ApiReply {
  return { status: 503, body: '{ "error": "Too many open connections" }' };
}

function operationAt({ method, path }: Match): Operation {
  return BY_PLACE.get(`${method} ${path}`) as Operation;
}

function readBody(operation: Operation, bytes: Uint8Array): unknown {
  if (operation.body === undefined) return undefined;
  if (bytes.length === 0 && operation.isBodyOptional) return undefined;
  const checked = checkJson(operation.body, bytes);
  if ("problem" in checked) throw unreadableBody(serdeWording(checked.problem));
  return checked.value;
}

function checkId({ id: rule }: Operation, id: string, body: unknown): void {
  if (rule === undefined) return;
  const inBody = String((body as Record<string, unknown>)[rule.field]);
  if (inBody !== id) throw new Fault(rule.mismatch(id, inBody));
}

const METHOD_NAMES: Readonly<Record<string, string>> = {
  GET: "Get",
  PUT: "Put",
  PATCH: "Patch",
  DELETE: "Delete",
};

/** The log's line of a request. What metadata holds is the guest's business, and a CPU template is long. */
function received({ method, body }: ApiRequest, path: string): string {
  const what = `The API server received a ${METHOD_NAMES[method]} request on ${JSON.stringify(path)}`;
  if (body.length === 0 || path === "/mmds" || path === "/cpu-config") return `${what}.`;
  return `${what} with body ${JSON.stringify(utf8.decode(body))}.`;
}
