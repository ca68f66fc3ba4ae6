/**
 * One request and its reply on uWebSockets.js: copied in, written out, never touched after its client went.
 */
import type { HttpRequest, HttpResponse } from "uWebSockets.js";
import { EstaloError } from "../errors.js";
import type { ApiReply, ApiRequest } from "./http.js";

/** How a server writes replies. */
export interface ReplyStyle {
  /** Sent with every reply. */
  readonly headers: Readonly<Record<string, string>>;
  /** "HTTP/1.1 204 No Content" rather than "HTTP/1.1 204 ". */
  readonly reasonPhrases: boolean;
}

const REASONS: Readonly<Record<number, string>> = {
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  304: "Not Modified",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  426: "Upgrade Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
};

/** Headers that change what a request is: a second one is refused, whichever it says. */
const SINGLE = ["content-length", "host", "transfer-encoding", "authorization"];

/** A header's colon, blank and line end. */
const LINE_BYTES = 4;

const NO_BODY = new Uint8Array(0);

/** A request, and the one reply it gets. */
export class Exchange implements ApiRequest {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  body: Uint8Array = NO_BODY;
  /** Why the request is none, if so: two lengths, two hosts. */
  readonly fault: string | undefined;
  /** Bytes of its first line and its headers. */
  readonly headBytes: number;
  readonly #headers = new Map<string, string>();
  readonly #style: ReplyStyle;
  #response: HttpResponse | undefined;
  #abort: AbortController | undefined;
  #isAborted = false;

  /** Copies the request; `request` is valid during uWebSockets.js's callback only. */
  constructor(response: HttpResponse, request: HttpRequest, style: ReplyStyle) {
    this.#response = response;
    this.#style = style;
    this.method = request.getCaseSensitiveMethod();
    this.path = request.getUrl();
    // Not a string when there is none.
    this.query = request.getQuery() ?? "";
    let fault: string | undefined;
    let headBytes = this.method.length + this.path.length + this.query.length;
    request.forEach((name, value) => {
      headBytes += name.length + value.length + LINE_BYTES;
      const before = this.#headers.get(name);
      if (before === undefined) this.#headers.set(name, value);
      else if (SINGLE.includes(name)) fault = `more than one ${name} header`;
      else this.#headers.set(name, `${before}, ${value}`);
    });
    this.fault = fault;
    this.headBytes = headBytes;
  }

  header(name: string): string | undefined {
    return this.#headers.get(name);
  }

  /** Made when first asked for: most requests are answered before anybody could wait on it. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#isAborted) this.#abort.abort();
    return this.#abort.signal;
  }

  /** Nobody waits for the reply any more, or soon will not. */
  abort(): void {
    this.#isAborted = true;
    this.#abort?.abort();
  }

  /** The client went: there is nothing to write to. */
  lose(): void {
    this.#response = undefined;
    this.abort();
  }

  /** False when it was answered, or its client went. */
  get isOpen(): boolean {
    return this.#response !== undefined;
  }

  /** Gives the response away, to be upgraded. */
  take(): HttpResponse | undefined {
    const response = this.#response;
    this.#response = undefined;
    return response;
  }

  /**
   * Answers, and closes the connection after that if told to.
   *
   * @returns bytes of the body, or `undefined` when nobody is there any more
   * @throws ERR_ESTALO_BUG for a reply that cannot be written; the request is still to be answered then
   */
  send(reply: ApiReply, closes: boolean): number | undefined {
    checkReply(reply);
    const response = this.take();
    if (response === undefined) return undefined;
    writeReply(response, reply, this.#style, this.method === "HEAD", closes);
    return reply.body?.length ?? 0;
  }
}

/** Headers come from handlers, which may have copied them from a request. */
function checkReply({ status, headers }: ApiReply): void {
  const isWrong = (text: string) => /[\r\n\0]/.test(text);
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw new EstaloError("ERR_ESTALO_BUG", `a reply with status ${status}`);
  }
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (isWrong(name) || isWrong(value)) {
      throw new EstaloError("ERR_ESTALO_BUG", `a line break in the reply's header ${name}`);
    }
  }
}

/** Writes a reply as one piece. */
export function writeReply(
  response: HttpResponse,
  reply: ApiReply,
  style: ReplyStyle,
  isHead: boolean,
  closes: boolean,
): void {
  const { status, headers = {}, body } = reply;
  response.cork(() => {
    const reason = style.reasonPhrases ? (REASONS[status] ?? "") : "";
    response.writeStatus(`${status} ${reason}`);
    for (const name in style.headers) {
      // "Connection: keep-alive" of a door's; that it is closed is told below.
      if (!closes || name !== "Connection") response.writeHeader(name, style.headers[name]);
    }
    let hasType = body === undefined;
    for (const name in headers) {
      hasType ||= name.toLowerCase() === "content-type";
      response.writeHeader(name, headers[name]);
    }
    if (!hasType) response.writeHeader("Content-Type", "application/json");
    const hasNoLength = status === 204 || status === 304;
    if (isHead && !hasNoLength) {
      // With a length of its own, endWithoutBody waits for the body and never takes another request.
      const length = typeof body === "string" ? Buffer.byteLength(body) : (body?.length ?? 0);
      response.writeHeader("Content-Length", String(length));
    }
    if (isHead || hasNoLength) endWithoutBody(response, closes);
    else response.end(body ?? "", closes);
  });
}

/** Passing `undefined` for the length would be taken for one. */
function endWithoutBody(response: HttpResponse, closes: boolean): void {
  if (closes) response.writeHeader("Connection", "close");
  response.endWithoutBody();
}
