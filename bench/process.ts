/**
 * Programs under test as child processes: started, timed to their first byte of output, waited for.
 */
import { spawn } from "node:child_process";

/** A program and its arguments. */
export type Command = readonly [string, ...string[]];

/** How a program ended. */
export interface Outcome {
  readonly stdout: string;
  /** From the call of spawn to the first byte of output; NaN if there was none. */
  readonly firstByteMs: number;
  /** From the call of spawn to `awaited` in the output; NaN if it did not come. */
  readonly awaitedMs: number;
}

/** Options of {@link execute}. */
export interface ExecuteOptions {
  /** The program is killed after this. Default 120,000. */
  readonly timeoutMs?: number;
  /** Output that is waited for: the program is killed when it has come. */
  readonly awaited?: string;
}

/** Runs a program to its end; rejects, with what it said, if that is not a clean one. */
export function execute(command: Command, options: ExecuteOptions = {}): Promise<Outcome> {
  const [program, ...args] = command;
  const { timeoutMs = 120_000, awaited } = options;
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    let firstByteMs = Number.NaN;
    let awaitedMs = Number.NaN;
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    child.stdout.on("data", (bytes: Buffer) => {
      const now = performance.now() - begin;
      if (stdout === "") firstByteMs = now;
      stdout += bytes.toString("latin1");
      if (awaited === undefined || !Number.isNaN(awaitedMs) || !stdout.includes(awaited)) return;
      awaitedMs = now;
      child.kill("SIGKILL");
    });
    child.stderr.on("data", (bytes: Buffer) => {
      stderr += bytes.toString();
    });
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      const isAwaited = awaited !== undefined && !Number.isNaN(awaitedMs);
      if (code === 0 || isAwaited) resolve({ stdout, firstByteMs, awaitedMs });
      else {
        const how = signal === null ? `exit code ${code}` : signal;
        reject(new Error(`${command.join(" ")}: ${how}\n${stdout}${stderr}`));
      }
    });
  });
}

/** Runs `action` while a program runs that ends only by being killed, and kills it. */
export async function whileRunning<T>(command: Command, action: () => Promise<T>): Promise<T> {
  const [program, ...args] = command;
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    return await action();
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}
