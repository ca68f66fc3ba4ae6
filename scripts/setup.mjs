/**
 * Makes a checkout ready to run: packages, addon, bundles. Idempotent, and quick when nothing is missing:
 * every step keeps a fingerprint of what it was made from in dist/setup.json and is skipped while that holds.
 *
 *   node scripts/setup.mjs [--tests] [--quiet]
 *
 * --tests also installs what the tests need (Debian packages for the testbed and clang-format).
 * Uses Node's own modules only: it runs before anything is installed.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const stampFile = join(root, "dist", "setup.json");
const quiet = process.argv.includes("--quiet");
const forTests = process.argv.includes("--tests");

/** Debian packages by what they are for; the program named first tells whether they are there. */
const TOOLCHAIN = { programs: ["g++", "make", "python3"], packages: ["g++", "make", "python3"] };
const LINTERS = { programs: ["clang-format"], packages: ["clang-format"] };

function say(text) {
  if (!quiet) console.error(`setup: ${text}`);
}

function fail(text) {
  console.error(`setup: ${text}`);
  process.exit(1);
}

/** Runs a command; its output is shown only when it fails, or when it takes long and we are not quiet. */
function run(what, command, args, options = {}) {
  console.error(`setup: ${what}`);
  const result = spawnSync(command, args, { cwd: root, encoding: "utf8", ...options });
  if (result.status === 0) return;
  console.error(result.stdout ?? "", result.stderr ?? "");
  fail(`${what} failed: ${[command, ...args].join(" ")}`);
}

function filesBelow(folder, wanted) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && wanted.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

function fingerprint(files, ...extra) {
  const hash = createHash("sha256");
  for (const text of extra) hash.update(text);
  for (const file of files) hash.update(readFileSync(join("/", file)));
  return hash.digest("hex");
}

/** Does the step unless it was done for the same fingerprint and its result is still there. */
function step(name, print, result, action) {
  const stamps = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, "utf8")) : {};
  if (stamps[name] === print && existsSync(join(root, result))) return;
  action();
  mkdirSync(dirname(stampFile), { recursive: true });
  const now = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, "utf8")) : {};
  writeFileSync(stampFile, JSON.stringify({ ...now, [name]: print }, null, 2));
}

function isInstalled(program) {
  const folders = (process.env.PATH ?? "").split(":");
  return folders.some((folder) => existsSync(join(folder, program)));
}

function installDebian({ programs, packages }) {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
  if (process.getuid?.() !== 0 || !isInstalled("apt-get")) {
    fail(`${missing.join(", ")} missing; on Debian: sudo ${command}`);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  run("refreshing Debian's package lists", "apt-get", ["update", "-qq"], { env });
  run(`installing Debian packages: ${packages.join(" ")}`, "sh", ["-c", command], { env });
}

/** Where this Node's own headers are, when they came with it: no download needed then. */
function headersArgument() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, "include/node/node_api.h")) ? [`--nodedir=${prefix}`] : [];
}

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 17))
  fail(`Node.js 20.17 or later is needed, this is ${process.version}`);
if (process.platform !== "linux" || process.arch !== "x64") fail("Estalo runs on Linux on x86-64");

const lockFile = join(root, "package-lock.json");
step(
  "packages",
  fingerprint([lockFile], process.version),
  "node_modules/.package-lock.json",
  () => {
    run("installing packages (npm ci)", "npm", [
      "ci",
      "--no-audit",
      "--no-fund",
      "--ignore-scripts",
    ]);
  },
);

const sqlite = "node_modules/better-sqlite3/build/Release/better_sqlite3.node";
step("sqlite", fingerprint([lockFile], process.version), sqlite, () => {
  installDebian(TOOLCHAIN);
  // Its own install script: the binary of its release where that can be had, else built here.
  const script = ["rebuild", "better-sqlite3", "--ignore-scripts=false", ...headersArgument()];
  run("building SQLite (80 s; a second where its binary can be downloaded)", "npm", script);
});

const nativeFiles = [...filesBelow("src/native", /\.(c|cc|h)$/), join(root, "binding.gyp")];
step("addon", fingerprint(nativeFiles, process.version), "build/Release/estalo.node", () => {
  installDebian(TOOLCHAIN);
  const gyp = join(root, "node_modules/node-gyp/bin/node-gyp.js");
  run("building the addon (20 s)", process.execPath, [
    gyp,
    "rebuild",
    "--silent",
    ...headersArgument(),
  ]);
});

const sources = [
  ...filesBelow("src", /\.ts$/),
  ...nativeFiles,
  join(root, "scripts/build.mjs"),
  lockFile,
];
step("bundles", fingerprint(sources, process.version), "dist/index.js", () => {
  run("bundling dist/", process.execPath, ["scripts/build.mjs"]);
});

const types = join(root, "node_modules/.bin/tsc");
step("types", fingerprint(sources), "dist/types/index.d.ts", () => {
  run("writing type declarations", types, ["-p", "tsconfig.types.json"]);
});

if (forTests) installDebian(LINTERS);
say("ready");
