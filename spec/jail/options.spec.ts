import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  checkCgroups,
  checkCgroupVersion,
  checkId,
  checkLimits,
  checkParentCgroup,
  checkUser,
} from "../../src/jail/options.js";

const CODE = "ERR_ESTALO_JAIL_CONFIG";
const refusal = (message: string) => expect.objectContaining({ code: CODE, message });

describe("checkId", () => {
  it.each(["a", "Vm-1", "x".repeat(64)])("takes %s", (id) => {
    expect(() => checkId(id)).not.toThrow();
  });

  it.each([
    ["", "Invalid instance ID: Invalid len (0);  the length must be between 1 and 64"],
    ["x".repeat(65), "Invalid instance ID: Invalid len (65);  the length must be between 1 and 64"],
    ["a/b", "Invalid instance ID: Invalid char (/) at position 2"],
    ["..", "Invalid instance ID: Invalid char (.) at position 1"],
    ["a\0", "Invalid instance ID: Invalid char (\0) at position 2"],
  ])("refuses %j", (id, message) => {
    expect(() => checkId(id)).toThrowError(refusal(message));
  });

  it("lets nothing through that means something in a path", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (id) => {
        try {
          checkId(id);
        } catch {
          return true;
        }
        return /^[A-Za-z0-9-]+$/.test(id);
      }),
    );
  });
});

describe("checkUser", () => {
  it("takes numbers of users", () => {
    expect(checkUser("uid", "0")).toBe(0);
    expect(checkUser("gid", "4294967294")).toBe(4_294_967_294);
  });

  it.each(["", "root", "-1", "1.5", "4294967295", "99999999999", "0x10", " 1"])(
    "refuses %j",
    (text) => {
      expect(() => checkUser("uid", text)).toThrowError(refusal(`Invalid uid: ${text}`));
    },
  );
});

describe("checkLimits", () => {
  it("has Firecracker's default", () => {
    expect(checkLimits([])).toEqual({ noFile: 2048n });
  });

  it("takes both, the last of each", () => {
    expect(checkLimits(["fsize=1", "no-file=9", "fsize=250000000"])).toEqual({
      fsize: 250_000_000n,
      noFile: 9n,
    });
  });

  it.each([
    ["fsize", "Invalid format for resources limits: fsize"],
    ["fsize=1=2", "Invalid format for resources limits: fsize=1=2"],
    ["nproc=3", "Invalid resource argument: nproc"],
    ["no-file=-1", "Invalid limit value for resource: -1: not a whole number"],
    ["no-file=", "Invalid limit value for resource: : not a whole number"],
    ["fsize=9223372036854775808", expect.stringContaining("Invalid limit value")],
  ])("refuses %s", (word, message) => {
    expect(() => checkLimits([word])).toThrowError(refusal(message));
  });
});

describe("checkCgroups", () => {
  it("takes file and value, which may hold more of the signs", () => {
    expect(checkCgroups(["cpu.shares=10", "io.max=8:0 rbps=1048576"])).toEqual([
      { file: "cpu.shares", controller: "cpu", value: "10" },
      { file: "io.max", controller: "io", value: "8:0 rbps=1048576" },
    ]);
  });

  it.each([
    ["cpu.shares", "Invalid format for cgroups: cpu.shares"],
    ["cpu.shares=", "Invalid format for cgroups: cpu.shares="],
    ["=3", "Invalid format for cgroups: =3"],
    ["../cpu.shares=3", "Cgroup invalid file: ../cpu.shares"],
    ["cpu..shares=3", "Cgroup invalid file: cpu..shares"],
    ["cpu/x.shares=3", "Cgroup invalid file: cpu/x.shares"],
    ["tasks=3", "Cgroup invalid file: tasks"],
  ])("refuses %s", (word, message) => {
    expect(() => checkCgroups([word])).toThrowError(refusal(message));
  });
});

describe("parent and version", () => {
  it.each(["a", "a/b", "machine.slice/vm"])("takes the parent %s", (path) => {
    expect(checkParentCgroup(path)).toBe(path);
  });

  it.each(["/a", "a/..", "./a", "a//b", ""])("refuses the parent %j", (path) => {
    expect(() => checkParentCgroup(path)).toThrowError(expect.objectContaining({ code: CODE }));
  });

  it("knows two versions", () => {
    expect([checkCgroupVersion("1"), checkCgroupVersion("2")]).toEqual([1, 2]);
    expect(() => checkCgroupVersion("3")).toThrowError(
      refusal("3 is an invalid cgroup version specifier"),
    );
  });
});
