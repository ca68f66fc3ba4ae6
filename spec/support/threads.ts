/**
 * Threads and processes for specs: sources bundled on the spot, so that they run outside vitest.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { build } from "esbuild";
import { afterAll } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/**
 * A bundle of `source`, whose imports are relative to the checkout's root. Removed after the spec
 * file.
 */
async function bundle(source: string): Promise<string> {
  // Two levels below the root, where sources expect the addon and the worker's bundle at
  // ../../dist.
  const folder = mkdtempSync(join(root, "node_modules/.spec-"));
  folders.push(folder);
  const outfile = join(folder, "bundle.mjs");
  await build({
    stdin: { contents: source, resolveDir: root, loader: "ts" },
    outfile,
    bundle: true,
    // Packages with native code load it from beside themselves.
    external: ["better-sqlite3", "uWebSockets.js"],
    format: "esm",
    platform: "node",
    mainFields: ["es2015", "module", "main"],
    target: "node20",
  });
  return outfile;
}

/** A function that runs `source` in a new worker thread; what it throws rejects `ended`. */
export async function workerFrom(
  source: string,
): Promise<(workerData: unknown) => { worker: Worker; ended: Promise<void> }> {
  const file = await bundle(source);
  return (workerData) => {
    const worker = new Worker(file, { workerData });
    const ended = new Promise<void>((resolve, reject) => {
      worker.once("error", reject);
      worker.once("exit", () => resolve());
    });
    return { worker, ended };
  };
}

/** Runs `source` as a process of its own and gives its standard output; rejects when it fails. */
export async function runAlone(
  source: string,
  options: { readonly timeoutMs?: number; readonly env?: Record<string, string> } = {},
): Promise<string> {
  const file = await bundle(source);
  const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", file], {
    timeout: options.timeoutMs ?? 20_000,
    env: { ...process.env, ...options.env },
  });
  return stdout;
}
