/**
 * `estalo run --jail`: opens what the microVM needs, then becomes the same command in a jail.
 *
 *     options ─▶ plan ─▶ open files, taps, passt's socket ─▶ launcher ─▶ `estalo __jailed PLAN` in the jail
 *
 * The process stays the one that was started: process id, streams, terminal, signals and status are as without a
 * jail. Nothing of the caller's is in the jail but descriptors, so the user in there need not be one that may
 * open the files, the network is empty, and no name of a file means anything.
 */
import { randomBytes } from "node:crypto";
import { closeSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type CheckedConfig, checkConfig } from "../actors/config.js";
import { cacheFolder, defaultGuestConfig } from "../actors/default-guest.js";
import { EXIT_FAILURE } from "../actors/exit-code.js";
import { type GivenFile, openFiles, startedWith } from "../actors/given-files.js";
import { openKvm } from "../actors/machine.js";
import { becomeLauncher } from "../jail/launch.js";
import type { JailOptions } from "../jail/options.js";
import { makePlan } from "../jail/plan.js";
import { findProgram, packageFolder } from "../jail/program.js";
import { confine } from "../jail/seccomp/confine.js";
import { native } from "../native/binding.js";
import { usageError } from "./arguments.js";
import type { BridgeTaps } from "./net/bridge-taps.js";
import type { RunOptions } from "./run-options.js";
import type { RunPlan } from "./run-plan.js";

/** The command's first word in the jail. */
export const JAILED_WORD = "__jailed";
/** Jails of root are where Firecracker's are: in a file system that may hold devices. */
const ROOT_BASE_FOLDER = "/srv/jailer";
/** Users of jails are nobody else's: one for each process id, of which there are at most 2^22. */
const FIRST_USER = 0x7000_0000;

/** What the process in the jail goes by. */
export interface JailedRun {
  readonly options: RunOptions;
  readonly plan: RunPlan;
  readonly files: readonly GivenFile[];
  /** When the command was started, ms since 1970. */
  readonly startedAtMs: number;
}

/** Becomes the command in a jail; raises what keeps it from that, with nothing left behind. */
export async function enterJail(
  options: RunOptions,
  plan: RunPlan,
  taps: BridgeTaps,
): Promise<never> {
  const config = await defaultGuestConfig(plan.config);
  const checked = checkConfig(config);
  refuseOthers(checked);
  openKvm().close();
  const files = openFiles(checked);
  try {
    leaveTaps(checked, files, taps);
    const cpuTemplate = checked.cpuTemplate as Record<string, unknown> | undefined;
    const run: JailedRun = {
      options,
      plan: { ...plan, config: { ...config, ...(cpuTemplate && { cpuTemplate }) } },
      files,
      startedAtMs: performance.timeOrigin,
    };
    const descriptors = files.map(([, fd]) => fd);
    return becomeJailed(JSON.stringify(run), descriptors);
  } catch (error) {
    for (const [, fd] of files) closeSync(fd);
    throw error;
  }
}

/** In the jail nobody could take a bridge's tap away again. */
function leaveTaps(config: CheckedConfig, files: readonly GivenFile[], taps: BridgeTaps): void {
  for (const { id, tap } of config.networkInterfaces) {
    const queue = files.find(([use]) => use === `interface ${id}`);
    if (tap !== undefined && queue !== undefined) taps.leave(tap, queue[1]);
  }
}

/** What a jail that has descriptors only cannot have: it is said, not left out. */
function refuseOthers(config: CheckedConfig): void {
  if (config.vsock !== undefined)
    throw refusal("a vsock device, whose socket would be in the jail");
}

function refusal(what: string) {
  return usageError(
    `--jail does not go with ${what}`,
    "estalo jail makes a jail whose folder and network you choose",
  );
}

function becomeJailed(text: string, descriptors: readonly number[]): never {
  const bytes = Buffer.from(text);
  // In memory: a name would have to be taken away, and words can be seen by everybody.
  const memory = new (native().ImageFile)(bytes.length);
  try {
    writeSync(memory.fd, bytes, 0, bytes.length, 0);
    const kept = [...descriptors, memory.fd];
    const program = findProgram(join(packageFolder(), "bin/estalo.js"));
    const [node, script] = program.command;
    const command = [node, script, JAILED_WORD, `${memory.fd}`];
    const { words } = makePlan(jailOptions(script, kept), { ...program, command });
    return becomeLauncher("start", ["failure-status", `${EXIT_FAILURE}`, ...words], kept);
  } finally {
    memory.close();
  }
}

function jailOptions(execFile: string, kept: readonly number[]): JailOptions {
  const isRoot = process.geteuid?.() === 0;
  const user = isRoot ? FIRST_USER + process.pid : process.geteuid?.();
  const group = isRoot ? user : process.getegid?.();
  return {
    id: `run-${process.pid}-${randomBytes(3).toString("hex")}`,
    execFile,
    uid: `${user}`,
    gid: `${group}`,
    baseFolder: isRoot ? ROOT_BASE_FOLDER : join(cacheFolder(), "jails"),
    hasEmptyNetwork: true,
    isDaemon: false,
    hasPidNamespace: false,
    cgroups: [],
    cgroupVersion: "1",
    resourceLimits: [],
    cleans: true,
    devices: ["/dev/kvm", "/dev/urandom", "/dev/null"],
    kept,
    arguments: [],
  };
}

/** What is to be run here, in the jail, where from now on nothing else can be: the filters are in place. */
export function beginJailed(fd: number): JailedRun {
  const run = JSON.parse(readFileSync(fd, "utf8")) as JailedRun;
  closeSync(fd);
  for (const [use, fd] of run.files) startedWith.add(use, fd);
  confine();
  return run;
}
