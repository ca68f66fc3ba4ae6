/**
 * Who may speak to door 2: the Host and Origin of every request, and the bearer token where one is asked for.
 *
 * A web page can make its visitor's browser send requests to any address, also one that its own name is
 * made to lead to (DNS rebinding). Browsers tell both: a Host that is not ours, or an Origin that is neither
 * ours nor allowed, ends the request. Address literals and localhost cannot be rebound and always pass.
 *
 * Tokens are compared by their digests in constant time. The file is looked at with every request that needs
 * it, so that a token that was taken out is refused from then on; a file that cannot be used lets nobody in.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync, type Stats, statSync } from "node:fs";
import { isIP } from "node:net";
import { EstaloError, hostError } from "../../errors.js";
import { errorReply } from "../errors-http.js";
import type { ApiReply, ApiRequest } from "../http.js";

/** Characters of a token: RFC 6750 § 2.1. */
const TOKEN = /^[A-Za-z0-9._~+/-]{16,512}=*$/;
const TOKEN_FILE_BYTES_MAX = 64 * 1024;
/** Anybody but its owner may touch a file with these bits. */
const MODE_OF_OTHERS = 0o077;
/** Before the token among a WebSocket's subprotocols, for browsers, which cannot set headers there. */
const SUBPROTOCOL_PREFIX = "estalo.bearer.";

const CHALLENGE = { "WWW-Authenticate": "Bearer" };
/** Fetch standard, § 3.2.3: what pages of an allowed origin may send; browsers may remember it for 10 minutes. */
const PREFLIGHT_HEADERS = {
  "Access-Control-Allow-Methods": "GET, PUT, PATCH, POST, DELETE",
  "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key",
  "Access-Control-Max-Age": "600",
};

/** The tokens in a file, one a line; empty lines and those that begin with # do not count. */
export class TokenFile {
  readonly path: string;
  #digests: readonly Buffer[] = [];
  #seen: Stats | undefined;

  /** Reads it; raises ERR_ESTALO_LISTEN for a file that others may read, has no good token, or is not there. */
  constructor(path: string) {
    this.path = path;
    this.reload();
  }

  /** Reads it again; raises as the constructor does, and then no token is good. */
  reload(): void {
    this.#digests = [];
    try {
      this.#seen = statSync(this.path);
      this.#digests = readTokens(this.path, this.#seen).map(digest);
    } catch (error) {
      if (error instanceof EstaloError) throw error;
      // Of the host's making, out of descriptors for one: the next request looks again, the file is the same then.
      this.#seen = undefined;
      throw hostError("read token file", this.path, error, "ERR_ESTALO_LISTEN");
    }
  }

  /** Whether the file, as it is now, has the token. */
  has(token: string): boolean {
    try {
      if (this.#isChanged()) this.reload();
    } catch {
      return false;
    }
    const given = digest(token);
    // All of them, always: how long it takes says nothing.
    let found = false;
    for (const known of this.#digests) found = timingSafeEqual(known, given) || found;
    return found;
  }

  #isChanged(): boolean {
    const seen = this.#seen;
    const now = statSync(this.path);
    const isSame =
      seen !== undefined &&
      now.ino === seen.ino &&
      now.mtimeMs === seen.mtimeMs &&
      now.ctimeMs === seen.ctimeMs &&
      now.size === seen.size;
    return !isSame;
  }
}

function digest(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

function readTokens(path: string, { mode, size, uid }: Stats): string[] {
  const own = process.getuid?.() ?? uid;
  if ((mode & MODE_OF_OTHERS) !== 0 || (uid !== own && uid !== 0)) {
    throw new EstaloError("ERR_ESTALO_LISTEN", `token file ${path}: others may read or change it`, {
      hint: `chmod 600 ${path}`,
      data: { path, mode: (mode & 0o777).toString(8), uid },
    });
  }
  if (size > TOKEN_FILE_BYTES_MAX)
    throw badTokens(path, `it has more than ${TOKEN_FILE_BYTES_MAX} bytes`);
  const lines = readFileSync(path, "utf8").split("\n");
  const tokens = lines.map((line) => line.trim()).filter((line) => line !== "" && line[0] !== "#");
  if (tokens.length === 0) throw badTokens(path, "there is no token in it");
  // Which one is not said: it may be a token with a character too many.
  if (!tokens.every((token) => TOKEN.test(token))) {
    throw badTokens(path, "a token is 16 to 512 letters, digits and . _ ~ + / -");
  }
  return tokens;
}

function badTokens(path: string, why: string): EstaloError {
  return new EstaloError("ERR_ESTALO_LISTEN", `token file ${path}: ${why}`, {
    hint: `(umask 077; openssl rand -hex 32 > ${path})`,
    data: { path },
  });
}

/** Why requests were refused, counted. */
export interface AuthCounts {
  /** Neither header nor subprotocol. */
  missingToken: number;
  wrongToken: number;
  host: number;
  origin: number;
}

/** What a listener asks of its clients. */
export interface AccessOptions {
  /** Absent: no token is asked for (Unix socket, mutual TLS). */
  readonly tokens?: TokenFile;
  /** Names, beside localhost and addresses, under which clients reach us; in lower case. */
  readonly hosts: readonly string[];
  /** Origins of web pages that may use us, beside our own: `https://example.org:8443`. */
  readonly origins: readonly string[];
}

/** One listener's rules. */
export class AccessPolicy {
  readonly #tokens: TokenFile | undefined;
  readonly #hosts: ReadonlySet<string>;
  readonly #origins: ReadonlySet<string>;
  readonly counts: AuthCounts = { missingToken: 0, wrongToken: 0, host: 0, origin: 0 };

  constructor({ tokens, hosts, origins }: AccessOptions) {
    this.#tokens = tokens;
    this.#hosts = new Set(hosts.map((host) => host.toLowerCase()));
    this.#origins = new Set(origins);
  }

  /**
   * The reply for a request that goes no further: status 403 for a Host or Origin that is not ours, 401 for a
   * token that is not there or wrong, 204 for the question of an allowed page's browser what it may send.
   */
  admit(request: Pick<ApiRequest, "header" | "path" | "method">): ApiReply | undefined {
    try {
      const host = request.header("host") ?? "";
      this.#checkHost(host);
      this.#checkOrigin(host, request.header("origin"));
      if (request.method === "OPTIONS" && request.header("access-control-request-method")) {
        return { status: 204, headers: { ...this.originHeaders(request), ...PREFLIGHT_HEADERS } };
      }
      this.#checkToken(request);
      return undefined;
    } catch (error) {
      const { code } = error as EstaloError;
      const challenge = code === "ERR_ESTALO_UNAUTHORIZED" ? CHALLENGE : {};
      return errorReply(error, { ...this.originHeaders(request), ...challenge });
    }
  }

  /** What a reply needs for the page of an allowed origin to see it. */
  originHeaders(request: Pick<ApiRequest, "header">): Readonly<Record<string, string>> {
    const origin = request.header("origin");
    if (origin === undefined || !this.#origins.has(origin)) return {};
    return { "Access-Control-Allow-Origin": origin, Vary: "Origin" };
  }

  #checkToken(request: Pick<ApiRequest, "header" | "path">): void {
    // A load balancer's probe has no token, and learns nothing but that we are there.
    if (this.#tokens === undefined || request.path === "/healthz") return;
    const token = bearerToken(request);
    if (token === undefined) {
      this.counts.missingToken += 1;
      throw unauthorized("a bearer token is needed");
    }
    if (!this.#tokens.has(token)) {
      this.counts.wrongToken += 1;
      throw unauthorized("the bearer token is wrong");
    }
  }

  #checkHost(host: string): void {
    // HTTP/1.0 has none, and no browser speaks that.
    if (host === "") return;
    const name = hostName(host);
    if (name !== undefined && (cannotBeRebound(name) || this.#hosts.has(name))) return;
    this.counts.host += 1;
    throw forbidden(
      `this server does not answer to the host ${JSON.stringify(host.slice(0, 260))}`,
      {
        hint: "start it with --allow-host NAME",
      },
    );
  }

  #checkOrigin(host: string, origin: string | undefined): void {
    if (origin === undefined) return;
    const isOwn = origin === `http://${host}` || origin === `https://${host}`;
    if (isOwn || this.#origins.has(origin)) return;
    this.counts.origin += 1;
    throw forbidden(`pages of ${JSON.stringify(origin.slice(0, 260))} may not use this server`, {
      hint: "start it with --allow-origin URL",
    });
  }
}

/** The name in a Host header, in lower case and without its port; `undefined` when it is none. */
function hostName(host: string): string | undefined {
  return /^(\[[0-9a-f:.]+\]|[^:[\]/@\s]+)(?::\d{1,5})?$/i.exec(host)?.[1].toLowerCase();
}

function cannotBeRebound(name: string): boolean {
  if (name === "localhost" || name.endsWith(".localhost")) return true;
  return isIP(name.replace(/^\[|\]$/g, "")) !== 0;
}

function bearerToken(request: Pick<ApiRequest, "header">): string | undefined {
  const authorization = /^bearer +(\S+) *$/i.exec(request.header("authorization") ?? "")?.[1];
  if (authorization !== undefined) return authorization;
  for (const protocol of (request.header("sec-websocket-protocol") ?? "").split(",")) {
    const name = protocol.trim();
    if (name.startsWith(SUBPROTOCOL_PREFIX)) return name.slice(SUBPROTOCOL_PREFIX.length);
  }
  return undefined;
}

function unauthorized(message: string): EstaloError {
  return new EstaloError("ERR_ESTALO_UNAUTHORIZED", message, {
    hint: "send it as Authorization: Bearer TOKEN; the command takes ESTALO_TOKEN",
  });
}

function forbidden(message: string, details: { readonly hint: string }): EstaloError {
  return new EstaloError("ERR_ESTALO_FORBIDDEN", message, details);
}
