/**
 * The metadata service's data: one JSON object, replaced, merged (RFC 7396) and read by JSON pointer (RFC 6901).
 *
 * The data comes from the host's side, the paths from the guest. Text forms are Firecracker's: keys in the order
 * of their bytes, no spaces.
 */

/** Any JSON. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };
export type JsonObject = { readonly [key: string]: JsonValue };

/** Why data is not taken. */
export type StoreProblem = "not an object" | "too deep" | "too large" | "not initialized";

/** Levels of nesting: as many as Firecracker's parser takes. */
export const DEPTH_MAX = 127;

/** Whether this is an object with keys. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The text with keys in the order of their bytes; the value is at most DEPTH_MAX deep. */
export function writeJson(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(writeJson).join(",")}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const members = sortedKeys(value).map((key) => `${JSON.stringify(key)}:${writeJson(value[key])}`);
  return `{${members.join(",")}}`;
}

/** In the order of their code points, which is that of their UTF-8 bytes. */
function sortedKeys(object: JsonObject): string[] {
  return Object.keys(object).sort(compareCodePoints);
}

function compareCodePoints(a: string, b: string): number {
  for (let index = 0; index < a.length && index < b.length; ) {
    const [left, right] = [a.codePointAt(index) as number, b.codePointAt(index) as number];
    if (left !== right) return left - right;
    index += String.fromCodePoint(left).length;
  }
  return a.length - b.length;
}

/** The target with the patch merged in (RFC 7396 § 2); neither is changed. */
export function mergePatch(target: JsonValue | undefined, patch: JsonValue): JsonValue {
  if (!isObject(patch)) return patch;
  const merged = new Map(isObject(target) ? Object.entries(target) : []);
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
}

/** Levels of nesting, at most `limit` + 1; without recursion, since the value is the client's. */
function depthOf(value: JsonValue, limit: number): number {
  let level: JsonValue[] = [value];
  for (let depth = 0; ; depth++) {
    const containers = level.filter((one) => typeof one === "object" && one !== null);
    if (containers.length === 0 || depth > limit) return depth;
    level = containers.flatMap((one) => Object.values(one as object) as JsonValue[]);
  }
}

/** The value at a JSON pointer, own members only; `undefined`: none there. */
export function atPointer(value: JsonValue, pointer: string): JsonValue | undefined {
  if (pointer === "") return value;
  if (!pointer.startsWith("/")) return undefined;
  let found: JsonValue | undefined = value;
  for (const token of pointer.slice(1).split("/")) {
    const key = token.replaceAll("~1", "/").replaceAll("~0", "~");
    if (Array.isArray(found)) {
      found = /^(0|[1-9]\d*)$/.test(key)
        ? (found[Number(key)] as JsonValue | undefined)
        : undefined;
    } else if (isObject(found) && Object.hasOwn(found, key)) {
      found = found[key];
    } else {
      return undefined;
    }
  }
  return found;
}

/** The IMDS form: an object's keys by line, objects with a slash; a string as it is; `undefined` for all else. */
export function imdsText(value: JsonValue): string | undefined {
  if (typeof value === "string") return value;
  if (!isObject(value)) return undefined;
  return sortedKeys(value)
    .map((key) => (isObject(value[key]) ? `${key}/` : key))
    .join("\n");
}

/** See the file's header. */
export class JsonStore {
  /** Most bytes of its text. */
  readonly limitBytes: number;
  #value: JsonObject | undefined;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** What is stored; `undefined` before the first `replace`. */
  get value(): JsonObject | undefined {
    return this.#value;
  }

  /** Replaces everything; returns why not, and then nothing has changed. */
  replace(value: unknown): StoreProblem | undefined {
    if (!isObject(value)) return "not an object";
    if (depthOf(value, DEPTH_MAX) > DEPTH_MAX) return "too deep";
    if (utf8Bytes(writeJson(value)) > this.limitBytes) return "too large";
    this.#value = value;
    return undefined;
  }

  /** Merges into what is there; as above. */
  merge(patch: unknown): StoreProblem | undefined {
    if (this.#value === undefined) return "not initialized";
    if (!isObject(patch)) return "not an object";
    if (depthOf(patch, DEPTH_MAX) > DEPTH_MAX) return "too deep";
    return this.replace(mergePatch(this.#value, patch));
  }

  /** The value at a path of a request: slashes in a row count once, one at the end not at all. */
  at(path: string): JsonValue | undefined {
    const pointer = path.replace(/\/{2,}/g, "/").replace(/\/$/, "");
    return atPointer(this.#value ?? null, pointer);
  }
}

const encoder = new TextEncoder();

function utf8Bytes(text: string): number {
  return encoder.encode(text).length;
}
