/**
 * Jails for specs: in a temporary base folder, with a program of the spec's own in them, all gone afterwards.
 * Needs root, as making devices does.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { launcherFile } from "../../src/jail/launch.js";
import type { JailOptions } from "../../src/jail/options.js";
import { type JailPlan, makePlan, removalWords } from "../../src/jail/plan.js";
import { findProgram, type Program } from "../../src/jail/program.js";

export const isRoot = process.getuid?.() === 0;

/** A user that nobody is. */
export const JAIL_USER = 31_417;

/** An empty base folder; removed after the test, with what is left in it. */
export function makeBase(where = tmpdir()): string {
  const base = realpathSync(mkdtempSync(join(where, "estalo-jails-")));
  onTestFinished(() => rmSync(base, { recursive: true, force: true }));
  return base;
}

/** A jail as most specs want it. */
export function jailOptions(baseFolder: string, more: Partial<JailOptions> = {}): JailOptions {
  return {
    id: "one",
    execFile: process.execPath,
    uid: `${JAIL_USER}`,
    gid: `${JAIL_USER}`,
    baseFolder,
    hasEmptyNetwork: true,
    isDaemon: false,
    hasPidNamespace: false,
    cgroups: [],
    cgroupVersion: "1",
    resourceLimits: [],
    cleans: true,
    arguments: [],
    ...more,
  };
}

/** Node.js in a jail, running `code`, a script's text. */
export function nodeProgram(code: string): Program {
  const program = findProgram(process.execPath);
  return { ...program, command: [program.command[0], "-e", code, "--"] };
}

/** How a jail's program ended. */
export interface JailOutcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A jail that was started. */
export interface StartedJail {
  readonly plan: JailPlan;
  readonly child: ChildProcess;
  readonly ended: Promise<JailOutcome>;
}

/** Starts a planned jail with descriptors of ours as 3, 4, …; killed when its test is over. */
export function startPlan(plan: JailPlan, descriptors: readonly number[] = []): StartedJail {
  const child = spawn(launcherFile(), ["start", ...plan.words], {
    env: { SECRET: "of the caller" },
    stdio: ["pipe", "pipe", "pipe", ...descriptors],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  const ended = new Promise<JailOutcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status, signal) => resolve({ status, signal, stdout, stderr }));
  });
  return { plan, child, ended };
}

/** Starts Node.js with `code` in a jail. */
export function startJail(code: string, options: JailOptions): StartedJail {
  return startPlan(makePlan(options, nodeProgram(code)));
}

/** Runs `code` in a jail to its end; what it printed must be JSON. */
export async function inJail<T>(code: string, options: JailOptions): Promise<T> {
  const { status, stdout, stderr } = await startJail(code, options).ended;
  if (status !== 0) throw new Error(`the jail ended with ${status}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/** Takes a jail away, with what runs in it; its exit status and what it said. */
export function removeJail(base: string, id: string, kills: boolean): JailOutcome {
  const words = removalWords(base, "node", id, kills);
  try {
    execFileSync(launcherFile(), ["remove", ...words], { stdio: "pipe" });
    return { status: 0, signal: null, stdout: "", stderr: "" };
  } catch (error) {
    const { status, stderr } = error as { status: number; stderr: Buffer };
    return { status, signal: null, stdout: "", stderr: stderr.toString() };
  }
}

/** Waits until `base` has nothing else: what a jail leaves is taken away after its end. */
export async function waitUntilEmpty(base: string, others: readonly string[] = []): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (readdirSync(base).every((name) => others.includes(name))) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${base} still has ${readdirSync(base, { recursive: true }).join(", ")}`);
}

/** Waits until something is true. */
export async function until(isTrue: () => boolean, what: string): Promise<void> {
  for (let tries = 0; tries < 1500; tries++) {
    if (isTrue()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`it never came to be: ${what}`);
}

/** The whole of what jails can leave on the host outside their base folder. */
export function hostTraces(): { mounts: string[]; cgroups: string[] } {
  const lines = readFileSync("/proc/self/mounts", "utf8").split("\n");
  const cgroups = lines
    .filter((line) => / cgroup2? /.test(line))
    .map((line) => line.split(" ")[1])
    .flatMap((mount) =>
      readdirSync(mount, { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && entry.name.startsWith("estalo-spec"))
        .map((entry) => join(mount, entry.name)),
    );
  return { mounts: lines.filter((line) => line.includes("estalo-jails-")), cgroups };
}
