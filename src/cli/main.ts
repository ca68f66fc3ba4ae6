/**
 * The `estalo` command: finds the verb and ends with its status. What runs microVMs is loaded when it is
 * needed, so that everything else answers at once.
 */
import { readFileSync } from "node:fs";
import { EXIT_FAILURE } from "../actors/exit-code.js";
import { hostError } from "../errors.js";
import { nearest, type ParsedArguments, parseArguments, usageError } from "./arguments.js";
import { BENCH_VERB } from "./bench/verb.js";
import { completionScript } from "./completion.js";
import { COMPAT_VERB, JAIL_VERB, VMM_VERB } from "./firecracker-verbs.js";
import { FLEET_VERBS } from "./fleet/verb-table.js";
import { overview, verbHelp } from "./help.js";
import { NET_VERB } from "./net/net-verb.js";
import { errorText, flush, isReaderGone } from "./report.js";
import { checkLocal, runOptions } from "./run-options.js";
import { SERVE_VERB } from "./serve-verb.js";
import {
  COMPLETION_VERB,
  DEMO_VERB,
  DOCTOR_VERB,
  HELP_VERB,
  RUN_VERB,
  VERBS,
  type VerbSpec,
} from "./verbs.js";

const EXIT_BROKEN_PIPE = 141;

type Handler = (parsed: ParsedArguments) => Promise<number> | number;

const HANDLERS = new Map<VerbSpec, Handler>([
  [
    RUN_VERB,
    async (parsed) => {
      if (parsed.switches.has("detach")) return askServer(RUN_VERB)(parsed);
      checkLocal(parsed);
      const options = runOptions(parsed);
      // In a jail another process runs it.
      if (!options.jail) startThreads(options.vcpuCount);
      return (await import("./vm-verbs.js")).run(options);
    },
  ],
  [
    DEMO_VERB,
    async (parsed) => {
      startThreads();
      return (await import("./vm-verbs.js")).demo(parsed.switches.has("verbose"));
    },
  ],
  [
    DOCTOR_VERB,
    async (parsed) => (await import("./vm-verbs.js")).doctor(parsed.switches.has("json")),
  ],
  [NET_VERB, async (parsed) => (await import("./net/net.js")).net(parsed)],
  [SERVE_VERB, serveFleet],
  ...FLEET_VERBS.map((verb) => [verb, askServer(verb)] as const),
  // Started without --help it has a bundle of its own (bin/estalo.js).
  [VMM_VERB, () => showHelp(VMM_VERB.name)],
  // Always a bundle of its own: for help and completion.
  [JAIL_VERB, () => showHelp(JAIL_VERB.name)],
  [COMPAT_VERB, ({ operands }) => linkCompat(operands)],
  [COMPLETION_VERB, ({ operands }) => showCompletion(operands[0])],
  [HELP_VERB, ({ operands }) => showHelp(operands[0])],
]);

/** A thread takes tens of milliseconds to start: as long as loading the rest does, beside it. */
function startThreads(vcpuCount = 1): void {
  // Who asks a server needs none. What fails here fails again when the threads are wanted.
  import("../actors/transport.js").then(
    ({ vcpuThreads }) => vcpuThreads.prepare(vcpuCount),
    () => {},
  );
}

async function serveFleet(parsed: ParsedArguments): Promise<number> {
  const { serveOptions } = await import("./serve-options.js");
  const options = serveOptions(parsed);
  return (await import("./serve.js")).serve(options);
}

/** A verb that a server does. */
function askServer(verb: VerbSpec): Handler {
  return async (parsed) => (await import("./fleet/index.js")).fleetVerb(verb, parsed);
}

async function linkCompat([folder, ...more]: readonly string[]): Promise<number> {
  if (folder === undefined || more.length > 0) {
    throw usageError("compat takes a folder", "estalo compat ~/bin");
  }
  const { linkPrograms } = await import("./compat.js");
  process.stdout.write(
    linkPrograms(folder)
      .map((path) => `${path}\n`)
      .join(""),
  );
  return 0;
}

function showCompletion(shell: string | undefined): number {
  const script = completionScript(shell);
  if (script === undefined) {
    throw usageError("completion is for bash, zsh or fish", "estalo completion bash");
  }
  process.stdout.write(script);
  return 0;
}

function showHelp(name: string | undefined): number {
  process.stdout.write(name === undefined ? overview() : verbHelp(findVerb(name)));
  return 0;
}

function findVerb(name: string): VerbSpec {
  const verb = VERBS.find((candidate) => candidate.name === name);
  if (verb !== undefined) return verb;
  const near = nearest(
    name,
    VERBS.map((candidate) => candidate.name),
  );
  throw usageError(
    name.startsWith("-") ? `estalo has no option ${name}` : `estalo has no verb ${name}`,
    near === undefined ? "estalo --help lists the verbs" : `did you mean estalo ${near}?`,
  );
}

function version(): string {
  const file = new URL("../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}

async function dispatch(words: readonly string[]): Promise<number> {
  const [first, ...rest] = words;
  if (first === undefined || first === "--help" || first === "-h") return showHelp(undefined);
  if (first === "--version" || first === "-V") {
    process.stdout.write(`estalo ${version()}\n`);
    return 0;
  }
  // Asked by the shells' completion.
  if (first === "__complete") return (await import("./fleet/index.js")).complete(rest);
  // The process that `run --jail` became.
  if (first === "__jailed") {
    leaveOutput();
    return (await import("./vm-verbs.js")).runJailed(Number(rest[0]));
  }
  const verb = findVerb(first);
  const parsed = parseArguments(verb, rest);
  if (parsed.switches.has("help")) return showHelp(verb.name);
  // A microVM has to be ended before the process is: these see to it themselves.
  if ([RUN_VERB, DEMO_VERB, SERVE_VERB, BENCH_VERB].includes(verb)) leaveOutput();
  return (HANDLERS.get(verb) as Handler)(parsed);
}

/** Output that cannot be written: whoever does not read it any more needs no word, a full disk does. */
function endByOutput(error: Error): never {
  if (isReaderGone(error)) process.exit(EXIT_BROKEN_PIPE);
  process.stderr.write(errorText(hostError("write to", "standard output", error)));
  process.exit(EXIT_FAILURE);
}

/** For a verb that sees to lost output itself. */
function leaveOutput(): void {
  process.stdout.off("error", endByOutput).on("error", () => {});
}

async function main(): Promise<void> {
  process.stdout.on("error", endByOutput);
  // Without standard error there is nobody to tell anything.
  process.stderr.on("error", () => {});
  // Node.js would open its debugger to every user of this host.
  process.on("SIGUSR1", () => {});
  let status: number;
  try {
    status = await dispatch(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(errorText(error));
    status = EXIT_FAILURE;
  }
  await Promise.all([flush(process.stdout), flush(process.stderr)]);
  // Not by an empty event loop: standard input may still be read.
  process.exit(status);
}

await main();
