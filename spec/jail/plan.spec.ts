import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makePlan, removalWords } from "../../src/jail/plan.js";
import { isRoot, jailOptions, makeBase } from "../support/jails.js";

const own = isRoot ? {} : { uid: `${process.getuid?.()}`, gid: `${process.getgid?.()}` };
const options = (base: string, more = {}) => jailOptions(base, { ...own, ...more });

describe("makePlan", () => {
  it("writes the launcher's words and makes nothing", () => {
    const base = makeBase();
    const { folder, words } = makePlan(
      options(base, {
        isDaemon: true,
        hasPidNamespace: true,
        netns: "/run/netns/x",
        resourceLimits: ["fsize=5"],
        arguments: ["--api-sock", "s"],
      }),
    );
    expect(folder).toBe(join(base, "node", "one"));
    expect(readdirSync(base)).toEqual([]);
    const text = words.join(" ");
    for (const part of [
      "daemonize",
      "new-pid-ns",
      "netns /run/netns/x",
      "fsize 5",
      "clean",
      `record {"cgroups":[]}`,
    ]) {
      expect(text).toContain(` ${part} `);
    }
    expect(text).toContain("no-file 2048 ");
    expect(text).not.toContain("empty-network");
    expect(text).toMatch(/ -- \/node \/estalo\/bin\/firecracker --id one --api-sock s$/);
  });

  it("adds to the record of a folder that is there, and repeats nothing", () => {
    const base = makeBase();
    const folder = join(base, "node/one");
    mkdirSync(join(folder, "root"), { recursive: true });
    const recordOf = () => {
      const { words } = makePlan(options(base));
      return words.includes("record") ? words[words.indexOf("record") + 1] : undefined;
    };
    expect(recordOf()).toBe('{"cgroups":[]}');
    writeFileSync(join(folder, "estalo-jail.json"), '{"cgroups":["/cg/one"]}');
    expect(recordOf()).toBe(undefined);
  });

  it.each([
    ["an id with a slash", { id: "../x" }],
    ["a user that is none", { uid: "root" }],
    ["a limit", { resourceLimits: ["cpu=1"] }],
    ["a control group", { cgroups: ["cpu"] }],
    ["a missing controller", { cgroups: ["nonsense.max=1"] }],
    ["a version", { cgroupVersion: "3" }],
    ["a parent", { parentCgroup: "/" }],
    ["a program that is not there", { execFile: "/nonsense" }],
  ])("refuses %s", (_, more) => {
    const base = makeBase();
    expect(() => makePlan(options(base, more))).toThrowError();
    expect(readdirSync(base)).toEqual([]);
  });

  it.runIf(!isRoot)("is for its own user only (without root)", () => {
    expect(() => makePlan(jailOptions(makeBase(), { uid: "0" }))).toThrowError(/Without root/);
  });
});

describe("removalWords", () => {
  it("names what the record has", () => {
    const base = makeBase();
    const folder = join(base, "node", "one");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "estalo-jail.json"), '{"cgroups":["/cg/one"]}');
    const words = ["folder", folder, "cgroup", "/cg/one", "kill"];
    expect(removalWords(base, "node", "one", true)).toEqual(words);
  });

  it("refuses what is no jail", () => {
    const base = makeBase();
    expect(() => removalWords(base, "node", "none", false)).toThrowError(/There is no jail in/);
    for (const name of ["../..", "..", ".", "", "a/b"]) {
      expect(() => removalWords(base, name, "x", false)).toThrowError(/not the name of a program/);
    }
    expect(() => removalWords(base, "node", "..", false)).toThrowError(/Invalid instance ID/);
    mkdirSync(join(base, "node/odd"), { recursive: true });
    writeFileSync(join(base, "node/odd/estalo-jail.json"), '{"cgroups":[1]}');
    expect(() => removalWords(base, "node", "odd", false)).toThrowError(/not a jail's record/);
  });

  it("says what keeps it from reading a record", () => {
    const base = makeBase();
    mkdirSync(join(base, "node/one/estalo-jail.json"), { recursive: true });
    expect(() => removalWords(base, "node", "one", false)).toThrowError(
      expect.objectContaining({
        code: "ERR_ESTALO_JAIL",
        data: expect.objectContaining({ errno: "EISDIR" }),
      }),
    );
  });
});
