/**
 * What the words of `estalo run` ask for: the options, checked as far as the command line itself goes.
 * Ranges and files are the library's to check.
 */
import type { CacheType, DriveConfig, IoEngine } from "../actors/config.js";
import type { EstaloError } from "../errors.js";
import { TIMER_MS_MAX } from "../units.js";
import { helpHint, type ParsedArguments, parseArguments, usageError } from "./arguments.js";
import { type NetOption, parseNetOptions } from "./net-options.js";
import { RUN_VERB } from "./verbs.js";

/** What `estalo run` was asked for. Absent: not said. */
export interface RunOptions {
  readonly kernel?: string;
  readonly initrd?: string;
  readonly rootfs?: DriveConfig;
  readonly drives: readonly DriveConfig[];
  /** In the order of their devices. */
  readonly nets: readonly NetOption[];
  readonly vcpuCount?: number;
  readonly memoryMib?: number;
  readonly cmdline?: string;
  /** `KEY=VALUE`. */
  readonly env: readonly string[];
  readonly workdir?: string;
  readonly name?: string;
  readonly cpuTemplate?: string;
  readonly configFile?: string;
  readonly timeoutMs?: number;
  readonly console: boolean;
  readonly jail: boolean;
  readonly timings: boolean;
  readonly json: boolean;
  readonly verbose: boolean;
  /** Empty: a shell. */
  readonly command: readonly string[];
}

/** Options that a configuration file says itself. */
const MACHINE_OPTIONS = [
  ...["kernel", "initrd", "rootfs", "drive", "net", "cni", "vcpus", "memory", "cmdline"],
  "cpu-template",
];

/** The options of these words; raises ERR_ESTALO_USAGE. */
export function parseRunOptions(words: readonly string[]): RunOptions {
  return runOptions(parseArguments(RUN_VERB, words));
}

/** The options of words already taken apart. */
export function runOptions({ switches, values, operands }: ParsedArguments): RunOptions {
  const one = <T>(name: string, convert: (value: string) => T): T | undefined => {
    const value = values.get(name)?.[0];
    return value === undefined ? undefined : convert(value);
  };
  const text = (name: string) => one(name, (value) => value);
  checkCombination(values, operands);
  const options = {
    kernel: text("kernel"),
    initrd: text("initrd"),
    rootfs: one("rootfs", parseRootfs),
    vcpuCount: one("vcpus", (value) => wholeNumber("--vcpus", value)),
    memoryMib: one("memory", parseMemory),
    cmdline: text("cmdline"),
    workdir: text("workdir"),
    name: text("name"),
    cpuTemplate: text("cpu-template"),
    configFile: text("config-file"),
    timeoutMs: one("timeout", parseTimeout),
  };
  return {
    ...withoutUndefined(options),
    drives: (values.get("drive") ?? []).map((value) => parseDrive("--drive", value)),
    nets: parseNetOptions(values.get("net") ?? [], values.get("cni") ?? []),
    env: (values.get("env") ?? []).map(checkEnvironment),
    console: switches.has("console"),
    jail: switches.has("jail"),
    timings: switches.has("timings"),
    json: switches.has("json"),
    verbose: switches.has("verbose"),
    command: operands,
  };
}

/** Options that say something to a server. */
const SERVER_OPTIONS = ["label", "restart", "host"];

/** Refuses what only a server can do, of a microVM that lives in this process. */
export function checkLocal({ values }: ParsedArguments): void {
  const odd = SERVER_OPTIONS.find((name) => values.has(name));
  if (odd === undefined) return;
  throw wrong(
    `--${odd} is for a microVM of a server, and this one runs in the command`,
    "estalo run -d starts it on the server",
  );
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function withoutUndefined<T extends object>(object: T): Defined<T> {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Defined<T>;
}

function checkCombination(
  values: ReadonlyMap<string, readonly string[]>,
  operands: readonly string[],
): void {
  if (values.has("config-file")) {
    const both = MACHINE_OPTIONS.find((name) => values.has(name));
    if (both !== undefined) {
      throw wrong(`--config-file and --${both} do not go together`, "say it in the file");
    }
  }
  // Only the default guest's init takes a command.
  const foreign = ["config-file", "kernel", "initrd", "rootfs"].find((name) => values.has(name));
  const forInit = operands.length > 0 ? "a command" : ["env", "workdir"].find((n) => values.has(n));
  if (foreign !== undefined && forInit !== undefined) {
    const what = forInit === "a command" ? forInit : `--${forInit}`;
    throw wrong(
      `${what} is for the guest that comes with Estalo, not with --${foreign}`,
      "--cmdline 'init=/path' starts a program of your own system",
    );
  }
}

/** `FILE[:ro][,KEY=VALUE…]`. */
export function parseDrive(option: string, value: string): DriveConfig {
  const [file, ...settings] = value.split(",");
  const [, path, mode] = /^(.*?)(?::(ro|rw))?$/s.exec(file) as RegExpExecArray;
  if (path === "") throw wrong(`${option} needs a file: ${option} FILE[:ro][,KEY=VALUE…]`);
  let drive: DriveConfig = { path, ...(mode === "ro" ? { readOnly: true } : {}) };
  for (const setting of settings) {
    const [, key, given] = /^([^=]*)=(.+)$/s.exec(setting) ?? [];
    if (key === undefined)
      throw wrong(`${option} ${value}: a setting is KEY=VALUE, not ${setting}`);
    drive = { ...drive, ...driveSetting(option, key, given) };
  }
  return drive;
}

const CACHE_TYPES: Readonly<Record<string, CacheType>> = {
  writeback: "Writeback",
  unsafe: "Unsafe",
};
const IO_ENGINES: Readonly<Record<string, IoEngine>> = {
  auto: "auto",
  io_uring: "io_uring",
  libuv: "libuv",
};

function driveSetting(option: string, key: string, value: string): Partial<DriveConfig> {
  if (key === "id") return { id: value };
  if (key === "cache") return { cacheType: choice(`${option} cache=`, value, CACHE_TYPES) };
  if (key === "io") return { ioEngine: choice(`${option} io=`, value, IO_ENGINES) };
  throw wrong(`${option} has no setting ${key}`, "there are id=, cache= and io=");
}

function parseRootfs(value: string): DriveConfig {
  return { id: "rootfs", ...parseDrive("--rootfs", value), isRoot: true };
}

function choice<T>(what: string, value: string, choices: Readonly<Record<string, T>>): T {
  if (Object.hasOwn(choices, value)) return choices[value];
  throw wrong(`${what} is one of ${Object.keys(choices).join(", ")}, not ${value}`);
}

function wholeNumber(option: string, value: string): number {
  if (!/^[0-9]{1,9}$/.test(value)) throw wrong(`${option} is a whole number, not ${value}`);
  return Number(value);
}

/** MiB, or with a suffix. */
function parseMemory(value: string): number {
  const [, digits, suffix] = /^([0-9]{1,9})(|m|mb|mib|g|gb|gib)$/i.exec(value) ?? [];
  if (digits === undefined) throw wrong(`--memory is MiB, or as 512M or 2G, not ${value}`);
  return Number(digits) * (/^g/i.test(suffix) ? 1024 : 1);
}

function parseTimeout(value: string): number {
  const valid = /^[0-9]*\.?[0-9]+$/.test(value);
  const timeoutMs = Number(value) * 1000;
  if (valid && timeoutMs > 0 && timeoutMs <= TIMER_MS_MAX) return timeoutMs;
  throw wrong(`--timeout is a number of seconds above 0, not ${value}`);
}

function checkEnvironment(value: string): string {
  if (/^[^=]+=/.test(value)) return value;
  throw wrong(`--env is KEY=VALUE, not ${value}`);
}

function wrong(message: string, hint = helpHint(RUN_VERB)): EstaloError {
  return usageError(message, hint);
}
