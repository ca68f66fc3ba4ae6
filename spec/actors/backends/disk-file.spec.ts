import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDiskFile } from "../../../src/actors/backends/disk-file.js";
import { EstaloError } from "../../../src/errors.js";
import { GIB } from "../../../src/units.js";

describe("openDiskFile", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "estalo-disk-file-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const open = (path: string, readOnly = false) => openDiskFile({ id: "data", path, readOnly });

  /** The error of a drive that cannot be opened; nothing stays open. */
  function failure(path: string, readOnly = false): EstaloError {
    const before = readdirSync("/proc/self/fd").length;
    try {
      open(path, readOnly);
    } catch (error) {
      expect(readdirSync("/proc/self/fd")).toHaveLength(before);
      expect(error).toBeInstanceOf(EstaloError);
      return error as EstaloError;
    }
    throw new Error(`${path} could be opened`);
  }

  function file(name: string, sizeBytes: number): string {
    const path = join(folder, name);
    writeFileSync(path, "");
    truncateSync(path, sizeBytes);
    return path;
  }

  it.each([
    ["empty", 0, 0],
    ["less than a sector", 511, 0],
    ["a sector", 512, 512],
    ["a sector and a bit", 1023, 512],
    ["larger than 4 GiB", 5 * GIB + 700, 5 * GIB + 512],
  ])("measures a file that is %s in whole sectors", (name, fileBytes, sizeBytes) => {
    const disk = open(file(name, fileBytes));
    expect(disk.sizeBytes).toBe(sizeBytes);
    closeSync(disk.fd);
  });

  it("opens for reading only when the drive is read-only", () => {
    const disk = open(file("read-only", 512), true);
    const flags = /^flags:\s+([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${disk.fd}`, "utf8"));
    expect(Number.parseInt(flags?.[1] ?? "", 8) & 3).toBe(0);
    expect(disk.readOnly).toBe(true);
    closeSync(disk.fd);
  });

  it("identifies the file by device and inode numbers, through every name it has", () => {
    const path = file("named", 512);
    symlinkSync(path, join(folder, "link"));
    const [direct, linked] = [open(path), open(join(folder, "link"))];
    const { dev, ino } = statSync(path);
    const serial = Buffer.from(direct.serial).toString().replace(/\0+$/, "");
    expect(direct.serial).toHaveLength(20);
    expect(serial).toBe(`${dev}0${ino}`.slice(0, 20));
    expect(linked.serial).toEqual(direct.serial);
    for (const { fd } of [direct, linked]) closeSync(fd);
  });

  it("names drive, path and errno of a file that is not there, and how to make one", () => {
    const path = join(folder, "missing");
    expect(failure(path)).toMatchObject({
      code: "ERR_ESTALO_DRIVE_FILE",
      message: `open drive data (${path}): ENOENT`,
      hint: `truncate --size 1G ${path} makes an empty disk`,
      data: { operation: "open", errno: "ENOENT" },
    });
  });

  it("refuses a directory", () => {
    mkdirSync(join(folder, "directory"));
    expect(failure(join(folder, "directory"), true).message).toContain("is a directory");
  });

  it("refuses a FIFO without waiting for its other end", () => {
    const path = join(folder, "fifo");
    execFileSync("mkfifo", [path]);
    expect(failure(path).message).toContain("is neither a file nor a block device");
  });

  it("refuses a character device", () => {
    expect(failure("/dev/null").message).toContain("is neither a file nor a block device");
  });

  it.skipIf(process.getuid?.() === 0)("needs write permission (root has it always)", () => {
    const path = file("not-writable", 512);
    chmodSync(path, 0o444);
    expect(failure(path)).toMatchObject({
      data: { errno: "EACCES" },
      hint: "attach it read-only, or change its permissions",
    });
    closeSync(open(path, true).fd);
  });

  it("needs a file system that can be written, unless the drive is read-only", () => {
    // /sys/kernel/notes is a regular file that nobody may write, not even root.
    const error = failure("/sys/kernel/notes");
    expect(error.data.errno).toMatch(/^E(ACCES|PERM|ROFS)$/);
    expect(error.hint).toContain("read-only");
  });
});

/** A loop device over a file of `sizeBytes`; `undefined` where we may not set one up. */
function loopDevice(path: string): string | undefined {
  try {
    const args = ["--find", "--show", path];
    return execFileSync("losetup", args, { encoding: "utf8", stdio: "pipe" }).trim();
  } catch {
    return undefined;
  }
}

describe("openDiskFile on a block device", () => {
  const folder = mkdtempSync(join(tmpdir(), "estalo-loop-"));
  const image = join(folder, "image");
  writeFileSync(image, "");
  truncateSync(image, 3 * 1024 * 1024 + 512);
  const device = loopDevice(image);
  afterAll(() => {
    if (device !== undefined) execFileSync("losetup", ["--detach", device]);
    rmSync(folder, { recursive: true });
  });

  it.skipIf(device === undefined)("measures it in its own sectors (needs losetup)", () => {
    const disk = openDiskFile({ id: "loop", path: device as string, readOnly: true });
    expect(disk.sizeBytes).toBe(3 * 1024 * 1024 + 512);
    closeSync(disk.fd);
  });
});
