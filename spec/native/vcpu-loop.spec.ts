/** The run loop in C over a KVM that is played (vcpu-loop.c). */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EXIT_KICKED, KVM_EXIT_INTR, KVM_EXIT_MMIO } from "../../src/native/layouts.js";

const SOURCES = ["./vcpu-loop.c", "../../src/native/vcpu_loop.c"].map(
  (file) => new URL(file, import.meta.url).pathname,
);
const INTERRUPTED = -1;

describe.skipIf(!existsSync("/usr/bin/cc"))("a vCPU that is to leave (needs a C compiler)", () => {
  const folder = mkdtempSync(join(tmpdir(), "estalo-loop-"));
  const program = join(folder, "loop");
  beforeAll(() => {
    execFileSync("cc", ["-std=gnu11", "-Wl,--wrap=ioctl", ...SOURCES, "-o", program]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const run = (...answers: number[]) =>
    execFileSync(program, answers.map(String), { encoding: "utf8" }).trim();

  it("leaves when KVM has taken the last access in", () => {
    expect(run(INTERRUPTED)).toBe(`${EXIT_KICKED} entered 0, told 0`);
    expect(run(KVM_EXIT_INTR)).toBe(`${EXIT_KICKED} entered 0, told 1`);
  });

  it("answers first what the same instruction accesses besides", () => {
    expect(run(KVM_EXIT_MMIO, KVM_EXIT_MMIO, INTERRUPTED)).toBe(
      `${KVM_EXIT_MMIO} ${KVM_EXIT_MMIO} ${EXIT_KICKED} entered 0, told 2`,
    );
  });
});
