/**
 * HTTP of the metadata service: requests of a guest, without a body, and replies. Strictness, statuses and
 * texts are those of Firecracker's micro_http (1.16).
 */

export type HttpMethod = "GET" | "PUT" | "PATCH" | "DELETE";
export type MediaType = "text/plain" | "application/json";

/** A request, all of it text from the guest. */
export interface HttpRequest {
  readonly method: HttpMethod;
  readonly version: "HTTP/1.0" | "HTTP/1.1";
  /** Of the URI; empty when it has none. With the query, which has no meaning here. */
  readonly path: string;
  /** What the client wants; everything unknown is plain text. */
  readonly accept: MediaType;
  /** Headers that HTTP itself does not need, in their order: name and value. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** A reply; `version` is the request's. */
export interface HttpReply {
  readonly status: number;
  readonly body: string;
  readonly contentType?: MediaType;
  readonly headers?: readonly (readonly [name: string, value: string])[];
}

/** A request that cannot be read: status and text of the answer. */
export class HttpFault extends Error {
  override readonly name = "HttpFault";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const METHODS: readonly string[] = ["GET", "PUT", "PATCH", "DELETE"];
const VERSIONS: readonly string[] = ["HTTP/1.0", "HTTP/1.1"];
/** "GET / HTTP/1.1" */
const REQUEST_LINE_CHARS_MIN = 14;
const SCHEME = "http://";
const LF = 10;
const CR = 13;

const utf8 = new TextDecoder("utf-8", { fatal: true });
const encoder = new TextEncoder();

/** Where the first request in these bytes ends; 0: not yet. */
export function endOfRequest(bytes: Uint8Array): number {
  for (let index = bytes.indexOf(LF); index >= 0; index = bytes.indexOf(LF, index + 1)) {
    if (bytes[index + 1] === LF) return index + 2;
    if (bytes[index + 1] === CR && bytes[index + 2] === LF) return index + 3;
  }
  return 0;
}

function invalidRequest(): HttpFault {
  return new HttpFault(400, "Invalid request.");
}

/** The request in bytes that end as `endOfRequest` says; raises an HttpFault. */
export function parseRequest(bytes: Uint8Array): HttpRequest {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw invalidRequest();
  }
  const [requestLine, ...lines] = text.split("\r\n");
  // The last two are what follows the last header and the empty line.
  if (lines.at(-1) !== "" || lines.at(-2) !== "") throw invalidRequest();
  if (requestLine.length < REQUEST_LINE_CHARS_MIN) throw invalidRequest();
  const [method, uri, ...rest] = requestLine.split(" ");
  if (rest.length === 0) throw invalidRequest();
  const version = rest.join(" ");
  if (!METHODS.includes(method)) throw new HttpFault(501, "Unsupported HTTP method.");
  if (uri === "") throw new HttpFault(400, "Empty URI not allowed.");
  if (!VERSIONS.includes(version)) throw new HttpFault(501, "Unsupported HTTP version.");
  return {
    method: method as HttpMethod,
    version: version as HttpRequest["version"],
    path: pathOf(uri),
    ...parseHeaders(lines.slice(0, -2)),
  };
}

function pathOf(uri: string): string {
  if (!uri.startsWith(SCHEME)) return uri.startsWith("/") ? uri : "";
  const slash = uri.indexOf("/", SCHEME.length);
  return slash < 0 ? "" : uri.slice(slash);
}

function parseHeaders(lines: readonly string[]): Pick<HttpRequest, "accept" | "headers"> {
  let accept: MediaType = "text/plain";
  const headers: (readonly [string, string])[] = [];
  for (const line of lines) {
    const colon = line.indexOf(":");
    if (colon < 0) throw new HttpFault(400, `Header is incorrectly formatted. Key: ${line}`);
    const [name, raw] = [line.slice(0, colon).trim(), line.slice(colon + 1)];
    const value = raw.trim();
    switch (name.toLowerCase()) {
      case "content-length":
        checkContentLength(name, raw);
        break;
      case "accept":
        if (value === "application/json" || value === "text/plain") accept = value;
        break;
      case "accept-encoding":
        checkEncodings(value);
        break;
      default:
        headers.push([name, value]);
    }
  }
  return { accept, headers };
}

/** Nothing that the service does has a body. */
function checkContentLength(name: string, raw: string): void {
  const length = parseU32(raw.trim());
  if (length === undefined) throw new HttpFault(400, invalidValue(name, raw));
  if (length > 0) throw invalidRequest();
}

/** Nothing is compressed here, and who forbids that cannot be answered. */
function checkEncodings(value: string): void {
  if (value === "") throw invalidRequest();
  for (const encoding of value.split(",").map((one) => one.trim())) {
    if (encoding === "identity;q=0" || (encoding === "*;q=0" && !value.includes("identity"))) {
      throw new HttpFault(400, invalidValue("Accept-Encoding", encoding));
    }
  }
}

/** The words for a header's value that makes no sense. */
export function invalidValue(name: string, value: string): string {
  return `Invalid value. Key:${name}; Value:${value}`;
}

/** A number of 32 bits as Rust reads it; `undefined`: none. */
export function parseU32(text: string): number | undefined {
  const value = Number(text);
  return /^\+?\d+$/.test(text) && value < 2 ** 32 ? value : undefined;
}

/** The value of the first header of one of these names (in lower case), with its name as the client wrote it. */
export function headerOf(
  { headers }: HttpRequest,
  ...names: readonly string[]
): readonly [name: string, value: string] | undefined {
  return headers.find(([name]) => names.includes(name.toLowerCase()));
}

/** The reply as bytes. The connection stays open, whatever the client asked for: it is the one to close. */
export function formatReply(reply: HttpReply, version = "HTTP/1.1"): Uint8Array {
  const body = encoder.encode(reply.body);
  const head = [
    `${version} ${reply.status} `,
    "Server: Firecracker API",
    "Connection: keep-alive",
    ...(reply.headers ?? []).map(([name, value]) => `${name}: ${value}`),
    `Content-Type: ${reply.contentType ?? "text/plain"}`,
    `Content-Length: ${body.length}`,
  ];
  const bytes = encoder.encode(`${head.join("\r\n")}\r\n\r\n`);
  const whole = new Uint8Array(bytes.length + body.length);
  whole.set(bytes);
  whole.set(body, bytes.length);
  return whole;
}
