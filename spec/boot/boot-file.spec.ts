import { closeSync, fstatSync, openSync, truncateSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { readBytes, readIntoGuest, withBootFile } from "../../src/boot/boot-file.js";
import { GIB } from "../../src/units.js";
import { createMemoryOf } from "../support/fake-memory.js";
import { temporaryFiles } from "./kernel-fixtures.js";

const fileOf = temporaryFiles();

describe("withBootFile", () => {
  it("closes what it opened, also after an error", () => {
    const path = fileOf("kernel", Buffer.from("abc"));
    let opened = -1;
    const use = () =>
      withBootFile("kernel", { path }, (file) => {
        opened = file.fd;
        throw new Error("used");
      });
    expect(use).toThrow("used");
    expect(() => fstatSync(opened)).toThrow("EBADF");
  });

  it("leaves the caller's descriptor open", () => {
    const path = fileOf("kernel", Buffer.from("abc"));
    const fd = openSync(path, "r");
    expect(withBootFile("kernel", { path, fd }, (file) => file.sizeBytes)).toBe(3);
    expect(fstatSync(fd).size).toBe(3);
    closeSync(fd);
  });

  it("raises an error when the file shrinks while it is read", () => {
    const path = fileOf("kernel", Buffer.alloc(100));
    const read = () =>
      withBootFile("kernel", { path }, (file) => {
        truncateSync(path, 50);
        return readBytes(file, 0, file.sizeBytes);
      });
    expect(read).toThrow(expect.objectContaining({ code: "ERR_ESTALO_KERNEL_FILE" }));
    expect(read).not.toThrow();
  });
});

describe("readIntoGuest", () => {
  it("reads across a multiple of 4 GiB", () => {
    const memory = createMemoryOf([
      { start: 0, sizeBytes: 4096 },
      { start: 8 * GIB - 4096, sizeBytes: 8192 },
    ]);
    const contents = Buffer.from(Array.from({ length: 600 }, (_, i) => i % 256));
    const path = fileOf("initrd", contents);
    withBootFile("initrd", { path }, (file) => {
      readIntoGuest(file, 0, 600, memory, 8 * GIB - 300);
    });
    expect(Buffer.from(memory.read(8 * GIB - 300, 300))).toEqual(contents.subarray(0, 300));
    expect(Buffer.from(memory.read(8 * GIB, 300))).toEqual(contents.subarray(300));
  });
});
