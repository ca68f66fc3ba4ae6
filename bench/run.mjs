/**
 * `npm run bench`: builds the bench guest, the bare C monitor and the benches, then runs them.
 *
 * Everything goes to build/bench/. The benches are bundled against dist/, so that what is measured is what
 * users install: build that first (`npm run setup`). Arguments are those of main.ts.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { basename } from "node:path";
import { build } from "esbuild";

const root = new URL("..", import.meta.url).pathname;
const out = `${root}build/bench`;
const cc = process.env.CC ?? "cc";

const WARNINGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"];
const FREESTANDING = [
  "-ffreestanding",
  "-fno-pic",
  "-fno-stack-protector",
  "-fno-strict-aliasing",
  "-fcf-protection=none",
  "-mno-red-zone",
  "-mgeneral-regs-only",
  "-nostdlib",
  "-static",
  "-no-pie",
  "-Wl,--build-id=none",
  "-Wl,-z,noexecstack",
];

/** The library under test is dist/, whatever a bench's import of the sources says: that one is for its types. */
const installedLibrary = {
  name: "installed-library",
  setup({ onResolve }) {
    onResolve({ filter: /\/src\/index\.js$/ }, () => ({
      path: "../../dist/index.js",
      external: true,
    }));
  },
};

function compile(sources, output, flags) {
  execFileSync(cc, [...WARNINGS, ...flags, ...sources, "-o", `${out}/${output}`], {
    cwd: root,
    stdio: "inherit",
  });
}

function sourcesOf(folder, ending) {
  return readdirSync(root + folder)
    .filter((file) => ending.test(file))
    .map((file) => `${folder}/${file}`);
}

if (!existsSync(`${root}dist/index.js`)) {
  console.error("bench: dist/ is not built; npm run setup builds it");
  process.exit(1);
}
mkdirSync(out, { recursive: true });
compile(sourcesOf("bench/guest", /\.[cS]$/), "guest", [
  ...FREESTANDING,
  "-Wl,-T,bench/guest/guest.ld",
]);
for (const file of sourcesOf("bench/peers", /\.c$/)) compile([file], basename(file, ".c"), []);
await build({
  absWorkingDir: root,
  entryPoints: ["bench/main.ts", ...sourcesOf("bench/subjects", /\.ts$/)],
  outdir: "build/bench",
  entryNames: "[name]",
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  plugins: [installedLibrary],
  logLevel: "warning",
});
const { status } = spawnSync(process.execPath, [`${out}/main.js`, ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
});
process.exit(status ?? 1);
