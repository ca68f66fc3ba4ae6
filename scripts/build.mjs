/**
 * Builds dist/: the library, the commands and the vCPU thread as bundles, and the addon beside them. Few files
 * load several times faster than a tree of modules; the commands and the threads, whose start is waited for,
 * get theirs without white space too.
 */
import { copyFileSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { build } from "esbuild";

/** Old chunks are kept this long: a running command may still load one. */
const STALE_CHUNK_MS = 3_600_000;

const root = new URL("..", import.meta.url).pathname;
mkdirSync(`${root}dist`, { recursive: true });
const common = {
  absWorkingDir: root,
  outdir: "dist",
  bundle: true,
  format: "esm",
  // Not "node": its condition leads to RxJS's CommonJS, which is bundled whole; this leads to its modules,
  // of which only what is used stays (two thirds of the bundle less). Built-ins are all imported as node:….
  platform: "neutral",
  conditions: ["es2015", "import"],
  // Binaries of their own stay packages, and so does what is CommonJS over Node's own modules.
  external: ["node:*", "uWebSockets.js", "better-sqlite3", "ws"],
  mainFields: ["es2015", "module", "main"],
  target: "node20",
  packages: "bundle",
  sourcemap: "linked",
  legalComments: "eof",
  logLevel: "warning",
  metafile: true,
};
const compact = { minifyWhitespace: true, minifySyntax: true };
const results = await Promise.all([
  build({ ...common, entryPoints: { index: "src/index.ts" } }),
  build({ ...common, entryPoints: { client: "src/api/client/index.ts" } }),
  build({ ...common, entryPoints: { testing: "src/testing/index.ts" } }),
  // What runs a microVM is a chunk of its own, loaded while the vCPU threads start.
  build({
    ...common,
    ...compact,
    entryPoints: { cli: "src/cli/main.ts" },
    splitting: true,
    chunkNames: "chunk-[hash]",
  }),
  // Its start is waited for as well: nothing of a microVM is in what answers first.
  build({
    ...common,
    ...compact,
    entryPoints: { vmm: "src/cli/vmm-main.ts" },
    splitting: true,
    chunkNames: "chunk-[hash]",
  }),
  build({ ...common, ...compact, entryPoints: { jail: "src/cli/jail-main.ts" } }),
  build({ ...common, ...compact, entryPoints: { cell: "src/isolation/cell-main.ts" } }),
  // CommonJS: each thread saves 5 ms and 0.2 MiB of Node's loader of modules.
  build({
    ...common,
    ...compact,
    entryPoints: { "vcpu.worker": "src/actors/vcpu.worker.ts" },
    format: "cjs",
    outExtension: { ".js": ".cjs" },
    define: { "import.meta.url": "moduleUrl" },
    banner: { js: 'const moduleUrl=require("node:url").pathToFileURL(__filename).href;' },
  }),
]);
// Moved into place: a process that runs has the old file mapped.
for (const name of ["estalo.node", "estalo-jail"]) {
  const file = `${root}dist/${name}`;
  copyFileSync(`${root}build/Release/${name}`, `${file}.${process.pid}`);
  renameSync(`${file}.${process.pid}`, file);
}
// The page at /docs, as it comes; about 1.5 MB, so not a part of a bundle.
mkdirSync(`${root}dist/swagger-ui`, { recursive: true });
for (const file of ["swagger-ui.css", "swagger-ui-bundle.js", "LICENSE", "NOTICE"]) {
  copyFileSync(`${root}node_modules/swagger-ui-dist/${file}`, `${root}dist/swagger-ui/${file}`);
}
const current = new Set(results.flatMap(({ metafile }) => Object.keys(metafile.outputs)));
for (const file of readdirSync(`${root}dist`)) {
  if (!file.startsWith("chunk-") || current.has(`dist/${file}`)) continue;
  const path = `${root}dist/${file}`;
  if (Date.now() - statSync(path).mtimeMs > STALE_CHUNK_MS) rmSync(path, { force: true });
}
