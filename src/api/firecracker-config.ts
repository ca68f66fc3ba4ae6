/**
 * Firecracker's configuration file (`--config-file`) as a microVM's configuration.
 *
 * Strict as Firecracker is: a key that a section does not have is refused, one that the whole file does not
 * have is not looked at. What Estalo does not offer yet is refused by name rather than left out in silence;
 * `null` and empty lists, as `GET /vm/config` writes them, mean absent. Ranges are checked by `checkConfig`.
 * Format: Firecracker 1.17, docs/getting-started.md and src/vmm/src/resources.rs.
 */
import { readFileSync } from "node:fs";
import type { CacheType, DriveConfig, IoEngine, MicroVmConfig } from "../actors/config.js";
import { EstaloError, hostError } from "../errors.js";

type Json = Readonly<Record<string, unknown>>;

/** Firecracker's defaults where they are not ours. */
const DEFAULT_VCPU_COUNT = 1;
const DEFAULT_MEMORY_MIB = 128;

/** Sections that ask for what Estalo does not offer yet. */
const UNSUPPORTED_SECTIONS = [
  "logger",
  "metrics",
  "network-interfaces",
  "vsock",
  "balloon",
  "mmds-config",
  "pmem",
  "memory-hotplug",
];

const CACHE_TYPES: Readonly<Record<string, CacheType>> = {
  Unsafe: "Unsafe",
  Writeback: "Writeback",
};
/** "Sync" names no engine of ours: it gets the best there is. */
const IO_ENGINES: Readonly<Record<string, IoEngine>> = { Sync: "auto", Async: "io_uring" };
const HUGE_PAGES: Readonly<Record<string, boolean>> = { None: false, "2M": true };

/**
 * Reads a configuration file. Relative paths in it are taken from the working directory, as Firecracker does.
 *
 * @throws ERR_ESTALO_CONFIG_FILE when it cannot be read or is not JSON, ERR_ESTALO_CONFIG_INVALID for what
 *   is in it (`data.field` is the key's path)
 */
export function readFirecrackerConfig(path: string): MicroVmConfig & { readonly kernel: string } {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw hostError("read configuration file", path, error, "ERR_ESTALO_CONFIG_FILE");
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new EstaloError("ERR_ESTALO_CONFIG_FILE", `${path} is not JSON: ${message(error)}`);
  }
  return parseFirecrackerConfig(json);
}

/** The parsed file as a configuration; see `readFirecrackerConfig`. */
export function parseFirecrackerConfig(json: unknown): MicroVmConfig & { readonly kernel: string } {
  const file = object(json, "the file");
  for (const section of UNSUPPORTED_SECTIONS) refuse(file, section);
  const entropy = optional(file, "entropy", "", object);
  if (entropy !== undefined) {
    onlyKeys(entropy, "entropy", ["rate_limiter"]);
    refuse(entropy, "rate_limiter", "entropy.");
  }
  const cpuTemplate = optional(file, "cpu-config", "", templateOrPath);
  return {
    ...machine(optional(file, "machine-config", "", object) ?? {}),
    ...bootSource(required(file, "boot-source", "", object)),
    drives: required(file, "drives", "", list).map(drive),
    entropy: entropy !== undefined,
    ...(cpuTemplate === undefined ? {} : { cpuTemplate }),
  };
}

function machine(section: Json): MicroVmConfig {
  const at = "machine-config.";
  onlyKeys(section, "machine-config", [
    "vcpu_count",
    "mem_size_mib",
    "smt",
    "cpu_template",
    "track_dirty_pages",
    "huge_pages",
  ]);
  const template = optional(section, "cpu_template", at, string) ?? "None";
  if (template !== "None") {
    throw invalid(`${at}cpu_template`, `"None", and a template in cpu-config`, template);
  }
  // Only snapshots ask which pages are dirty: there is nothing to see of it before there are any.
  optional(section, "track_dirty_pages", at, boolean);
  return {
    vcpuCount: optional(section, "vcpu_count", at, number) ?? DEFAULT_VCPU_COUNT,
    memoryMib: optional(section, "mem_size_mib", at, number) ?? DEFAULT_MEMORY_MIB,
    smt: optional(section, "smt", at, boolean) ?? false,
    hugePages: optional(section, "huge_pages", at, oneOf(HUGE_PAGES)) ?? false,
  };
}

function bootSource(section: Json): { kernel: string; initrd?: string; bootArgs?: string } {
  const at = "boot-source.";
  onlyKeys(section, "boot-source", ["kernel_image_path", "initrd_path", "boot_args"]);
  const initrd = optional(section, "initrd_path", at, string);
  const bootArgs = optional(section, "boot_args", at, string);
  return {
    kernel: required(section, "kernel_image_path", at, string),
    ...(initrd === undefined ? {} : { initrd }),
    ...(bootArgs === undefined ? {} : { bootArgs }),
  };
}

function drive(json: unknown, index: number): DriveConfig {
  const where = `drives[${index}]`;
  const at = `${where}.`;
  const section = object(json, where);
  onlyKeys(section, where, [
    "drive_id",
    "path_on_host",
    "is_root_device",
    "partuuid",
    "is_read_only",
    "cache_type",
    "io_engine",
    "rate_limiter",
    "socket",
  ]);
  refuse(section, "rate_limiter", at);
  refuse(section, "socket", at);
  const partuuid = optional(section, "partuuid", at, string);
  return {
    id: required(section, "drive_id", at, string),
    path: required(section, "path_on_host", at, string),
    isRoot: required(section, "is_root_device", at, boolean),
    ...(partuuid === undefined ? {} : { partuuid }),
    readOnly: optional(section, "is_read_only", at, boolean) ?? false,
    cacheType: optional(section, "cache_type", at, oneOf(CACHE_TYPES)) ?? "Unsafe",
    ioEngine: optional(section, "io_engine", at, oneOf(IO_ENGINES)) ?? "auto",
  };
}

type Check<T> = (value: unknown, field: string) => T;

function optional<T>(section: Json, key: string, at: string, check: Check<T>): T | undefined {
  const value = Object.hasOwn(section, key) ? section[key] : undefined;
  return value === undefined || value === null ? undefined : check(value, `${at}${key}`);
}

function required<T>(section: Json, key: string, at: string, check: Check<T>): T {
  const value = optional(section, key, at, check);
  if (value === undefined) throw invalid(`${at}${key}`, "a value: it must be there", value);
  return value;
}

/** Raises for a key that asks for something Estalo does not offer yet. */
function refuse(section: Json, key: string, at = ""): void {
  const value = optional(section, key, at, (given) => given);
  if (value === undefined || (Array.isArray(value) && value.length === 0)) return;
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `${at}${key}: this version of Estalo does not support it`,
    { data: { field: `${at}${key}` }, hint: `leave ${key} out of the file` },
  );
}

function onlyKeys(section: Json, where: string, keys: readonly string[]): void {
  for (const key of Object.keys(section)) {
    if (!keys.includes(key)) throw invalid(`${where}.${key}`, `one of ${keys.join(", ")}`, key);
  }
}

function object(value: unknown, field: string): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(field, "an object", value);
  }
  return value as Json;
}

function list(value: unknown, field: string): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(field, "a list", value);
  return value;
}

function string(value: unknown, field: string): string {
  if (typeof value !== "string") throw invalid(field, "a string", value);
  return value;
}

function number(value: unknown, field: string): number {
  if (typeof value !== "number") throw invalid(field, "a number", value);
  return value;
}

function boolean(value: unknown, field: string): boolean {
  if (typeof value !== "boolean") throw invalid(field, "true or false", value);
  return value;
}

function oneOf<T>(values: Readonly<Record<string, T>>): Check<T> {
  return (value, field) => {
    if (typeof value === "string" && Object.hasOwn(values, value)) return values[value];
    throw invalid(field, Object.keys(values).join(" or "), value);
  };
}

function templateOrPath(value: unknown, field: string): string | Json {
  return typeof value === "string" ? value : object(value, field);
}

function invalid(field: string, expected: string, got: unknown): EstaloError {
  return new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `${field}: expected ${expected}, got ${JSON.stringify(got) ?? "nothing"}`,
    { data: { field, expected, got: got ?? null } },
  );
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
