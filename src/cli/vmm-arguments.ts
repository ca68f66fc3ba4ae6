/**
 * Firecracker's command line: only `--name value` and `--name`, each at most once; what follows ` -- ` is not
 * looked at. Its words are Firecracker's (1.16, src/utils/src/arg_parser.rs, src/firecracker/src/main.rs).
 */

interface Flag {
  readonly name: string;
  /** What the value is called; absent: a switch. */
  readonly value?: string;
  readonly help: string;
  /** Must be given as well. */
  readonly requires?: string;
  /** Must not be given as well. */
  readonly forbids?: string;
}

// biome-ignore format: one row for each flag
export const VMM_FLAGS: readonly Flag[] = [
  { name: "api-sock", value: "PATH", help: "Unix socket of the API. Default: /run/firecracker.socket." },
  { name: "boot-timer", help: "Log how long the guest takes from InstanceStart to its init." },
  { name: "config-file", value: "PATH", help: "Configure from this JSON file, and start." },
  { name: "describe-snapshot", value: "PATH", help: "Print the format version of a snapshot's state file." },
  { name: "enable-pci", help: "Attach devices over PCI. Refused: this build has no PCI." },
  { name: "http-api-max-payload-size", value: "BYTES", help: "Largest body the API takes. Default: 51200." },
  { name: "id", value: "ID", help: "1 to 64 letters, digits and hyphens. Default: anonymous-instance." },
  { name: "level", value: "LEVEL", help: "Off, Trace, Debug, Info, Warning or Error." },
  { name: "log-path", value: "PATH", help: "File or FIFO for the log. Default: standard output." },
  { name: "metadata", value: "PATH", help: "Contents of the metadata service. Refused: this build has none." },
  { name: "metrics-path", value: "PATH", help: "File or FIFO for metrics." },
  { name: "mmds-size-limit", value: "BYTES", help: "Largest store of the metadata service." },
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

/** A command line that is none; its message is Firecracker's. */
export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
}

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
  readonly maxPayloadBytes: number;
  readonly startTimeUs: number | undefined;
  readonly startTimeCpuUs: number | undefined;
  readonly parentCpuTimeUs: number | undefined;
}

/** Takes the words apart; raises an ArgumentError. */
export function parseVmmArguments(words: readonly string[]): VmmOptions {
  const end = words.indexOf("--");
  const own = end < 0 ? words : words.slice(0, end);
  const given = own.includes("--help") || own.includes("--version") ? new Map() : takeApart(own);
  refuseMissing(given);
  const isGiven = (name: string) => given.has(name);
  const number = (name: string) => wholeNumber(name, given.get(name));
  const id = given.get("id") ?? "anonymous-instance";
  if (!/^[A-Za-z0-9-]{1,64}$/.test(id)) {
    throw new ArgumentError(
      `Invalid instance ID: 1 to 64 letters, digits and hyphens, not '${id}'.`,
    );
  }
  number("mmds-size-limit");
  return {
    action: actionOf(own, isGiven),
    apiSocket: given.get("api-sock") ?? "/run/firecracker.socket",
    id,
    configFile: given.get("config-file"),
    noApi: isGiven("no-api"),
    logPath: given.get("log-path"),
    level: given.get("level"),
    module: given.get("module"),
    showLevel: isGiven("show-level"),
    showLogOrigin: isGiven("show-log-origin"),
    metricsPath: given.get("metrics-path"),
    bootTimer: isGiven("boot-timer"),
    maxPayloadBytes: number("http-api-max-payload-size") ?? 51_200,
    startTimeUs: number("start-time-us"),
    startTimeCpuUs: number("start-time-cpu-us"),
    parentCpuTimeUs: number("parent-cpu-time-us"),
  };
}

/** Values by flag; a switch has an empty one. */
function takeApart(words: readonly string[]): Map<string, string> {
  const given = new Map<string, string>();
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const name = word.startsWith("--") ? word.slice(2) : word;
    const flag = word === name ? undefined : VMM_FLAGS.find((known) => known.name === name);
    if (flag === undefined) {
      throw new ArgumentError(
        `Found argument '${name}' which wasn't expected, or isn't valid in this context.`,
      );
    }
    if (given.has(name)) {
      throw new ArgumentError(`The argument '${name}' was provided more than once.`);
    }
    given.set(name, flag.value === undefined ? "" : flagValue(name, rest.shift()));
  }
  for (const { name, requires, forbids } of VMM_FLAGS) {
    if (!given.has(name)) continue;
    if (requires !== undefined && !given.has(requires)) {
      throw new ArgumentError(`Argument '${requires}' required, but not found.`);
    }
    if (forbids !== undefined && given.has(forbids)) {
      throw new ArgumentError(
        `Argument '${forbids}' cannot be used together with argument '${name}'.`,
      );
    }
  }
  return given;
}

function flagValue(name: string, word: string | undefined): string {
  if (word !== undefined && !word.startsWith("--")) return word;
  throw new ArgumentError(`The argument '${name}' requires a value, but none was supplied.`);
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
  metadata: "metadata service",
  "describe-snapshot": "snapshots",
};

function refuseMissing(given: ReadonlyMap<string, string>): void {
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
  const lines = VMM_FLAGS.map(({ name, value, help }) => {
    const flag = `--${name}${value === undefined ? "" : ` <${value}>`}`;
    return `  ${flag.padEnd(38)}${help}`;
  });
  return `${lines.join("\n")}\n`;
}
