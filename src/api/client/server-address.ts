/**
 * Which server a client talks to and how it shows who it is: from options, else from the environment, else
 * the socket where `estalo serve` listens by default. Everything is checked here, once.
 */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { EstaloError, hostError } from "../../errors.js";

/** PEM text of a certificate or key. */
export type Pem = string | Uint8Array;

/** What TLS needs beyond the system's own certificates. */
export interface ClientTls {
  /** Certificates that sign the server's, instead of the system's. */
  readonly ca?: Pem;
  /** This client's certificate and its key, for a server with `--tls-client-ca`. Both or none. */
  readonly cert?: Pem;
  readonly key?: Pem;
  /** The name that the server's certificate must have. Default: the host's. */
  readonly serverName?: string;
}

/** Where the server is. What is absent comes from the environment. */
export interface ServerOptions {
  /**
   * `unix:///path/of/socket`, `http://host:port` or `https://host:port`. Default: ESTALO_HOST, else the
   * default socket of `estalo serve`.
   */
  readonly host?: string;
  /** Bearer token. Default: ESTALO_TOKEN, else the contents of the file ESTALO_TOKEN_FILE. */
  readonly token?: string;
  /** Default: the files ESTALO_TLS_CA, ESTALO_TLS_CERT and ESTALO_TLS_KEY. */
  readonly tls?: ClientTls;
}

/** A server, checked. */
export interface ServerAddress {
  /** As messages name it. */
  readonly name: string;
  /** A Unix socket's path; absent on TCP. */
  readonly socketPath: string | undefined;
  /** "localhost" for a Unix socket. */
  readonly hostname: string;
  readonly port: number;
  readonly isSecure: boolean;
  readonly token: string | undefined;
  readonly tls: ClientTls;
}

/** What these checks read of the process. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isRoot: boolean;
  readonly homeFolder: string;
}

/** `sun_path` has 108 bytes with its terminating zero (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;
const HOST_FORMS = "unix:///path/of/socket, http://host:port or https://host:port";
const DEFAULT_PORTS: Readonly<Record<string, number>> = { "http:": 80, "https:": 443 };

function processSurroundings(): Surroundings {
  return { env: process.env, isRoot: process.getuid?.() === 0, homeFolder: homedir() };
}

/** The socket that `estalo serve` listens on when it is not told otherwise. */
export function defaultSocketPath({ env, isRoot, homeFolder }: Surroundings): string {
  if (env.XDG_RUNTIME_DIR) return join(env.XDG_RUNTIME_DIR, "estalo", "estalo.sock");
  return isRoot ? "/run/estalo/estalo.sock" : join(homeFolder, ".estalo", "estalo.sock");
}

/**
 * The server that these options and this environment mean. Raises ERR_ESTALO_CONFIG_INVALID for an address or
 * token that cannot be one, ERR_ESTALO_CONFIG_FILE for a file that cannot be read.
 */
export function resolveServer(
  options: ServerOptions = {},
  surroundings: Surroundings = processSurroundings(),
): ServerAddress {
  const { env } = surroundings;
  const host = options.host ?? (env.ESTALO_HOST || `unix://${defaultSocketPath(surroundings)}`);
  const token = checkToken(options.token ?? tokenOf(env));
  const tls = checkTls(options.tls ?? tlsOf(env));
  return { ...parseHost(host), token, tls };
}

type Place = Pick<ServerAddress, "name" | "socketPath" | "hostname" | "port" | "isSecure">;

function parseHost(host: string): Place {
  if (typeof host !== "string") throw wrongHost(String(host));
  if (host.startsWith("unix://")) return unixPlace(host, host.slice("unix://".length));
  if (host.startsWith("/")) return unixPlace(`unix://${host}`, host);
  const url = URL.canParse(host) ? new URL(host) : undefined;
  const isBare =
    url !== undefined &&
    Object.hasOwn(DEFAULT_PORTS, url.protocol) &&
    url.hostname !== "" &&
    `${url.pathname}${url.search}${url.hash}${url.username}${url.password}` === "/";
  if (!isBare) throw wrongHost(host);
  return {
    name: url.origin,
    socketPath: undefined,
    // An IPv6 address has brackets in a URL and none in a call.
    hostname: url.hostname.replace(/^\[(.*)\]$/, "$1"),
    port: url.port === "" ? DEFAULT_PORTS[url.protocol] : Number(url.port),
    isSecure: url.protocol === "https:",
  };
}

function unixPlace(name: string, path: string): Place {
  if (!path.startsWith("/") || path.includes("\0")) throw wrongHost(name);
  const sizeBytes = Buffer.byteLength(path);
  if (sizeBytes > SOCKET_PATH_BYTES_MAX) {
    throw new EstaloError(
      "ERR_ESTALO_CONFIG_INVALID",
      `host: a Unix socket's path has at most ${SOCKET_PATH_BYTES_MAX} bytes, this one ${sizeBytes}: ${path}`,
      { data: { field: "host", sizeBytes } },
    );
  }
  return { name, socketPath: path, hostname: "localhost", port: 0, isSecure: false };
}

function wrongHost(host: string): EstaloError {
  return new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `host: expected ${HOST_FORMS}, got ${JSON.stringify(host)}`,
    { data: { field: "host", expected: HOST_FORMS, got: host } },
  );
}

function tokenOf(env: Surroundings["env"]): string | undefined {
  if (env.ESTALO_TOKEN) return env.ESTALO_TOKEN;
  const file = env.ESTALO_TOKEN_FILE;
  return file ? readText("ESTALO_TOKEN_FILE", file).trim() : undefined;
}

/** A token is one header field's value: RFC 6750 § 2.1 has these characters, without any space. */
function checkToken(token: string | undefined): string | undefined {
  if (token === undefined) return undefined;
  if (typeof token === "string" && /^[\x21-\x7e]{1,4096}$/.test(token)) return token;
  // The token itself is nothing for a message.
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    "token: expected 1 to 4096 printable characters without spaces",
    { data: { field: "token" } },
  );
}

function tlsOf(env: Surroundings["env"]): ClientTls {
  const read = (name: string) => (env[name] ? readText(name, env[name]) : undefined);
  const [ca, cert, key] = ["ESTALO_TLS_CA", "ESTALO_TLS_CERT", "ESTALO_TLS_KEY"].map(read);
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
}

function checkTls(tls: ClientTls): ClientTls {
  if ((tls.cert === undefined) === (tls.key === undefined)) return tls;
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    "tls: a client's certificate and its key go together, one of them is missing",
    { data: { field: "tls" }, hint: "ESTALO_TLS_CERT and ESTALO_TLS_KEY name the files" },
  );
}

function readText(variable: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw hostError("read", `${variable} (${path})`, error, "ERR_ESTALO_CONFIG_FILE");
  }
}
