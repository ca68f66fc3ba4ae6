import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { parseHierarchies, planCgroups } from "../../src/jail/cgroups.js";
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
  sharesParent: false,
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

const nothing = { folders: [], settings: [], joins: [] };

describe("planCgroups", () => {
  it("plans nothing when nothing is asked for", () => {
    expect(planCgroups(request(1, [], "parent"), "")).toEqual(nothing);
    expect(planCgroups(request(2, []), "")).toEqual(nothing);
  });

  it("says which controller is missing", () => {
    expect(() => planCgroups(request(1, ["cpu.shares=1"]), "")).toThrowError(
      expect.objectContaining({
        code: "ERR_ESTALO_JAIL_CONFIG",
        message: "Controller cpu is unavailable",
      }),
    );
    expect(() => planCgroups(request(2, ["cpu.max=1"]), "")).toThrowError("Hierarchy not found");
    const mount = playedMount();
    writeFileSync(join(mount, "cgroup.controllers"), "memory pids\n");
    const mounts = `x ${mount} cgroup2 rw 0 0`;
    expect(() => planCgroups(request(2, ["cpu.max=1"]), mounts)).toThrowError(
      "Controller cpu is unavailable",
    );
  });

  it("joins the parent of version 2 when there is nothing to set", () => {
    const mount = playedMount();
    const mounts = `x ${mount} cgroup2 rw 0 0`;
    expect(() => planCgroups(request(2, [], "there"), mounts)).toThrowError("Hierarchy not found");
    mkdirSync(join(mount, "there"));
    const joins = [join(mount, "there", "cgroup.procs")];
    expect(planCgroups(request(2, [], "there"), mounts)).toEqual({ ...nothing, joins });
  });

  it("makes what is missing of a path, and touches nothing itself", () => {
    const mount = playedMount();
    mkdirSync(join(mount, "a"));
    const words = ["cpu.shares=1", "cpu.cfs_quota_us=2"];
    const { folders, settings, joins } = planCgroups(
      request(1, words, "a/b"),
      `x ${mount} cgroup rw,cpu 0 0`,
    );
    const group = join(mount, "a/b/one");
    expect(folders).toEqual([join(mount, "a/b"), group]);
    expect(settings).toEqual([
      { file: join(group, "cpu.shares"), value: "1" },
      { file: join(group, "cpu.cfs_quota_us"), value: "2" },
    ]);
    expect(joins).toEqual([join(group, "cgroup.procs")]);
    expect(readdirSync(join(mount, "a"))).toEqual([]);
  });

  it.each([1, 2] as const)("takes a shared parent of version %d for its own", (version) => {
    const mount = playedMount();
    mkdirSync(join(mount, "node"));
    writeFileSync(join(mount, "cgroup.controllers"), "cpu\n");
    for (const folder of [mount, join(mount, "node")]) {
      writeFileSync(join(folder, "cgroup.subtree_control"), "cpu\n");
    }
    const mounts = `x ${mount} ${version === 1 ? "cgroup" : "cgroup2"} rw,cpu 0 0`;
    const own = { ...request(version, ["cpu.weight=1"]), sharesParent: true };
    const folders = [join(mount, "node"), join(mount, "node/one")];
    expect(planCgroups(own, mounts).folders).toEqual(folders);
    mkdirSync(folders[1]);
    expect(planCgroups(own, mounts).folders).toEqual(folders.slice(0, 1));
  });

  it.each([
    [1, "cpuset.cpus=1", { "cpuset.cpus": "2-3\n", "cpuset.mems": "0\n" }, ["2-3", "0"]],
    [2, "memory.max=1", { "cgroup.subtree_control": "memory\n" }, ["+memory"]],
  ] as const)("writes again what a shared parent of version %d has: it may go first", (...one) => {
    const [version, word, files, values] = one;
    const mount = playedMount();
    mkdirSync(join(mount, "node"));
    writeFileSync(join(mount, "cgroup.controllers"), "memory\n");
    for (const [name, text] of Object.entries(files)) {
      for (const folder of ["", "node"]) writeFileSync(join(mount, folder, name), text);
    }
    const mounts = `x ${mount} ${version === 1 ? "cgroup" : "cgroup2"} rw,cpuset 0 0`;
    const settingsOf = (sharesParent: boolean) =>
      planCgroups({ ...request(version, [word]), sharesParent }, mounts).settings.filter(
        ({ file }) => dirname(file) === join(mount, "node"),
      );
    expect(settingsOf(false)).toEqual([]);
    expect(settingsOf(true).map(({ value }) => value)).toEqual(values);
  });

  it("gives a group of version 1 the processors and memory nodes of the one above, once", () => {
    const mount = playedMount();
    mkdirSync(join(mount, "a"));
    const files = { "cpuset.cpus": "0-3\n", "cpuset.mems": "0\n", "a/cpuset.mems": "0\n" };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(mount, name), text);
    writeFileSync(join(mount, "a/cpuset.cpus"), "\n");
    const words = ["cpuset.cpus=1", "cpuset.mems=0"];
    const { settings } = planCgroups(request(1, words, "a"), `x ${mount} cgroup rw,cpuset 0 0`);
    expect(settings.map(({ file, value }) => [file.slice(mount.length + 1), value])).toEqual([
      ["a/cpuset.cpus", "0-3"],
      ["a/one/cpuset.cpus", "0-3"],
      ["a/one/cpuset.mems", "0"],
      ["a/one/cpuset.cpus", "1"],
      ["a/one/cpuset.mems", "0"],
    ]);
  });

  it("hands a controller of version 2 down to the jail's group", () => {
    const mount = playedMount();
    mkdirSync(join(mount, "a"));
    const control = "cgroup.subtree_control";
    writeFileSync(join(mount, "cgroup.controllers"), "cpu memory\n");
    writeFileSync(join(mount, control), "cpu memory\n");
    writeFileSync(join(mount, "a", control), "\n");
    const words = ["memory.max=1000", "memory.high=900"];
    const plan = planCgroups(request(2, words, "a/b"), `x ${mount} cgroup2 rw 0 0`);
    const group = join(mount, "a/b/one");
    expect(plan).toEqual({
      folders: [join(mount, "a/b"), group],
      settings: [
        { file: join(mount, "a", control), value: "+memory" },
        { file: join(mount, "a/b", control), value: "+memory" },
        { file: join(group, "memory.max"), value: "1000" },
        { file: join(group, "memory.high"), value: "900" },
      ],
      joins: [join(group, "cgroup.procs")],
    });
  });
});
