/** `estalo compat` as it is typed. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";

const bin = (name: string) => fileURLToPath(new URL(`../../bin/${name}`, import.meta.url));
const PATH_BYTES_MAX = 4095;

function compat(folder: string) {
  const words = [bin("estalo.js"), "compat", folder];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
  return { status, stdout, stderr };
}

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-compat-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

describe("estalo compat", () => {
  it("links the programs, and finds its links there the next time", () => {
    const folder = join(scratch(), "bin");
    const stdout = `${join(folder, "firecracker")}\n${join(folder, "jailer")}\n`;
    for (const _ of [1, 2]) expect(compat(folder)).toEqual({ status: 0, stdout, stderr: "" });
    expect(readlinkSync(join(folder, "jailer"))).toBe(bin("jailer"));
  });

  it("leaves what is not its own", () => {
    const folder = scratch();
    writeFileSync(join(folder, "firecracker"), "");
    expect(compat(folder)).toMatchObject({
      status: 125,
      stderr: expect.stringContaining("firecracker is there already, and not ours"),
    });
  });

  it("says why it cannot look at a name in the folder", () => {
    let folder = scratch();
    // One whose own name is short enough for the kernel, and no name in it is.
    while (folder.length < PATH_BYTES_MAX - 5) {
      folder = join(folder, "d".repeat(Math.min(200, PATH_BYTES_MAX - 5 - folder.length)));
    }
    expect(compat(folder)).toMatchObject({
      status: 125,
      stderr: expect.stringMatching(
        /^estalo: link .*\/firecracker: ENAMETOOLONG \[ERR_ESTALO_HOST\]/,
      ),
    });
  });
});
