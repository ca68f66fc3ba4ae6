/**
 * `npm test`: style, types, unit specs, then guest specs on every host that this machine can offer. Ends with
 * a line per host and one with the totals; what could not run is named with its reason and counted as skipped.
 *
 *   node scripts/test.mjs [--no-testbed]
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bin = (name) => join(root, "node_modules/.bin", name);
const scratch = mkdtempSync(join(tmpdir(), "estalo-test-"));
/** Time the testbed has for its guest specs, s. */
const TESTBED_LIMIT_S = 600;
/** Its exit status when that is over. */
const TESTBED_TIME_IS_UP = 124;
/** What only hardware KVM shows: unchanged kernels, ACPI, several vCPUs. */
const TESTBED_FILES = ["default-guest", "debian", "bad-input"].map(
  (name) => `spec/guest/${name}.spec.ts`,
);
/** Its memory: the largest guest has 6 GiB. */
const TESTBED_MEMORY_MIB = 9000;

const totals = { passed: 0, failed: 0, skipped: 0 };
const report = [];

function count(where, passed, failed, skipped, note = "") {
  totals.passed += passed;
  totals.failed += failed;
  totals.skipped += skipped;
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped`;
  report.push(`${where}: ${counts}${note === "" ? "" : ` (${note})`}`);
}

/** One check that passes or fails as a whole. */
function check(what, command, args) {
  console.log(`\n── ${what}`);
  const { status } = spawnSync(command, args, { cwd: root, stdio: "inherit" });
  count(what, status === 0 ? 1 : 0, status === 0 ? 0 : 1, 0);
}

/** Guest specs or unit specs, here or behind `prefix`; vitest's JSON report says what ran. */
function specs(where, project, { prefix = [], env = {}, folder = scratch, files = [] } = {}) {
  console.log(`\n── ${where}`);
  const json = join(folder, `${project}.json`);
  const vitest = [bin("vitest"), "run", "--project", project, ...files, "--reporter=verbose"];
  const [command, ...args] = [...prefix, ...vitest, "--reporter=json", `--outputFile.json=${json}`];
  const { status } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...env },
  });
  if (!existsSync(json)) return { status };
  const result = JSON.parse(readFileSync(json, "utf8"));
  const failed = Math.max(result.numFailedTests, status === 0 ? 0 : 1);
  count(where, result.numPassedTests, failed, result.numPendingTests + result.numTodoTests);
  return undefined;
}

/** As `specs`, and a run without a report has failed. */
function specsHere(where, project, options) {
  const broken = specs(where, project, options);
  if (broken !== undefined) count(where, 0, 1, 0, `no report; exit status ${broken.status}`);
}

/**
 * Guest specs on hardware KVM. Where this host ran all of them already, the testbed runs those for which
 * hardware KVM matters. QEMU's emulated AMD-V stops now and then, about once in some hundred microVMs, and
 * the whole virtual host with it: that is no result, and is tried once more.
 */
function specsInTestbed(ranHere) {
  const where = "guest specs in the testbed (hardware KVM, emulated)";
  const out = mkdtempSync(join(tmpdir(), "estalo-testbed-"));
  const limits = ["-t", String(TESTBED_LIMIT_S), "-m", String(TESTBED_MEMORY_MIB), "-o", out];
  const options = {
    prefix: [
      join(root, "spec/testbed/testbed"),
      ...limits,
      "--",
      "env",
      "ESTALO_SPEC_HOST=testbed",
    ],
    folder: out,
    files: ranHere ? TESTBED_FILES : [],
  };
  let broken = specs(where, "guest", options);
  if (broken?.status === TESTBED_TIME_IS_UP) {
    console.log("the testbed stopped without a result: once more");
    broken = specs(where, "guest", options);
  }
  if (broken !== undefined) count(where, 0, 1, 0, `no report; exit status ${broken.status}`);
  rmSync(out, { recursive: true, force: true });
}

function isKvmUsable() {
  const probe = spawnSync(process.execPath, ["bin/estalo.js", "doctor", "--json"], { cwd: root });
  return probe.status === 0;
}

const clangFiles = spawnSync(
  "git",
  ["ls-files", "src/native/*.c", "src/native/*.cc", "src/native/*.h"],
  {
    cwd: root,
    encoding: "utf8",
  },
)
  .stdout.split("\n")
  .filter(Boolean);

check("format and lint (biome)", bin("biome"), ["ci", "."]);
check("types (tsc)", bin("tsc"), ["-p", "tsconfig.json"]);
check("C and C++ format (clang-format)", "clang-format", ["--dry-run", "-Werror", ...clangFiles]);
specsHere("unit specs", "unit");
const ranHere = isKvmUsable();
if (ranHere) {
  specsHere("guest specs on this host's KVM", "guest", { env: { ESTALO_SPEC_HOST: "local" } });
  check("benchmarks, a few seconds of each", process.execPath, ["bench/run.mjs", "--smoke"]);
} else {
  const reason = "this host has no usable KVM: estalo doctor says why";
  count("guest specs on this host's KVM", 0, 0, 1, reason);
  count("benchmarks, a few seconds of each", 0, 0, 1, reason);
}
if (process.argv.includes("--no-testbed")) {
  count("guest specs in the testbed", 0, 0, 1, "--no-testbed");
} else {
  check("Debian guest image for the testbed", "bash", ["spec/guest/images/debian"]);
  specsInTestbed(ranHere);
}
rmSync(scratch, { recursive: true, force: true });

console.log("");
for (const line of report) console.log(line);
console.log("");
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exit(totals.failed === 0 ? 0 : 1);
