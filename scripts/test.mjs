/**
 * `npm test`: style, types, unit specs, then guest specs on every host that this machine can offer. Ends with
 * a line per host, what failed with the first lines of why, and a line with the totals; what could not run is
 * named with its reason and counted as skipped.
 *
 *   node scripts/test.mjs [--no-testbed]
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bin = (name) => join(root, "node_modules/.bin", name);
const scratch = mkdtempSync(join(tmpdir(), "estalo-test-"));
/** Time one virtual host has for its guest specs, s. */
const TESTBED_LIMIT_S = 1200;
/** So long may it say nothing: longer than a spec waits for its guest (spec/support/guest-report.ts), ms. */
const TESTBED_SILENCE_MS = 360_000;
/** Its exit status when its time is over. */
const TESTBED_TIME_IS_UP = 124;
/** Its exit status when the virtual host ended by itself. */
const TESTBED_HOST_ENDED = 125;
/** Its exit status when the specs' runner met a segmentation fault or an illegal instruction. */
const TESTBED_CRASHES = [139, 132];
/** How a guest's report names that end (spec/support/guest-report.ts). */
const TRIPLE_FAULT = '"reason":"triple-fault"';
/**
 * What only hardware KVM shows: unchanged kernels and their drivers, ACPI, several vCPUs; and control groups with all
 * controllers. Each list has a virtual host of its own, so that one the emulator ended costs no other. `guest`: the
 * one that specs of devices boot (spec/support/linux-guest.ts).
 */
const TESTBED_LISTS = [
  { names: ["default-guest", "bad-input", "jail-limits", "balloon"], guest: "default" },
  { names: ["debian", "memory"], guest: "default" },
  { names: ["net", "mmds"], guest: "debian" },
];
/** So often it is tried when the emulator fails. */
const EMULATOR_TRIES = 3;
/** Its memory: the largest guest has 3.25 GiB. */
const TESTBED_MEMORY_MIB = 7000;

const totals = { passed: 0, failed: 0, skipped: 0 };
const report = [];
/** What failed: its name, why, and for a program the end of what it said. */
const failures = [];
/** Lines that all failures together take at the end, however many there are: logs are often cut before. */
const FAILURE_LINES = 36;
/** And characters that a line of them takes. */
const LINE_MAX = 400;
/** Output kept of a check, to tell its last lines when it fails. */
const TAIL_CHARACTERS = 4000;

function count(where, passed, failed, skipped, note = "") {
  totals.passed += passed;
  totals.failed += failed;
  totals.skipped += skipped;
  const counts = `${passed} passed, ${failed} failed, ${skipped} skipped`;
  report.push(`${where}: ${counts}${note === "" ? "" : ` (${note})`}`);
}

/**
 * Runs a command and shows its output; its exit status and the end of what it said. With `silenceMs` it is ended, as
 * one whose time is up, when it has said nothing for so long.
 */
async function show(command, args, options = {}) {
  const env = {
    ...process.env,
    ...(process.stdout.isTTY ? { FORCE_COLOR: "1" } : {}),
    ...options.env,
  };
  const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"], env });
  let tail = "";
  let isSilent = false;
  const silence =
    options.silenceMs &&
    setTimeout(() => {
      isSilent = child.kill();
    }, options.silenceMs);
  for (const [from, to] of [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ]) {
    from.on("data", (bytes) => {
      to.write(bytes);
      silence?.refresh();
      tail = (tail + bytes).slice(-TAIL_CHARACTERS);
    });
  }
  // It may not even start.
  const [status, signal] = await once(child, "close").catch(({ message }) => [message]);
  clearTimeout(silence);
  return { status: isSilent ? TESTBED_TIME_IS_UP : (status ?? signal), tail };
}

/** One check that passes or fails as a whole. */
async function check(what, command, args) {
  console.log(`\n── ${what}`);
  const { status, tail } = await show(command, args);
  if (status !== 0) failures.push({ name: what, message: `exit status ${status}`, tail });
  count(what, status === 0 ? 1 : 0, status === 0 ? 0 : 1, 0);
}

/**
 * Guest specs or unit specs, here or behind `prefix`: exit status, the end of the output, and what ran as
 * spec-reporter.mjs tells it, if it came so far.
 */
async function run(where, project, options = {}) {
  const { prefix = [], env = {}, folder = scratch, files = [], silenceMs } = options;
  console.log(`\n── ${where}`);
  const file = join(folder, `${project}.json`);
  rmSync(file, { force: true });
  const reporters = ["--reporter=verbose", `--reporter=${join(root, "scripts/spec-reporter.mjs")}`];
  const vitest = [bin("vitest"), "run", "--project", project, ...files, ...reporters];
  const [command, ...args] = [...prefix, ...vitest];
  const { status, tail } = await show(command, args, {
    env: { ...env, ESTALO_SPEC_REPORT: file },
    silenceMs,
  });
  const result = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
  return { status, tail, result };
}

/** Counts a run; one that ended without telling what ran, or why it failed, has failed. */
function tell(where, { status, tail, result }, note = "") {
  const { passed, failed, skipped } = result ?? { passed: 0, failed: 0, skipped: 0 };
  const isUnclear = result === undefined || (failed === 0 && status !== 0);
  count(where, passed, isUnclear ? 1 : failed, skipped, note);
  if (isUnclear) failures.push({ name: where, message: `exit status ${status}`, tail });
  for (const { name, message } of result?.failures ?? []) {
    failures.push({ name: `${where}: ${name}`, message });
  }
}

function linesOf(text) {
  return text.split("\n").filter((line) => line.trim() !== "");
}

/** The failures in a few lines each: the first of an error, the last of a program's output. */
function failureLines() {
  const each = Math.max(3, Math.floor(FAILURE_LINES / Math.max(failures.length, 1)));
  const most = Math.floor(FAILURE_LINES / each);
  const lines = failures.slice(0, most).flatMap(({ name, message, tail = "" }) => {
    const why = linesOf(message).slice(0, each - 1);
    const end = linesOf(tail)
      .slice(-each)
      .slice(1 + why.length);
    return [`FAILED ${name}`, ...[...why, ...end].map((line) => `  ${line.slice(0, LINE_MAX)}`)];
  });
  if (failures.length > most) lines.push(`and ${failures.length - most} more`);
  return lines;
}

/** Says how all went, and ends. */
function finish() {
  rmSync(scratch, { recursive: true, force: true });
  const wrong = failureLines();
  if (wrong.length > 0) wrong.push("");
  const { passed, failed, skipped } = totals;
  const last = `${passed} passed, ${failed} failed, ${skipped} skipped`;
  console.log(["", ...report, "", ...wrong, last].join("\n"));
  process.exit(failed === 0 ? 0 : 1);
}

/**
 * How QEMU's emulated AMD-V shows that it failed, and not what runs on it (docs/hosts.md): the virtual host
 * stops for good or ends, a guest meets a triple fault, or the process that starts the specs, which loads no native
 * code of ours, crashes. `undefined`: it did not.
 */
function emulatorFailure({ status, result }) {
  if (result === undefined && status === TESTBED_TIME_IS_UP) return "the virtual host stopped";
  if (result === undefined && status === TESTBED_HOST_ENDED) return "the virtual host ended";
  if (result === undefined && TESTBED_CRASHES.includes(status)) return "the specs' runner crashed";
  const ended = result?.failures.find(({ message }) => message.includes(TRIPLE_FAULT));
  return ended === undefined ? undefined : `a triple fault ended the guest of ${ended.name}`;
}

/** The guest specs for each virtual host: `TESTBED_LISTS`, and the rest where this host ran none. */
function testbedLists(ranHere) {
  if (ranHere) return TESTBED_LISTS;
  const files = readdirSync(join(root, "spec/guest")).filter((file) => file.endsWith(".spec.ts"));
  const listed = TESTBED_LISTS.filter(({ guest }) => guest === "default");
  const names = files
    .map((file) => basename(file, ".spec.ts"))
    .filter((name) => !listed.some((list) => list.names.includes(name)));
  return [...TESTBED_LISTS, { names, guest: "default" }];
}

/**
 * Guest specs on hardware KVM. Where this host ran all of them already, the testbed runs those for which
 * hardware KVM matters. Where the emulator failed, there is no result yet: it is tried again, twice at most.
 */
async function specsInTestbed(ranHere) {
  const out = mkdtempSync(join(tmpdir(), "estalo-testbed-"));
  const limits = ["-t", String(TESTBED_LIMIT_S), "-m", String(TESTBED_MEMORY_MIB), "-o", out];
  const testbed = [join(root, "spec/testbed/testbed"), ...limits, "--"];
  for (const { names, guest } of testbedLists(ranHere)) {
    const prefix = [...testbed, "env", "ESTALO_SPEC_HOST=testbed", `ESTALO_SPEC_GUEST=${guest}`];
    const files = names.map((name) => `spec/guest/${name}.spec.ts`);
    const which = names.length > 4 ? `${names.length} more files` : names.join(", ");
    const on = guest === "default" ? "" : ` on ${guest}`;
    const where = `guest specs in the testbed (hardware KVM, emulated): ${which}${on}`;
    const failed = [];
    let outcome;
    for (;;) {
      outcome = await run(where, "guest", {
        prefix,
        folder: out,
        files,
        silenceMs: TESTBED_SILENCE_MS,
      });
      const why = emulatorFailure(outcome);
      if (why === undefined || failed.length === EMULATOR_TRIES - 1) break;
      failed.push(why);
      console.log(`QEMU's AMD-V failed: ${why}. Once more`);
    }
    const note = `try ${failed.length + 1}; before: ${failed.join("; ")}`;
    tell(where, outcome, failed.length === 0 ? "" : note);
  }
  rmSync(out, { recursive: true, force: true });
}

function isKvmUsable() {
  const probe = spawnSync(process.execPath, ["bin/estalo.js", "doctor", "--json"], { cwd: root });
  return probe.status === 0;
}

// The time limit of .ci/run: what is known by then is told.
process.once("SIGTERM", () => {
  const name = "npm test";
  count(name, 0, 1, 0, "ended by SIGTERM");
  failures.push({
    name,
    message: `ended by SIGTERM after ${Math.round(performance.now() / 1000)} s`,
  });
  finish();
});

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

await check("format and lint (biome)", bin("biome"), ["ci", "."]);
await check("types (tsc)", bin("tsc"), ["-p", "tsconfig.json"]);
await check("C and C++ format (clang-format)", "clang-format", [
  "--dry-run",
  "-Werror",
  ...clangFiles,
]);
tell("unit specs", await run("unit specs", "unit"));
const ranHere = isKvmUsable();
if (ranHere) {
  const where = "guest specs on this host's KVM";
  tell(where, await run(where, "guest", { env: { ESTALO_SPEC_HOST: "local" } }));
  await check("benchmarks, a few seconds of each", process.execPath, ["bench/run.mjs", "--smoke"]);
} else {
  const reason = "this host has no usable KVM: estalo doctor says why";
  count("guest specs on this host's KVM", 0, 0, 1, reason);
  count("benchmarks, a few seconds of each", 0, 0, 1, reason);
}
if (process.argv.includes("--no-testbed")) {
  count("guest specs in the testbed", 0, 0, 1, "--no-testbed");
} else {
  await check("testbed's kernel and packages", "bash", ["spec/testbed/setup"]);
  await check("Debian guest image for the testbed", "bash", ["spec/guest/images/debian"]);
  await specsInTestbed(ranHere);
}
finish();
