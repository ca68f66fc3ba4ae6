import { readdirSync, readlinkSync, truncateSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PmemFile } from "../../../src/actors/backends/pmem-file.js";
import { MIB } from "../../../src/units.js";
import { Scratch } from "../../support/tiny-guest.js";

describe("PmemFile", () => {
  let scratch: Scratch;
  let path: string;
  beforeEach(() => {
    scratch = new Scratch();
    path = scratch.file("a.img", new Uint8Array(3 * MIB));
  });
  afterEach(() => scratch[Symbol.dispose]());

  const isOpen = () =>
    readdirSync("/proc/self/fd").some((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === path;
      } catch {
        return false;
      }
    });

  it("has a window of whole 2 MiB, and the file's own length", () => {
    const file = new PmemFile({ id: "a", path, readOnly: false });
    expect([file.sizeBytes, file.mapping.windowBytes]).toEqual([3 * MIB, 4 * MIB]);
    file.close();
    expect(file.mapping.windowBytes).toBe(0);
    expect(isOpen()).toBe(false);
  });

  it("makes the file stable on another thread, and closes it after that", async () => {
    const file = new PmemFile({ id: "a", path, readOnly: true });
    const done = new Promise((resolve) => file.sync(resolve));
    file.close();
    file.close();
    expect(isOpen()).toBe(true);
    expect(await done).toBe(true);
    expect(isOpen()).toBe(false);
  });

  it("does not mind a file that is cut off meanwhile", async () => {
    const file = new PmemFile({ id: "a", path, readOnly: false });
    truncateSync(path, 0);
    expect(await new Promise((resolve) => file.sync(resolve))).toBe(true);
    file.close();
  });
});
