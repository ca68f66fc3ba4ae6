/** A tmpfs of a few blocks, for specs about a host that runs out of space. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** Waits until its input ends, as it does with the process that started it, however that ends. */
const UNMOUNT = 'read -r _; umount --lazy "$1"; rmdir "$1"';

/** The folder it is mounted at until the spec file or its process ends; `undefined` where we may not mount. */
export function smallFileSystem(sizeBytes: number): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), "estalo-small-"));
  try {
    const options = ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", folder];
    execFileSync("mount", options, { stdio: "pipe" });
  } catch {
    rmdirSync(folder);
    return undefined;
  }
  const keeper = spawn("sh", ["-c", UNMOUNT, "sh", folder], {
    // Of a group of its own: what ends us by our group leaves it its work.
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  keeper.unref();
  afterAll(async () => {
    const ended = once(keeper, "exit");
    keeper.stdin.end();
    await ended;
  });
  return folder;
}
