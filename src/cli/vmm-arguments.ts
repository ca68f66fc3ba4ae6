/**
 * Firecracker's command line; what follows ` -- ` is not looked at (1.16, src/firecracker/src/main.rs).
 */
import { ArgumentError, type FirecrackerFlag, flagsText, takeApart } from "./firecracker-flags.js";

// biome-ignore format: one row for each flag
export const VMM_FLAGS: readonly FirecrackerFlag[] = [
  { name: "api-sock", value: "PATH", help: "Unix socket of the API. Default: /run/firecracker.socket." },
  { name: "boot-timer", help: "Log how long the guest takes from InstanceStart to its init." },
  { name: "config-file", value: "PATH", help: "Configure from this JSON file, and start." },
  { name: "describe-snapshot", value: "PATH", help: "Print the format version of a snapshot's state file." },
  { name: "enable-pci", help: "Attach devices over PCI. Refused: this build has no PCI." },
  { name: "http-api-max-payload-size", value: "BYTES", help: "Largest body the API takes. Default: 51200." },
  { name: "id", value: "ID", help: "1 to 64 letters, digits and hyphens. Default: anonymous-instance." },
  { name: "level", value: "LEVEL", help: "Off, Trace, Debug, Info, Warning or Error." },
  { name: "log-path", value: "PATH", help: "File or FIFO for the log. Default: standard output." },
  { name: "metadata", value: "PATH", help: "JSON file that the metadata service begins with." },
  { name: "metrics-path", value: "PATH", help: "File or FIFO for metrics." },
  { name: "mmds-size-limit", value: "BYTES", help: "Largest store of the metadata service. Default: as the payload." },
  { name: "module", value: "MODULE", help: "Log only what comes from places that begin so." },
  { name: "no-api", help: "Listen on no socket.", requires: "config-file" },
  { name: "no-seccomp", help: "Run without seccomp filters.", forbids: "seccomp-filter" },
  { name: "parent-cpu-time-us", value: "US", help: "CPU time of the process that started this one." },
  { name: "seccomp-filter", value: "PATH", help: "Seccomp filters to use.", forbids: "no-seccomp" },
  { name: "show-level", help: "Log lines tell their level." },
  { name: "show-log-origin", help: "Log lines tell where in the program they come from." },
  { name: "snapshot-version", help: "Print the version of the snapshot format." },
  { name: "start-time-cpu-us", value: "US", help: "CPU time at which this process was started." },
  { name: "start-time-us", value: "US", help: "Monotonic time at which this process was started." },
];

/** What `estalo vmm` was asked for. */
export interface VmmOptions {
  readonly action: "run" | "help" | "version" | "snapshot-version";
  readonly apiSocket: string;
  readonly id: string;
  readonly configFile: string | undefined;
  readonly noApi: boolean;
  readonly logPath: string | undefined;
  readonly level: string | undefined;
  readonly module: string | undefined;
  readonly showLevel: boolean;
  readonly showLogOrigin: boolean;
  readonly metricsPath: string | undefined;
  readonly bootTimer: boolean;
  readonly noSeccomp: boolean;
  /** A file with other filters. */
  readonly seccompFilter: string | undefined;
  readonly maxPayloadBytes: number;
  readonly metadataFile: string | undefined;
  readonly metadataLimitBytes: number;
  readonly startTimeUs: number | undefined;
  readonly startTimeCpuUs: number | undefined;
  readonly parentCpuTimeUs: number | undefined;
}

/** Takes the words apart; raises an ArgumentError. */
export function parseVmmArguments(words: readonly string[]): VmmOptions {
  const end = words.indexOf("--");
  const own = end < 0 ? words : words.slice(0, end);
  const given =
    own.includes("--help") || own.includes("--version") ? new Map() : takeApart(VMM_FLAGS, own);
  refuseMissing(given);
  const isGiven = (name: string) => given.has(name);
  const text = (name: string) => given.get(name)?.[0];
  const number = (name: string) => wholeNumber(name, text(name));
  const id = text("id") ?? "anonymous-instance";
  if (!/^[A-Za-z0-9-]{1,64}$/.test(id)) {
    throw new ArgumentError(
      `Invalid instance ID: 1 to 64 letters, digits and hyphens, not '${id}'.`,
    );
  }
  const maxPayloadBytes = number("http-api-max-payload-size") ?? 51_200;
  return {
    action: actionOf(own, isGiven),
    apiSocket: text("api-sock") ?? "/run/firecracker.socket",
    id,
    configFile: text("config-file"),
    noApi: isGiven("no-api"),
    logPath: text("log-path"),
    level: text("level"),
    module: text("module"),
    showLevel: isGiven("show-level"),
    showLogOrigin: isGiven("show-log-origin"),
    metricsPath: text("metrics-path"),
    bootTimer: isGiven("boot-timer"),
    noSeccomp: isGiven("no-seccomp"),
    seccompFilter: text("seccomp-filter"),
    maxPayloadBytes,
    metadataFile: text("metadata"),
    metadataLimitBytes: number("mmds-size-limit") ?? maxPayloadBytes,
    startTimeUs: number("start-time-us"),
    startTimeCpuUs: number("start-time-cpu-us"),
    parentCpuTimeUs: number("parent-cpu-time-us"),
  };
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new ArgumentError(`'${name}' parameter expected to be a whole number, not '${text}'.`);
}

/** What would have to be there for these. */
const MISSING: Readonly<Record<string, string>> = {
  "enable-pci": "PCI",
  "describe-snapshot": "snapshots",
};

function refuseMissing(given: ReadonlyMap<string, readonly string[]>): void {
  for (const [name, what] of Object.entries(MISSING)) {
    if (given.has(name)) throw new ArgumentError(`--${name}: this build has no ${what} yet.`);
  }
}

function actionOf(
  words: readonly string[],
  isGiven: (name: string) => boolean,
): VmmOptions["action"] {
  if (words.includes("--help")) return "help";
  if (words.includes("--version")) return "version";
  return isGiven("snapshot-version") ? "snapshot-version" : "run";
}

/** The options, for `--help`. */
export function vmmFlagsText(): string {
  return flagsText(VMM_FLAGS);
}
