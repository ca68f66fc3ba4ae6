/**
 * Persistent memory devices in a microVM's configuration, and their checks.
 */
import type { RateLimiterConfig } from "../devices/rate-limiter.js";
import { boolean, invalid, onlyFields, text } from "./config-checks.js";
import { checkRateLimiter } from "./config-rate-limiter.js";

/** One persistent memory device. */
export interface PmemConfig {
  /** Unique among them; letters, digits and underscores, 1 to 64. Default: `pmem0`, `pmem1`, … */
  readonly id?: string;
  /** A regular file of at least a byte; the guest sees its length, rounded up to 2 MiB. */
  readonly path: string;
  /** Adds `root=/dev/pmemN` to the command line; no drive may be root then. Default false. */
  readonly isRoot?: boolean;
  /** What the guest writes there is dropped. Default false. */
  readonly readOnly?: boolean;
  /** Limits of its syncs, one operation and the file's length each. Default: none. */
  readonly rateLimiter?: RateLimiterConfig;
}

/** What can be changed of one while the guest runs. */
export interface PmemChange {
  /** Buckets that are given replace the device's; a bucket of size 0 lifts its limit. */
  readonly rateLimiter?: RateLimiterConfig;
}

/** A persistent memory device with nothing left open. */
export type CheckedPmem = Required<PmemConfig>;

function checkOne(one: PmemConfig, index: number): CheckedPmem {
  const where = `pmem[${index}]`;
  onlyFields(where, one, ["id", "path", "isRoot", "readOnly", "rateLimiter"]);
  const id = one.id ?? `pmem${index}`;
  if (typeof id !== "string" || !/^[\p{L}\p{N}_]{1,64}$/u.test(id)) {
    throw invalid(`${where}.id`, "1 to 64 letters, digits and underscores", id);
  }
  return {
    id,
    path: text(`${where}.path`, one.path),
    isRoot: boolean(`${where}.isRoot`, one.isRoot ?? false),
    readOnly: boolean(`${where}.readOnly`, one.readOnly ?? false),
    rateLimiter: checkRateLimiter(`${where}.rateLimiter`, one.rateLimiter ?? {}),
  };
}

/** The devices with their defaults, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkPmem(
  devices: readonly PmemConfig[],
  drives: readonly { readonly isRoot: boolean }[],
): CheckedPmem[] {
  if (!Array.isArray(devices)) throw invalid("pmem", "a list", devices);
  const checked = devices.map(checkOne);
  for (const [index, { id }] of checked.entries()) {
    if (checked.findIndex((other) => other.id === id) !== index) {
      throw invalid(`pmem[${index}].id`, "an id that no other one has", id);
    }
  }
  const roots = checked.filter(({ isRoot }) => isRoot).map(({ id }) => id);
  if (roots.length > 1 || (roots.length === 1 && drives.some(({ isRoot }) => isRoot))) {
    throw invalid("pmem", "at most one root, of drives and pmem", roots);
  }
  return checked;
}
