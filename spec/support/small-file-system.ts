/** A tmpfs of a few blocks, for specs about a host that runs out of space. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** The folder it is mounted at until the spec file ends; `undefined` where we may not mount. */
export function smallFileSystem(sizeBytes: number): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "estalo-small-"));
  try {
    const options = ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", folder];
    execFileSync("mount", options, { stdio: "pipe" });
  } catch {
    rmSync(folder, { recursive: true });
    return undefined;
  }
  afterAll(() => {
    execFileSync("umount", ["--lazy", folder]);
    rmSync(folder, { recursive: true });
  });
  return folder;
}
