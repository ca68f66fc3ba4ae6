import { execFileSync } from "node:child_process";
import { statSync, truncateSync, writeFileSync } from "node:fs";
import { constants as os } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { UringDisk } from "../../../src/actors/backends/uring-disk.js";
import {
  DISK_DISCARD,
  DISK_FLUSH,
  DISK_READ,
  DISK_WRITE,
  DISK_WRITE_ZEROES,
} from "../../../src/devices/backend.js";
import { GIB, KIB, MIB } from "../../../src/units.js";
import { DiskBench, describeDisk, pattern } from "../../support/disk-bench.js";
import { smallFileSystem } from "../../support/small-file-system.js";
import { runAlone } from "../../support/threads.js";

const create = (bench: DiskBench, file: DiskBench["file"]) =>
  new UringDisk(file, bench.mapping, bench.host, (error) => bench.errors.push(error));

/** Where io_uring is missing or forbidden there is nothing to test: `ioEngine: "auto"` uses LibuvDisk. */
function uringMissing(): boolean {
  try {
    new DiskBench(new Uint8Array(512), create).close();
    return false;
  } catch {
    return true;
  }
}

describe.skipIf(uringMissing())("with io_uring (needs a kernel that allows it)", () => {
  describeDisk("UringDisk", create);

  describe("UringDisk", () => {
    const content = pattern(4 * MIB);
    let disk: DiskBench;
    beforeEach(() => {
      disk = new DiskBench(content, create);
    });
    afterEach(() => {
      expect(disk.errors).toEqual([]);
      disk.close();
    });
    const blocks = () => statSync(disk.path).blocks;

    it("hands a whole batch over in one system call", async () => {
      const ring = disk.backend as UringDisk;
      const results = Array.from({ length: 100 }, (_, i) =>
        disk.enqueue(DISK_READ, i * 512, 512, [[i * 512, 512]]),
      );
      ring.submit();
      ring.submit();
      await Promise.all(results);
      expect([ring.submitCount, ring.requestCount]).toEqual([1, 100]);
    });

    it("answers within submit what the page cache holds, and is not woken for it later", async () => {
      const results = [0, 1, 2].map((i) =>
        disk.enqueue(DISK_READ, i * 4096, 4096, [[i * 4096, 4096]]),
      );
      disk.backend.submit();
      expect([disk.inFlight, disk.batches]).toEqual([0, 1]);
      expect(await Promise.all(results)).toEqual([0, 0, 0]);
      await new Promise((resolve) => setTimeout(resolve, 20));
      expect(disk.batches).toBe(1);
    });

    it("takes a batch that is longer than its command stream", async () => {
      const results = Array.from({ length: 40 }, (_, i) => {
        const at = MIB + i * 64 * KIB;
        const segments = Array.from({ length: 128 }, (_, j) => [at + j * 512, 512] as const);
        return disk.enqueue(DISK_READ, i * 64 * KIB, 64 * KIB, segments);
      });
      disk.backend.submit();
      expect(new Set(await Promise.all(results))).toEqual(new Set([0]));
      const read = disk.memory.read(MIB, 40 * 64 * KIB);
      expect(Buffer.from(read).equals(content.slice(0, 40 * 64 * KIB))).toBe(true);
    });

    it("makes a hole of what is discarded, and reads zeros there", async () => {
      const before = blocks();
      expect(await disk.request(DISK_DISCARD, 1 * MIB, 2 * MIB)).toBe(0);
      expect(blocks()).toBeLessThan(before);
      expect(
        disk
          .content()
          .subarray(MIB, 3 * MIB)
          .equals(Buffer.alloc(2 * MIB)),
      ).toBe(true);
      expect(disk.content().subarray(0, MIB).equals(content.slice(0, MIB))).toBe(true);
      expect(disk.content()).toHaveLength(4 * MIB);
    });

    it.each([
      ["keeping the blocks", false],
      ["giving the blocks up when it may", true],
    ])("writes zeroes, %s", async (_, unmap) => {
      expect(await disk.request(DISK_WRITE_ZEROES, 1 * MIB, 1 * MIB, [], unmap)).toBe(0);
      const expected = Buffer.from(content).fill(0, MIB, 2 * MIB);
      expect(disk.content().equals(expected)).toBe(true);
    });

    it("keeps a batch's order of effects where a flush separates two", async () => {
      disk.memory.fill(0, 512, 1);
      await disk.transfer(DISK_WRITE, 0, [[0, 512]]);
      const results = [
        disk.enqueue(DISK_FLUSH, 0, 0),
        disk.enqueue(DISK_READ, 0, 512, [[4096, 512]]),
      ];
      disk.backend.submit();
      expect(await Promise.all(results)).toEqual([0, 0]);
      expect(disk.memory.readU8(4096)).toBe(1);
    });

    it("offers no discard on a drive that is read-only", () => {
      const readOnly = new DiskBench(content, create, { readOnly: true });
      expect(readOnly.backend.supportsDiscard).toBe(false);
      expect(disk.backend.supportsDiscard).toBe(true);
      readOnly.close();
    });

    it("refuses a segment outside RAM, and a tag that is in flight, as our own mistakes", () => {
      const other = new DiskBench(content, create);
      const enqueue = (tag: number, address: number) =>
        other.backend.enqueue(
          tag,
          DISK_READ,
          0,
          512,
          Float64Array.of(address),
          Uint32Array.of(512),
          0,
          1,
          false,
        );
      for (const address of [2 ** 33 * 2, 1024 * MIB - 511, -512, Number.NaN]) {
        enqueue(1, address);
        expect(() => other.backend.submit()).toThrow("outside guest memory");
      }
      enqueue(500, 0);
      expect(() => other.backend.submit()).toThrow(expect.objectContaining({ code: "EINVAL" }));
      enqueue(2, 0);
      enqueue(2, 0);
      expect(() => other.backend.submit()).toThrow(expect.objectContaining({ code: "EBUSY" }));
      other.backend.onComplete = undefined;
      other.close();
    });
  });

  const small = smallFileSystem(256 * KIB);
  describe.skipIf(small === undefined)("UringDisk on a small tmpfs (needs mount)", () => {
    let disk: DiskBench;
    beforeEach(() => {
      disk = new DiskBench(new Uint8Array(16 * KIB), create, { parent: small });
    });
    afterEach(() => disk.close());

    it("answers ENOSPC when there is no room for a write", async () => {
      disk.memory.fill(0, 1 * MIB, 1);
      expect(await disk.transfer(DISK_WRITE, 0, [[0, 1 * MIB]])).toBe(-os.errno.ENOSPC);
      expect(await disk.transfer(DISK_READ, 0, [[0x3000, 512]])).toBe(0);
      expect(disk.memory.readU8(0x3000)).toBe(1);
    });

    it("ends a long request with the part that is under way when nobody waits for it", async () => {
      truncateSync(disk.path, 3 * GIB);
      const segments = Array.from({ length: 48 }, () => [0, 64 * MIB] as const);
      const long = disk.enqueue(DISK_READ, 0, 3 * GIB, segments);
      const short = disk.enqueue(DISK_READ, 0, 512, [[0, 512]]);
      disk.backend.submit();
      (disk.backend as UringDisk).abandon();
      expect(await Promise.all([long, short])).toEqual([-os.errno.ECANCELED, 0]);
    });

    it("writes zeroes by a hole where the file system cannot zero a range", async () => {
      disk.memory.fill(0, 16 * KIB, 1);
      await disk.transfer(DISK_WRITE, 0, [[0, 16 * KIB]]);
      expect(await disk.request(DISK_WRITE_ZEROES, 4 * KIB, 8 * KIB)).toBe(0);
      const expected = Buffer.alloc(16 * KIB, 1).fill(0, 4 * KIB, 12 * KIB);
      expect(disk.content().equals(expected)).toBe(true);
    });
  });

  it("has the kernel's own threads copy what is long, however much of it the page cache holds", async () => {
    const disk = new DiskBench(pattern(8 * MIB), create);
    const program = `
      import { readdirSync, readFileSync } from "node:fs";
      import { openDiskFile } from "./src/actors/backends/disk-file.js";
      import { UringDisk } from "./src/actors/backends/uring-disk.js";
      import { DeviceHost } from "./src/actors/device-host.js";
      import { native } from "./src/native/binding.js";
      const mapping = new (native().GuestMapping)([{ start: 0, sizeBytes: 1048576 }]);
      const file = openDiskFile({ id: "d", path: ${JSON.stringify(disk.path)}, readOnly: false });
      const disk = new UringDisk(file, mapping, new DeviceHost(), (error) => { throw error; });
      // They stay for some seconds.
      const workers = () => readdirSync("/proc/self/task").filter((id) =>
        readFileSync("/proc/self/task/" + id + "/comm", "utf8").startsWith("iou-wrk")).length;
      const read = (mib) => new Promise((resolve) => {
        disk.onComplete = (_tag, result) => resolve([result, workers() > 0]);
        const addresses = new Float64Array(mib);
        disk.enqueue(0, 0, 0, mib * 1048576, addresses, new Uint32Array(mib).fill(1048576), 0, mib, false);
        disk.submit();
      });
      const results = [await read(1), await read(8)];
      disk.close();
      console.log(JSON.stringify(results));
    `;
    const output = await runAlone(program);
    disk.close();
    expect(JSON.parse(output)).toEqual([
      [0, false],
      [0, true],
    ]);
  });

  describe("UringDisk when the kernel has no memory for its requests", () => {
    // Stands before the C library's syscall(): some io_uring_enter calls of the addon fail, or take one
    // request less than they were given.
    const SHIM = `
      #define _GNU_SOURCE
      #include <dlfcn.h>
      #include <errno.h>
      #include <sys/syscall.h>
      static long turn;
      long syscall(long n, long a, long b, long c, long d, long e, long f) {
        static long (*real)(long, ...);
        if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
        if (n == SYS_io_uring_enter && b > 0 && c == 0) {
          turn++;
          if (turn % 4 == 1) { errno = EAGAIN; return -1; }
          if (turn % 4 == 2) { errno = EBUSY; return -1; }
          if (turn % 4 == 3 && b > 1) b--;
        }
        return real(n, a, b, c, d, e, f);
      }
    `;

    it("offers them again until all are answered", async () => {
      const disk = new DiskBench(pattern(1 * MIB), create);
      const shim = join(disk.folder, "shim.so");
      writeFileSync(`${shim}.c`, SHIM);
      execFileSync("gcc", ["-shared", "-fPIC", "-o", shim, `${shim}.c`, "-ldl"]);
      const program = `
        import { openDiskFile } from "./src/actors/backends/disk-file.js";
        import { UringDisk } from "./src/actors/backends/uring-disk.js";
        import { DeviceHost } from "./src/actors/device-host.js";
        import { native } from "./src/native/binding.js";
        const mapping = new (native().GuestMapping)([{ start: 0, sizeBytes: 1048576 }]);
        const file = openDiskFile({ id: "d", path: ${JSON.stringify(disk.path)}, readOnly: false });
        const disk = new UringDisk(file, mapping, new DeviceHost(), (error) => { throw error; });
        const results = [];
        disk.onComplete = (tag, result) => results.push([tag, result]);
        let rounds = 0;
        disk.onBatchEnd = () => {
          if (results.length < 16 * (rounds + 1)) return;
          rounds += 1;
          if (rounds < 10) return submit();
          disk.close();
          console.log(JSON.stringify([results.length, results.every(([, result]) => result === 0)]));
        };
        function submit() {
          for (let tag = 0; tag < 16; tag++) {
            const [at, length] = [Float64Array.of(tag * 4096), Uint32Array.of(4096)];
            disk.enqueue(tag, 0, tag * 4096, 4096, at, length, 0, 1, false);
          }
          disk.submit();
        }
        submit();
      `;
      const output = await runAlone(program, { env: { LD_PRELOAD: shim } });
      disk.close();
      expect(JSON.parse(output)).toEqual([160, true]);
    });
  });
});
