/**
 * The entry of `estalo jail` and `bin/jailer`: a bundle of its own, small, since its start is waited for. It
 * ends by becoming the launcher, and that the program: who started it keeps its process id.
 */
import { basename } from "node:path";
import { FIRECRACKER_VERSION } from "../api/firecracker/version.js";
import { isEstaloError } from "../errors.js";
import { becomeLauncher } from "../jail/launch.js";
import { makePlan, removalWords } from "../jail/plan.js";
import { ArgumentError } from "./firecracker-flags.js";
import { jailHelp, parseJailArguments, parseRemovalArguments } from "./jail-arguments.js";

const EXIT_ERROR = 1;

/** Runs the command. `hasEmptyNetwork`: what a jail gets when nobody says. */
export function jail(words: readonly string[], hasEmptyNetwork: boolean): void {
  const startedUs = process.hrtime.bigint() / 1000n;
  try {
    if (words[0] === "rm") remove(words.slice(1));
    else start(words, hasEmptyNetwork, startedUs);
  } catch (error) {
    process.exitCode = EXIT_ERROR;
    if (error instanceof ArgumentError) {
      process.stderr.write(
        `Arguments parsing error: ${error.message}\n\nFor more information try --help.\n`,
      );
      return;
    }
    if (!isEstaloError(error)) throw error;
    const { hint } = error as { hint?: string };
    process.stderr.write(`Error: ${error.message}\n${hint === undefined ? "" : `hint: ${hint}\n`}`);
  }
}

function start(words: readonly string[], hasEmptyNetwork: boolean, startedUs: bigint): void {
  const options = parseJailArguments(words, hasEmptyNetwork);
  if (options === "help") {
    process.stdout.write(jailHelp());
    return;
  }
  if (options === "version") {
    process.stdout.write(`Jailer v${FIRECRACKER_VERSION}\n`);
    return;
  }
  const { user, system } = process.cpuUsage();
  const plan = makePlan({
    ...options,
    arguments: [
      ...["--start-time-us", `${startedUs}`, "--start-time-cpu-us", "0"],
      ...["--parent-cpu-time-us", `${user + system}`, ...options.arguments],
    ],
  });
  becomeLauncher("start", plan.words);
}

function remove(words: readonly string[]): void {
  const removal = parseRemovalArguments(words);
  if (removal === "help") {
    process.stdout.write(jailHelp());
    return;
  }
  const { id, baseFolder, execFile, kills } = removal;
  becomeLauncher("remove", removalWords(baseFolder, basename(execFile), id, kills));
}
