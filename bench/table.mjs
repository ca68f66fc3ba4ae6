/**
 * Makes page, pictures and tables from bench/results/: `node bench/table.mjs`. With `--check` it changes nothing,
 * and ends with status 1 when something would change.
 */
import { build } from "esbuild";

const root = new URL("..", import.meta.url).pathname;
const outfile = `${root}build/bench/report.mjs`;
await build({
  entryPoints: [`${root}bench/report/main.ts`],
  outfile,
  bundle: true,
  format: "esm",
  platform: "node",
  logLevel: "warning",
});
const { report } = await import(outfile);
const isCheck = process.argv.includes("--check");
const files = report(root, isCheck);
for (const file of files) console.log(`${isCheck ? "is not up to date" : "written"}: ${file}`);
process.exit(isCheck && files.length > 0 ? 1 : 0);
