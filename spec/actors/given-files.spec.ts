import { execFileSync } from "node:child_process";
import { closeSync, fstatSync, openSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { checkConfig } from "../../src/actors/config.js";
import { GivenFiles, openFiles } from "../../src/actors/given-files.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const openDescriptors = () => readdirSync("/proc/self/fd");

const file = (name: string) => {
  const path = join(scratch.path, name);
  writeFileSync(path, Buffer.alloc(4096));
  return path;
};

const fifo = join(scratch.path, "fifo");
execFileSync("mkfifo", [fifo]);

describe("GivenFiles", () => {
  const open = () => openSync("/dev/null", "r");

  it("gives each descriptor away once, those for one use in order", () => {
    const [first, second, kernel] = [open(), open(), open()];
    const given = new GivenFiles([
      ["interface lan", first],
      ["interface lan", second],
      ["kernel", kernel],
    ]);
    const take = () => given.take("interface lan");
    expect([take(), take(), take()]).toEqual([first, second, undefined]);
    expect(given.take("drive data")).toBeUndefined();
    given.close();
    expect(() => fstatSync(kernel)).toThrow("EBADF");
    for (const fd of [first, second]) closeSync(fd);
  });

  it("keeps files to load, and has the path where none was given", () => {
    const fd = open();
    const given = new GivenFiles([["kernel", fd]]);
    expect(given.bootFile("kernel", "/k")).toEqual({ path: "/k", fd });
    expect(given.bootFile("initrd", "/i")).toEqual({ path: "/i" });
    given.close();
    expect(() => fstatSync(fd)).toThrow("EBADF");
  });
});

describe("openFiles", () => {
  const config = {
    kernel: file("kernel"),
    initrd: file("initrd"),
    drives: [{ id: "data", path: file("disk") }],
    pmem: [{ id: "log", path: file("pmem") }],
  };

  it("opens what a microVM would, by use", () => {
    const opened = openFiles(checkConfig(config));
    const seen = opened.map(([use, fd]) => [use, readlinkSync(`/proc/self/fd/${fd}`)]);
    expect(seen).toEqual([
      ["kernel", config.kernel],
      ["initrd", config.initrd],
      ["drive data", config.drives[0].path],
      ["pmem log", config.pmem[0].path],
    ]);
    for (const [, fd] of opened) closeSync(fd);
  });

  it.each([
    [{ kernel: "/nowhere" }, "ERR_ESTALO_KERNEL_FILE"],
    [{ kernel: "/" }, "ERR_ESTALO_KERNEL_FILE"],
    [{ kernel: fifo }, "ERR_ESTALO_KERNEL_FILE"],
    [{ initrd: "/nowhere" }, "ERR_ESTALO_INITRD_FILE"],
    [{ drives: [{ path: "/nowhere" }] }, "ERR_ESTALO_DRIVE_FILE"],
    [{ networkInterfaces: [{ tap: "nowhere0" }] }, "ERR_ESTALO_TAP"],
    [{ pmem: [{ path: "/nowhere" }] }, "ERR_ESTALO_PMEM_FILE"],
  ])("leaves nothing open when %j cannot be", (change, code) => {
    const before = openDescriptors();
    expect(() => openFiles(checkConfig({ ...config, ...change }))).toThrow(
      expect.objectContaining({ code }),
    );
    expect(openDescriptors()).toEqual(before);
  });
});
