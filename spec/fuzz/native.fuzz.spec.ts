/**
 * The addon's C++ that works on numbers of the guest's (addresses, frames, disk requests), under libFuzzer with
 * the address and undefined sanitizers: a short run from a fixed seed. native/ has the harnesses.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const clang = process.env.CLANG ?? "clang++";
const BUILD = fileURLToPath(new URL("native/build", import.meta.url));
const FOLDER = fileURLToPath(new URL("../../build/native-fuzz", import.meta.url));
const RUNS = 20_000;
/** Compiling takes half a minute of processor time. */
const TIMEOUT_MS = 600_000;

/** Whether there is a clang that can link a fuzzer. */
function hasLibFuzzer(): boolean {
  const folder = mkdtempSync(join(tmpdir(), "estalo-spec-"));
  const source = 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }';
  const args = ["-x", "c++", "-fsanitize=fuzzer,address,undefined", "-o", join(folder, "a"), "-"];
  const { status } = spawnSync(clang, args, { input: source, timeout: TIMEOUT_MS });
  rmSync(folder, { recursive: true });
  return status === 0;
}

describe("the addon's C++", () => {
  it.skipIf(!hasLibFuzzer())(
    "keeps to guest memory whatever it is given (needs clang with libFuzzer: clang, libclang-rt-dev)",
    () => {
      const built = spawnSync(BUILD, [FOLDER], { encoding: "utf8", timeout: TIMEOUT_MS });
      expect(built.status, built.stderr).toBe(0);
      const crashes = mkdtempSync(join(tmpdir(), "estalo-spec-"));
      // Long inputs from the start: a request that goes on in parts takes a hundred bytes of choices.
      const lengths = ["-max_len=1024", "-len_control=0"];
      const args = [`-runs=${RUNS}`, "-seed=1", ...lengths, `-artifact_prefix=${crashes}/`];
      const run = spawnSync(join(FOLDER, "native-fuzz"), args, {
        encoding: "utf8",
        timeout: TIMEOUT_MS,
      });
      rmSync(crashes, { recursive: true });
      expect(run.status, run.stderr.slice(-4000)).toBe(0);
      expect(run.stderr).toContain(`Done ${RUNS} runs`);
    },
    2 * TIMEOUT_MS,
  );
});
