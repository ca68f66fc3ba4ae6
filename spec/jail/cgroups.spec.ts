import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { makeCgroups, parseHierarchies, removeCgroups } from "../../src/jail/cgroups.js";
import { checkCgroups } from "../../src/jail/options.js";

/** A folder that plays a mounted hierarchy; its files are made by hand, as the kernel would. */
function playedMount(): string {
  const folder = mkdtempSync(join(tmpdir(), "estalo-cgroups-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const request = (version: 1 | 2, words: string[], parent?: string) => ({
  version,
  settings: checkCgroups(words),
  parent,
  defaultParent: "node",
  id: "one",
});

describe("parseHierarchies", () => {
  it("finds both versions, with blanks in their paths", () => {
    const mounts = [
      "cgroup /cg/cpu cgroup rw,cpu,cpuacct 0 0",
      "none /c\\040g/all cgroup2 rw 0 0",
      "/dev/vda / ext4 rw 0 0",
      "",
    ].join("\n");
    expect(parseHierarchies(mounts)).toEqual([
      { mount: "/cg/cpu", version: 1, options: ["rw", "cpu", "cpuacct"] },
      { mount: "/c g/all", version: 2, options: ["rw"] },
    ]);
  });
});

describe("makeCgroups", () => {
  it("makes nothing when nothing is asked for", () => {
    expect(makeCgroups(request(1, [], "parent"), "")).toEqual({ made: [], joins: [] });
    expect(makeCgroups(request(2, []), "")).toEqual({ made: [], joins: [] });
  });

  it("says which controller is missing", () => {
    expect(() => makeCgroups(request(1, ["cpu.shares=1"]), "")).toThrowError(
      expect.objectContaining({
        code: "ERR_ESTALO_JAIL_CONFIG",
        message: "Controller cpu is unavailable",
      }),
    );
    expect(() => makeCgroups(request(2, ["cpu.max=1"]), "")).toThrowError("Hierarchy not found");
    const mount = playedMount();
    writeFileSync(join(mount, "cgroup.controllers"), "memory pids\n");
    const mounts = `x ${mount} cgroup2 rw 0 0`;
    expect(() => makeCgroups(request(2, ["cpu.max=1"]), mounts)).toThrowError(
      "Controller cpu is unavailable",
    );
  });

  it("joins the parent of version 2 when there is nothing to set", () => {
    const mount = playedMount();
    const mounts = `x ${mount} cgroup2 rw 0 0`;
    expect(() => makeCgroups(request(2, [], "there"), mounts)).toThrowError("Hierarchy not found");
    mkdirSync(join(mount, "there"));
    expect(makeCgroups(request(2, [], "there"), mounts)).toEqual({
      made: [],
      joins: [join(mount, "there", "cgroup.procs")],
    });
  });

  it("leaves nothing behind when a file is not the controller's", () => {
    const mount = playedMount();
    const mounts = `x ${mount} cgroup rw,cpu 0 0`;
    expect(() => makeCgroups(request(1, ["cpu.nonsense=1"], "a/b"), mounts)).toThrowError(
      expect.objectContaining({ code: "ERR_ESTALO_JAIL" }),
    );
    expect(existsSync(join(mount, "a"))).toBe(false);
  });

  it("hands a controller of version 2 down to the jail's group", () => {
    const mount = playedMount();
    mkdirSync(join(mount, "node/one"), { recursive: true });
    const control = "cgroup.subtree_control";
    writeFileSync(join(mount, "cgroup.controllers"), "cpu memory\n");
    writeFileSync(join(mount, control), "cpu memory");
    writeFileSync(join(mount, "node", control), "");
    writeFileSync(join(mount, "node/one/memory.max"), "");
    const { joins } = makeCgroups(request(2, ["memory.max=1000"]), `x ${mount} cgroup2 rw 0 0`);
    expect(joins).toEqual([join(mount, "node/one/cgroup.procs")]);
    expect(readFileSync(join(mount, control), "utf8")).toBe("cpu memory");
    expect(readFileSync(join(mount, "node", control), "utf8")).toBe("+memory");
    expect(readFileSync(join(mount, "node/one/memory.max"), "utf8")).toBe("1000");
  });
});

describe("removeCgroups", () => {
  it("goes from the inside out and leaves what is in use", () => {
    const mount = playedMount();
    for (const name of ["a", "a/b", "a/b/c"]) mkdirSync(join(mount, name));
    removeCgroups([join(mount, "a"), join(mount, "a/b"), join(mount, "a/b/c")]);
    expect(existsSync(join(mount, "a"))).toBe(false);
    mkdirSync(join(mount, "a/b"), { recursive: true });
    removeCgroups([join(mount, "a"), join(mount, "gone")]);
    expect(existsSync(join(mount, "a/b"))).toBe(true);
  });
});
