/**
 * Builds dist/: the library, the command line and the vCPU thread as one bundle each, and the addon beside
 * them. Bundles load several times faster than a tree of modules, and every vCPU thread loads one.
 */
import { copyFileSync, mkdirSync } from "node:fs";
import { build } from "esbuild";

const root = new URL("..", import.meta.url).pathname;
mkdirSync(`${root}dist`, { recursive: true });
await build({
  absWorkingDir: root,
  entryPoints: {
    index: "src/index.ts",

    "vcpu.worker": "src/actors/vcpu.worker.ts",
  },
  outdir: "dist",
  bundle: true,
  splitting: true,
  chunkNames: "chunk-[hash]",
  format: "esm",
  platform: "node",
  mainFields: ["es2015", "module", "main"],
  target: "node20",
  packages: "bundle",
  sourcemap: "linked",
  legalComments: "eof",
  logLevel: "warning",
});
copyFileSync(`${root}build/Release/estalo.node`, `${root}dist/estalo.node`);
