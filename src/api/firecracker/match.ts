/**
 * Which operation a request means, with Firecracker's quirks: the query is part of the path, leading slashes do
 * not count, segments after those that an operation needs are ignored, and whether there is a body is looked
 * at before whether there is such a path.
 */
import { EMPTY_ID, Fault, INVALID_ID, noSuchOperation } from "./faults.js";

/** An operation by method and path as its description has them, and the id in the request's path. */
export interface Match {
  readonly method: string;
  readonly path: string;
  /** Empty when the operation has none. Checked. */
  readonly id: string;
}

/** Paths of one segment, by method. */
const PLAIN: Readonly<Record<string, readonly string[]>> = {
  GET: ["version", "machine-config", "mmds"],
  PUT: [
    "actions",
    "balloon",
    "boot-source",
    "cpu-config",
    "logger",
    "serial",
    "machine-config",
    "metrics",
    "vsock",
    "entropy",
  ],
  PATCH: ["machine-config", "mmds", "vm"],
};

/** Paths of a name and an id: the id's name. */
const WITH_ID: Readonly<Record<string, string>> = {
  drives: "drive_id",
  pmem: "id",
  "network-interfaces": "iface_id",
};

const ID_METHODS = ["PUT", "PATCH", "DELETE"];
const MEMORY_METHODS = ["GET", "PUT", "PATCH"];

/** Firecracker takes any letter or digit of Unicode. */
const ID = /^[\p{Alphabetic}\p{N}_]+$/u;

/** The operation's method, path and id; raises a Fault. */
export function matchRequest(method: string, path: string, hasBody: boolean): Match {
  const tokens = tokensOf(path);
  const [first = "", ...rest] = tokens;
  const found = matchTokens(method, first, rest, hasBody);
  if (found !== undefined) return found;
  if (method === "GET" && hasBody) throw new Fault("GET request cannot have a body.");
  if (method === "PUT" && !hasBody) throw new Fault("Empty PUT request.");
  if (method === "PATCH" && !hasBody) throw new Fault("Empty PATCH request.");
  if (method === "DELETE" && hasBody) throw new Fault("Empty Delete request.");
  throw noSuchOperation(method, first);
}

/** The path's segments; a slash at the end adds none. */
function tokensOf(path: string): string[] {
  const tokens = path.replace(/^\/+/, "").split("/");
  if (tokens.at(-1) === "") tokens.pop();
  return tokens;
}

/** `undefined`: nothing that is known, or not with or without this body. */
function matchTokens(
  method: string,
  first: string,
  rest: readonly string[],
  hasBody: boolean,
): Match | undefined {
  if (method === "PATCH" && first === "balloon") return matchBalloonPatch(rest, hasBody);
  const wantsBody = method === "PUT" || method === "PATCH";
  if (hasBody !== wantsBody) return undefined;
  const plain = (path: string): Match => ({ method, path, id: "" });
  if (ID_METHODS.includes(method) && Object.hasOwn(WITH_ID, first)) {
    return { method, path: `/${first}/{${WITH_ID[first]}}`, id: checkedId(rest[0]) };
  }
  if (first === "hotplug" && rest[0] === "memory" && MEMORY_METHODS.includes(method)) {
    return plain("/hotplug/memory");
  }
  if (method === "GET" && first === "") return plain("/");
  if (method === "GET" && first === "vm" && rest[0] === "config") return plain("/vm/config");
  if (method === "GET" && first === "balloon") return plain(balloonRead(rest));
  if (method === "PUT" && first === "mmds") return plain(mmdsWrite(rest[0]));
  if (method === "PUT" && first === "snapshot") return plain(snapshotWrite(rest[0]));
  return PLAIN[method]?.includes(first) ? plain(`/${first}`) : undefined;
}

function checkedId(id: string | undefined): string {
  if (id === undefined || id === "") throw new Fault(EMPTY_ID);
  if (!ID.test(id)) throw new Fault(INVALID_ID);
  return id;
}

function unrecognized(method: string, path: string): Fault {
  return new Fault(`Unrecognized ${method} request path \`${path}\`.`);
}

function balloonRead([second, third]: readonly string[]): string {
  if (second === undefined) return "/balloon";
  if (second === "statistics") return "/balloon/statistics";
  if (second === "hinting" && third === "status") return "/balloon/hinting/status";
  throw unrecognized("GET", second);
}

function matchBalloonPatch(
  [second, third]: readonly string[],
  hasBody: boolean,
): Match | undefined {
  const match = (path: string): Match => ({ method: "PATCH", path, id: "" });
  if (second === "hinting") {
    if (third === "start" || third === "stop") return match(`/balloon/hinting/${third}`);
    throw unrecognized("PATCH", third ?? second);
  }
  if (!hasBody) return undefined;
  return match(second === "statistics" ? "/balloon/statistics" : "/balloon");
}

function mmdsWrite(second: string | undefined): string {
  if (second === undefined) return "/mmds";
  if (second === "config") return "/mmds/config";
  throw unrecognized("PUT", second);
}

function snapshotWrite(second: string | undefined): string {
  if (second === undefined) throw new Fault("Missing snapshot operation type.");
  if (second === "create" || second === "load") return `/snapshot/${second}`;
  throw noSuchOperation("PUT", `/snapshot/${second}`);
}
