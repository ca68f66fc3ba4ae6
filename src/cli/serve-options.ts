/**
 * What the words of `estalo serve` ask for, checked as far as that goes before anything is opened.
 */
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { defaultSocketPath } from "../api/client/server-address.js";
import type { TlsFiles } from "../api/tls-front.js";
import type { EstaloError } from "../errors.js";
import { helpHint, type ParsedArguments, usageError } from "./arguments.js";
import { type MemoryPolicyChoice, parseMemoryPolicy } from "./memory-policy-option.js";
import { SERVE_VERB } from "./serve-verb.js";

/** One address to listen on. */
export type ServeAddress =
  | { readonly kind: "unix"; readonly path: string; readonly isDefault: boolean }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** What `estalo serve` was asked for. */
export interface ServeOptions {
  readonly stateDir: string;
  readonly addresses: readonly ServeAddress[];
  readonly tokenFile: string | undefined;
  /** For every TCP address. */
  readonly tls: TlsFiles | undefined;
  readonly hosts: readonly string[];
  readonly origins: readonly string[];
  readonly limits: { readonly bodyBytes?: number; readonly connections?: number };
  readonly logForm: "json" | "plain" | undefined;
  readonly memoryPolicy: MemoryPolicyChoice | undefined;
  /** Undefined: all microVMs run in the server's process. */
  readonly isolation: IsolationOptions | undefined;
}

/** How microVMs are put into processes of their own. */
export interface IsolationOptions {
  /** Those with the same value of this label share a process; undefined: none do. */
  readonly tenantLabel: string | undefined;
  /** Their users and groups; undefined: the default for root. */
  readonly ids: { readonly first: number; readonly last: number } | undefined;
  /** `file=value`. */
  readonly cgroups: readonly string[];
}

/** What the defaults depend on. */
export interface ServeSurroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isRoot: boolean;
  readonly homeFolder: string;
}

const BODY_BYTES = [1024, 64 * 1024 * 1024] as const;
const CONNECTIONS = [1, 1_000_000] as const;
const TENANT_LABEL = "tenant";
const ISOLATE_DETAILS = ["isolate-label", "isolate-ids", "isolate-cgroup"];
const ID_MAX = 0xffff_fffe;

function processSurroundings(): ServeSurroundings {
  return { env: process.env, isRoot: process.getuid?.() === 0, homeFolder: homedir() };
}

/** The options of words already taken apart; raises ERR_ESTALO_USAGE. */
export function serveOptions(
  { values, operands }: ParsedArguments,
  surroundings: ServeSurroundings = processSurroundings(),
): ServeOptions {
  if (operands.length > 0) throw wrong(`serve takes no ${operands[0]}`);
  const one = (name: string) => values.get(name)?.at(-1);
  const listens = values.get("listen") ?? [];
  const addresses =
    listens.length === 0
      ? [{ kind: "unix", path: defaultSocketPath(surroundings), isDefault: true } as const]
      : listens.map(parseAddress);
  const tokenFile = one("token-file");
  const tls = tlsOf(one("tls-cert"), one("tls-key"), one("tls-client-ca"));
  const open = addresses.find(({ kind }) => kind === "tcp");
  if (open !== undefined && tokenFile === undefined && tls?.clientCaFile === undefined) {
    throw usageError(
      "listening on TCP without a token or client certificates would let anybody in",
      "give --token-file FILE, or --tls-cert, --tls-key and --tls-client-ca",
    );
  }
  return {
    stateDir: resolve(one("state") ?? defaultStateDir(surroundings)),
    addresses,
    tokenFile,
    tls,
    hosts: (values.get("allow-host") ?? []).map(checkHost),
    origins: (values.get("allow-origin") ?? []).map(checkOrigin),
    limits: {
      ...limit("bodyBytes", one("max-body-bytes"), "max-body-bytes", BODY_BYTES),
      ...limit("connections", one("max-connections"), "max-connections", CONNECTIONS),
    },
    logForm: logForm(one("log")),
    memoryPolicy: parseMemoryPolicy(one("memory-policy")),
    isolation: isolationOf(values),
  };
}

/** Where a fleet's state is when nobody says otherwise. */
export function defaultStateDir({ env, isRoot, homeFolder }: ServeSurroundings): string {
  if (env.XDG_STATE_HOME) return join(env.XDG_STATE_HOME, "estalo");
  return isRoot ? "/var/lib/estalo" : join(homeFolder, ".local", "state", "estalo");
}

function isolationOf(values: ParsedArguments["values"]): IsolationOptions | undefined {
  const one = (name: string) => values.get(name)?.at(-1);
  const mode = one("isolate");
  const label = one("isolate-label");
  if (mode === undefined) {
    const orphan = ISOLATE_DETAILS.find((name) => values.has(name));
    if (orphan !== undefined) throw wrong(`--${orphan} goes with --isolate`);
    return undefined;
  }
  if (mode !== "microvm" && mode !== "tenant") {
    throw wrong(`--isolate=${mode}: expected --isolate or --isolate=tenant`);
  }
  if (label !== undefined && mode !== "tenant") {
    throw wrong("--isolate-label goes with --isolate=tenant");
  }
  return {
    tenantLabel: mode === "tenant" ? (label ?? TENANT_LABEL) : undefined,
    ids: idsOf(one("isolate-ids")),
    cgroups: values.get("isolate-cgroup") ?? [],
  };
}

function idsOf(text: string | undefined): IsolationOptions["ids"] {
  if (text === undefined) return undefined;
  const [, first, last] = /^(\d{1,10})-(\d{1,10})$/.exec(text)?.map(Number) ?? [];
  if (first !== undefined && first > 0 && last > first && last <= ID_MAX) return { first, last };
  throw wrong(`--isolate-ids ${text}: expected FIRST-LAST, two or more from 1 to ${ID_MAX}`);
}

function parseAddress(value: string): ServeAddress {
  const path = value.startsWith("unix://") ? value.slice("unix://".length) : value;
  const tcp = /^(\[[0-9a-f:.]+\]|[^/:[\]]+):(\d{1,5})$/i.exec(path);
  if (tcp === null) {
    // A lone port or a URL is no path that anybody means.
    if (path === "" || /^:?\d+$|^\w+:\/\//.test(path)) throw wrongAddress(value);
    return { kind: "unix", path: resolve(path), isDefault: false };
  }
  const host = tcp[1].replace(/^\[(.*)\]$/, "$1");
  const port = Number(tcp[2]);
  if (port > 65_535) throw wrongAddress(value);
  return { kind: "tcp", host, port };
}

function wrongAddress(value: string): EstaloError {
  return wrong(`--listen ${value}: expected the path of a socket, HOST:PORT or [ADDRESS]:PORT`);
}

function tlsOf(
  certFile: string | undefined,
  keyFile: string | undefined,
  clientCaFile: string | undefined,
): TlsFiles | undefined {
  if (certFile === undefined && keyFile === undefined && clientCaFile === undefined)
    return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw wrong("--tls-cert and --tls-key go together, and --tls-client-ca needs them");
  }
  return { certFile, keyFile, ...(clientCaFile === undefined ? {} : { clientCaFile }) };
}

function checkHost(name: string): string {
  if (/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$/.test(name)) return name.toLowerCase();
  throw wrong(`--allow-host ${name}: expected a host's name, without port`);
}

function checkOrigin(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^https?:$/.test(url.protocol) && url.href === `${url.origin}/`) {
    return url.origin;
  }
  throw wrong(`--allow-origin ${text}: expected http:// or https:// and a host, nothing behind it`);
}

function limit(
  key: "bodyBytes" | "connections",
  text: string | undefined,
  option: string,
  [min, max]: readonly [number, number],
): Partial<Record<typeof key, number>> {
  if (text === undefined) return {};
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return { [key]: value };
  throw wrong(`--${option} ${text}: expected a whole number from ${min} to ${max}`);
}

function logForm(text: string | undefined): ServeOptions["logForm"] {
  if (text === undefined || text === "json" || text === "plain") return text;
  throw wrong(`--log ${text}: expected json or plain`);
}

function wrong(message: string): EstaloError {
  return usageError(message, helpHint(SERVE_VERB));
}
