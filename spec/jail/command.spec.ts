/** `estalo jail` and `estalo jail rm` as they are typed, one after the other; needs root. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { isRoot, JAIL_USER, makeBase, until } from "../support/jails.js";
import { nobody } from "../support/nobody.js";

const bin = (name: string) => fileURLToPath(new URL(`../../bin/${name}`, import.meta.url));

/** Types `estalo jail …`. */
function jail(...words: string[]) {
  const command = [bin("estalo.js"), "jail", ...words];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: "utf8" });
  return { status, stdout, stderr: stderr.replace(/^estalo jail: without .*\n/gm, "") };
}

const user = ["--uid", `${JAIL_USER}`, "--gid", `${JAIL_USER}`];

/** A `firecracker` in the background of a jail that stays; its process's id. */
function startOne(base: string, id: string): number {
  const words = ["--id", id, "--exec-file", bin("firecracker"), ...user];
  const where = ["--chroot-base-dir", base, "--new-pid-ns", "--daemonize"];
  expect(jail(...words, ...where, "--", "--api-sock", "/run/s")).toMatchObject({ status: 0 });
  const pid = Number(readFileSync(join(base, "firecracker", id, "root/firecracker.pid"), "utf8"));
  onTestFinished(() => {
    if (existsSync(`/proc/${pid}/root/firecracker.pid`)) process.kill(pid, "SIGKILL");
  });
  return pid;
}

describe.runIf(isRoot)("estalo jail rm (needs root)", () => {
  it("takes away a jail whose program has ended, and no other", async () => {
    const base = makeBase();
    const [pid] = [startOne(base, "one"), startOne(base, "two")];
    process.kill(pid, "SIGKILL");
    await until(() => !existsSync(`/proc/${pid}/root/firecracker.pid`), "it has ended");
    expect(jail("rm", "one", "--chroot-base-dir", base)).toMatchObject({ status: 0, stderr: "" });
    expect(readdirSync(join(base, "firecracker"))).toEqual(["two"]);
    expect(jail("rm", "one", "--chroot-base-dir", base)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^Error: There is no jail in .*\/firecracker\/one\nhint: /),
    });
  });

  it("leaves one that runs, unless it is forced", () => {
    const base = makeBase();
    const pid = startOne(base, "one");
    expect(jail("rm", "one", "--chroot-base-dir", base)).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/firecracker\/one is in use; --force ends what runs in it\n$/),
    });
    expect(existsSync(`/proc/${pid}/root/firecracker.pid`)).toBe(true);
    expect(jail("rm", "one", "--force", "--chroot-base-dir", base).status).toBe(0);
    expect(existsSync(`/proc/${pid}/root/firecracker.pid`)).toBe(false);
    expect(readdirSync(base)).toEqual([]);
  });

  it.each([
    [["a/b"], "Error: Invalid instance ID: Invalid char (/) at position 2\n"],
    [[], "Error: Invalid instance ID: Invalid len (0)"],
    [["--force", "one"], "Arguments parsing error: The jail's id comes first"],
    [["one", "--nonsense"], "Arguments parsing error: Found argument 'nonsense'"],
    [["one", "--exec-file", ".."], "Error: .. is not the name of a program"],
  ])("refuses the words %j", (words, message) => {
    const where = words.length === 0 ? [] : ["--chroot-base-dir", makeBase()];
    const { status, stderr } = jail("rm", ...words, ...where);
    expect(status).toBe(1);
    expect(stderr).toContain(message);
  });

  it("does not follow a link to somebody else's folder", () => {
    const base = makeBase();
    const other = join(base, "other");
    mkdirSync(join(other, "root"), { recursive: true });
    startOne(join(base, "jails"), "one");
    symlinkSync(other, join(base, "jails/firecracker/two"));
    expect(jail("rm", "two", "--chroot-base-dir", join(base, "jails")).status).toBe(1);
    expect(readdirSync(other)).toEqual(["root"]);
  });

  it("has its help", () => {
    expect(jail("rm", "--help")).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("estalo jail rm ID"),
    });
  });
});

describe.runIf(isRoot)("estalo jail without root (the spec needs root to become nobody)", () => {
  it("says that a jail can only be its user's own, and makes nothing", () => {
    const base = makeBase();
    const { command, script } = nobody();
    const [program, ...rest] = [...command, process.execPath, script, "jail"];
    const words = ["--id", "one", "--exec-file", process.execPath, "--uid", "0", "--gid", "0"];
    const { status, stderr } = spawnSync(program, [...rest, ...words, "--chroot-base-dir", base], {
      encoding: "utf8",
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^Error: Without root, a jail can only be this user's: .*\nhint: /m);
    expect(readdirSync(base)).toEqual([]);
  });
});
