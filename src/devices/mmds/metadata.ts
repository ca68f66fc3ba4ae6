/**
 * The metadata service itself: a request of the guest, the data and the tokens make a reply. What a connection
 * is, it does not know. Statuses and texts: Firecracker 1.16, src/vmm/src/mmds/mod.rs.
 */
import {
  formatReply,
  HttpFault,
  type HttpReply,
  type HttpRequest,
  headerOf,
  invalidValue,
  parseRequest,
  parseU32,
} from "./http.js";
import { imdsText, type JsonStore, writeJson } from "./json-store.js";
import type { MmdsMetrics } from "./mmds.state.js";
import { type TokenAuthority, TTL_MAX_SECONDS, TTL_MIN_SECONDS } from "./tokens.js";

/** V1 answers anybody, V2 those who show a token. */
export type MmdsVersion = "V1" | "V2";

/** What a service is made of. */
export interface MetadataOptions {
  readonly version: MmdsVersion;
  /** Bodies are in the IMDS form, whatever the client accepts. */
  readonly imdsCompat: boolean;
  readonly store: JsonStore;
  readonly tokens: TokenAuthority;
  readonly metrics: MmdsMetrics;
}

const TOKEN_PATH = "/latest/api/token";
const TOKEN_HEADERS = ["x-metadata-token", "x-aws-ec2-metadata-token"];
const TTL_HEADERS = ["x-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token-ttl-seconds"];
/** A request that came through a proxy is somebody else's. */
const FORWARDED_HEADER = "X-Forwarded-For";

const NO_TOKEN =
  "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the " +
  "session token.";
const NO_TTL =
  "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or " +
  "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.";

/** See the file's header. */
export class MetadataService {
  readonly #options: MetadataOptions;

  constructor(options: MetadataOptions) {
    this.#options = options;
  }

  /** The reply to one request, from its first line to its empty one; never raises. */
  answer(bytes: Uint8Array): Uint8Array {
    try {
      const request = parseRequest(bytes);
      return formatReply(this.#reply(request), request.version);
    } catch (error) {
      if (!(error instanceof HttpFault)) throw error;
      return formatReply({ status: error.status, body: error.message });
    }
  }

  #reply(request: HttpRequest): HttpReply {
    if (request.path === "") return { status: 400, body: "Invalid URI." };
    if (request.method === "GET") return this.#get(request);
    if (request.method === "PUT") return this.#put(request);
    const headers = [["Allow", "GET, PUT"]] as const;
    return { status: 405, body: "Not allowed HTTP method.", headers };
  }

  #get(request: HttpRequest): HttpReply {
    const { version, tokens, metrics } = this.#options;
    const token = headerOf(request, ...TOKEN_HEADERS);
    if (token === undefined) {
      metrics.rx_no_token++;
      if (version === "V2") return { status: 401, body: NO_TOKEN };
    } else if (!tokens.isValid(token[1])) {
      metrics.rx_invalid_token++;
      if (version === "V2") return { status: 401, body: "MMDS token not valid." };
    }
    return this.#read(request);
  }

  #read({ path, accept }: HttpRequest): HttpReply {
    const { store, imdsCompat } = this.#options;
    const value = store.at(path);
    if (value === undefined) return notFound(path);
    const isJson = accept === "application/json" && !imdsCompat;
    const body = isJson ? writeJson(value) : imdsText(value);
    if (body !== undefined) return { status: 200, body, contentType: accept };
    return {
      status: 501,
      body: "Cannot retrieve value. The value has an unsupported type.",
    };
  }

  #put(request: HttpRequest): HttpReply {
    if (headerOf(request, FORWARDED_HEADER.toLowerCase()) !== undefined) {
      return badHeader(`Unsupported header name. Key: ${FORWARDED_HEADER}`);
    }
    if (request.path.replace(/\/{2,}/g, "/") !== TOKEN_PATH) return notFound(request.path);
    const header = headerOf(request, ...TTL_HEADERS);
    if (header === undefined) return { status: 400, body: NO_TTL };
    const [name, value] = header;
    const ttlSeconds = parseU32(value);
    if (ttlSeconds === undefined) return badHeader(invalidValue(name, value));
    const token = this.#options.tokens.issue(ttlSeconds);
    if (token === undefined) {
      return {
        status: 400,
        body:
          `Invalid time to live value provided for token: ${ttlSeconds}. Please provide a value ` +
          `between ${TTL_MIN_SECONDS} and ${TTL_MAX_SECONDS}.`,
      };
    }
    return { status: 200, body: token, headers: [[name, String(ttlSeconds)]] };
  }
}

function notFound(path: string): HttpReply {
  return { status: 404, body: `Resource not found: ${path}.` };
}

function badHeader(why: string): HttpReply {
  return { status: 400, body: `Invalid header. Reason: ${why}` };
}
