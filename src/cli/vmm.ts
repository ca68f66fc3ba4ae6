/**
 * `estalo vmm`: one microVM in one process, by Firecracker's command line and API.
 *
 *     arguments ─▶ log, metrics ─▶ socket ─▶ (configuration file ─▶ start) ─▶ requests … ─▶ the guest's end
 *
 * Nothing that runs a microVM is loaded before the API answers: clients wait for that first. Exit statuses are
 * Firecracker's (1.16, src/vmm/src/lib.rs, FcExitCode); docs/exit-codes.md lists them.
 */
import { readFileSync } from "node:fs";
import { FIRECRACKER_VERSION, SNAPSHOT_VERSION } from "../api/firecracker/version.js";
import { ArgumentError } from "./firecracker-flags.js";
import { parseVmmArguments, type VmmOptions, vmmFlagsText } from "./vmm-arguments.js";
import { EXIT_BAD_ARGUMENTS } from "./vmm-exit-codes.js";
import { VmmProcess } from "./vmm-process.js";

/** Runs the command and ends the process. */
export async function vmm(words: readonly string[]): Promise<void> {
  let options: VmmOptions;
  try {
    options = parseVmmArguments(words);
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    process.stderr.write(
      `Arguments parsing error: ${error.message}\n\nFor more information try --help.\n`,
    );
    process.exitCode = EXIT_BAD_ARGUMENTS;
    return;
  }
  switch (options.action) {
    case "help":
      process.stdout.write(`Firecracker v${FIRECRACKER_VERSION}\n\n${vmmFlagsText()}`);
      break;
    case "version":
      // Clients read the first line to its end.
      process.stdout.write(`Firecracker v${FIRECRACKER_VERSION}\nEstalo v${ownVersion()}\n`);
      break;
    case "snapshot-version":
      process.stdout.write(`v${SNAPSHOT_VERSION}\n`);
      break;
    default:
      await new VmmProcess(options).run();
  }
}

function ownVersion(): string {
  const file = new URL("../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
