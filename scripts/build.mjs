/**
 * Builds dist/: the library, the command line and the vCPU thread as one bundle each, and the addon beside
 * them. Bundles load several times faster than a tree of modules, and every vCPU thread loads one.
 */
import { copyFileSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { build } from "esbuild";

/** Old chunks are kept this long: a running command may still load one. */
const STALE_CHUNK_MS = 3_600_000;

const root = new URL("..", import.meta.url).pathname;
mkdirSync(`${root}dist`, { recursive: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: {
    index: "src/index.ts",
    cli: "src/cli/main.ts",
    "vcpu.worker": "src/actors/vcpu.worker.ts",
  },
  outdir: "dist",
  bundle: true,
  splitting: true,
  chunkNames: "chunk-[hash]",
  format: "esm",
  // Not "node": its condition leads to RxJS's CommonJS, which is bundled whole; this leads to its modules,
  // of which only what is used stays (two thirds of the bundle less). Built-ins are all imported as node:….
  platform: "neutral",
  conditions: ["es2015", "import"],
  external: ["node:*"],
  mainFields: ["es2015", "module", "main"],
  target: "node20",
  packages: "bundle",
  sourcemap: "linked",
  legalComments: "eof",
  logLevel: "warning",
  metafile: true,
});
// Moved into place: a process that runs has the old file mapped.
const addon = `${root}dist/estalo.node`;
copyFileSync(`${root}build/Release/estalo.node`, `${addon}.${process.pid}`);
renameSync(`${addon}.${process.pid}`, addon);
const current = new Set(Object.keys(metafile.outputs));
for (const file of readdirSync(`${root}dist`)) {
  if (!file.startsWith("chunk-") || current.has(`dist/${file}`)) continue;
  const path = `${root}dist/${file}`;
  if (Date.now() - statSync(path).mtimeMs > STALE_CHUNK_MS) rmSync(path, { force: true });
}
