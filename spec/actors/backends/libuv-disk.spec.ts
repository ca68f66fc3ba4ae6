import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LibuvDisk } from "../../../src/actors/backends/libuv-disk.js";
import { DISK_WRITE } from "../../../src/devices/backend.js";
import { KIB, MIB } from "../../../src/units.js";
import {
  DiskBench as Bench,
  type DiskBench,
  describeDisk,
  pattern,
} from "../../support/disk-bench.js";
import { smallFileSystem } from "../../support/small-file-system.js";

const create = (bench: DiskBench, file: DiskBench["file"]) => new LibuvDisk(file, bench.memory);

describeDisk("LibuvDisk", create);

describe("LibuvDisk", () => {
  it("offers no discard, which Node has no call for", () => {
    const disk = new Bench(pattern(4 * KIB), create);
    expect(disk.backend.supportsDiscard).toBe(false);
    disk.close();
  });
});

const small = smallFileSystem(256 * KIB);
describe.skipIf(small === undefined)("LibuvDisk on a full file system (needs mount)", () => {
  let disk: DiskBench;
  beforeEach(() => {
    disk = new Bench(new Uint8Array(), create, { parent: small });
  });
  afterEach(() => disk.close());

  it("answers EIO when what is left of a write finds no more room", async () => {
    disk.memory.fill(0, 1 * MIB, 1);
    expect(await disk.transfer(DISK_WRITE, 0, [[0, 1 * MIB]])).toBeLessThan(0);
    expect(disk.content().length).toBeLessThanOrEqual(256 * KIB);
  });
});
