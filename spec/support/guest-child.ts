/**
 * Programs that specs start: run to their end, with what they printed; killed when their test is over, so that
 * a failed or timed-out one leaves no process behind.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { onTestFinished } from "vitest";
import { GUEST_PATIENCE_MS } from "./guest-report.js";

/** How a program ended. */
export interface Outcome {
  /** Exit status; null when a signal ended it. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** What to do with a program while it runs. */
export interface Doing {
  readonly input?: string;
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  /** Called once, when standard output or error has the text. */
  readonly when?: readonly [string, (child: ChildProcessWithoutNullStreams) => void];
  /** Do not end the input. */
  readonly keepsInput?: boolean;
}

/** Runs a program to its end; rejects with what it printed when that takes too long. For use in a test only. */
export function execute(
  file: string,
  words: readonly string[],
  doing: Doing = {},
): Promise<Outcome> {
  const { cwd } = doing;
  const child = spawn(file, words, { cwd, env: { ...process.env, ...doing.env } });
  let stdout = "";
  let stderr = "";
  let [text, act] = doing.when ?? [undefined, undefined];
  const look = () => {
    if (text === undefined || !(stdout + stderr).includes(text)) return;
    text = undefined;
    act?.(child);
  };
  child.stdout.setEncoding("utf8").on("data", (chunk) => {
    stdout += chunk;
    look();
  });
  child.stderr.setEncoding("utf8").on("data", (chunk) => {
    stderr += chunk;
    look();
  });
  // It may end without reading all of it.
  child.stdin.on("error", () => {});
  if (doing.input !== undefined) child.stdin.write(doing.input);
  if (!doing.keepsInput) child.stdin.end();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      const said = JSON.stringify({ stdout, stderr });
      reject(new Error(`${file} ${words.join(" ")} has not ended; it printed ${said}`));
    }, GUEST_PATIENCE_MS);
    child.on("error", reject);
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ status, stdout, stderr });
    });
    onTestFinished(() => {
      clearTimeout(timer);
      child.kill("SIGKILL");
    });
  });
}
