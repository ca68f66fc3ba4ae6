import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { openDiskFile } from "../../src/actors/backends/disk-file.js";
import { LibuvDisk } from "../../src/actors/backends/libuv-disk.js";
import { UringDisk } from "../../src/actors/backends/uring-disk.js";
import { FilteredDisk } from "../../src/actors/block-middleware.js";
import type { CheckedDrive, IoEngine } from "../../src/actors/config.js";
import { DeviceHost } from "../../src/actors/device-host.js";
import { DriveSet } from "../../src/actors/drive-set.js";
import type { VirtioBlock } from "../../src/devices/virtio/block.js";
import { type NativeGuestMapping, type NativeVm, native } from "../../src/native/binding.js";
import { GuestMemory } from "../../src/native/guest-memory.js";
import { KIB, MIB } from "../../src/units.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const REGIONS = [{ start: 0, sizeBytes: 1 * MIB }];
const SECTOR = 512;
const READ = 0;

describe("DriveSet", () => {
  let folder: string;
  let mapping: NativeGuestMapping;
  let memory: GuestMemory;
  let errors: unknown[];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "estalo-drives-"));
    mapping = new (native().GuestMapping)(REGIONS);
    memory = new GuestMemory(mapping.buffer, REGIONS);
    errors = [];
  });
  afterEach(() => {
    expect(openFiles()).toEqual([]);
    expect(errors).toEqual([]);
    mapping.close();
    rmSync(folder, { recursive: true });
  });

  /** Names of this spec's files that are open, once for each descriptor. */
  function openFiles(): string[] {
    return readdirSync("/proc/self/fd").flatMap((fd) => {
      try {
        const path = readlinkSync(`/proc/self/fd/${fd}`);
        return path.startsWith(folder) ? [path.slice(folder.length + 1)] : [];
      } catch {
        return [];
      }
    });
  }

  /** A file of so many bytes of its name's first letter. */
  function file(name: string, sizeBytes = 8 * KIB): string {
    const path = join(folder, name);
    writeFileSync(path, name[0].repeat(sizeBytes));
    return path;
  }

  function drive(id: string, options: Partial<CheckedDrive> = {}): CheckedDrive {
    return {
      id,
      path: options.path ?? file(id),
      isRoot: false,
      partuuid: undefined,
      readOnly: false,
      cacheType: "Writeback",
      ioEngine: "auto",
      rateLimiter: {},
      ...options,
    };
  }

  const surroundings = () => ({
    mapping,
    vm: {} as NativeVm,
    memory,
    host: new DeviceHost(),
    onError: (error: unknown) => errors.push(error),
  });

  /** A set of one drive with a driver that uses it. */
  function running(ioEngine: IoEngine) {
    const set = new DriveSet([drive("a", { ioEngine })]);
    set.connect(surroundings());
    const [{ create }] = set.requests;
    const machine = new VirtioMachine(memory, (host) => create(host) as VirtioBlock);
    const ring = machine.start();
    const HEADER = 256 * KIB;
    /** Starts a read of one sector. */
    const offerRead = (slot: number, sector: number) => {
      const at = HEADER + slot * 4096;
      memory.writeU32(at, READ);
      memory.writeU64(at + 8, sector);
      ring.add(
        { address: at, length: 16 },
        { address: at + SECTOR, length: SECTOR, writable: true },
        { address: at + 32, length: 1, writable: true },
      );
    };
    const letter = (slot: number) =>
      String.fromCharCode(memory.readU8(HEADER + slot * 4096 + SECTOR));
    /** Waits until so many requests were answered. */
    const answered = async (count: number) => {
      let taken = 0;
      for (let turn = 0; taken < count && turn < 500; turn++) {
        taken += ring.takeUsed().length;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      expect(taken).toBe(count);
    };
    const read = async (sector = 0) => {
      offerRead(0, sector);
      machine.kick();
      await answered(1);
      return letter(0);
    };
    return { set, machine, offerRead, answered, letter, read };
  }

  it("opens every file at once, and closes them", () => {
    const set = new DriveSet([drive("a"), drive("b", { isRoot: true })]);
    expect(openFiles().sort()).toEqual(["a", "b"]);
    expect(set.root?.id).toBe("b");
    set.close();
    set.close();
    expect(openFiles()).toEqual([]);
  });

  it("leaves nothing open when one of its files is missing", () => {
    const drives = [drive("a"), drive("b", { path: join(folder, "missing") })];
    expect(() => new DriveSet(drives)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_DRIVE_FILE" }),
    );
    expect(openFiles()).toEqual([]);
  });

  it("closes each file once when a backend cannot be made", () => {
    const set = new DriveSet([drive("a", { ioEngine: "io_uring" }), drive("b")]);
    const closed = { ...surroundings(), host: { watch: () => failing() } as unknown as DeviceHost };
    expect(() => set.connect(closed)).toThrow("io_uring for drive a");
    // Takes the number that was just given back: nothing may close it now.
    const other = openSync("/dev/null", "r");
    set.close();
    expect(() => closeSync(other)).not.toThrow();
    expect(openFiles()).toEqual([]);
  });

  function failing(): never {
    throw Object.assign(new Error("epoll_ctl"), { code: "EMFILE" });
  }

  it("uses Node's thread pool where io_uring is forbidden, unless it was asked for", () => {
    const forbidden = () => {
      throw Object.assign(new Error("io_uring_setup"), { code: "EPERM" });
    };
    const closed = { ...surroundings(), host: { watch: forbidden } as unknown as DeviceHost };
    const automatic = new DriveSet([drive("a")]);
    automatic.connect(closed);
    expect(openFiles()).toEqual(["a"]);
    automatic.close();
    const explicit = new DriveSet([drive("a", { ioEngine: "io_uring" })]);
    expect(() => explicit.connect(closed)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_HOST",
        data: expect.objectContaining({ errno: "EPERM" }),
      }),
    );
    explicit.close();
  });

  it("names each drive's device after it, and knows its metrics once it exists", () => {
    const { set } = running("auto");
    expect(set.requests.map(({ name }) => name)).toEqual(["drive a"]);
    expect([...set.metrics.keys()]).toEqual(["a"]);
    set.close();
  });

  it("limits a drive from the start or later, and tells of it", async () => {
    const { set, machine, offerRead, answered } = running("auto");
    const events: string[] = [];
    set.limits.get("a")?.events$.subscribe(({ type }) => events.push(type));
    set.limit("a", { ops: { size: 1, refillTimeMs: 20 } });
    // In one turn: however slow the host is, the second comes too early.
    for (const slot of [0, 1]) offerRead(slot, slot);
    machine.kick();
    await answered(2);
    set.limit("a", { ops: { size: 0, refillTimeMs: 0 } });
    expect(events[0]).toBe("configured");
    expect(events).toContain("throttled");
    expect(events).toContain("released");
    expect(set.limits.get("a")?.limiter.config).toEqual({});
    expect(() => set.limit("b", {})).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_DRIVE_UNKNOWN" }),
    );
    const wrong = { ops: { size: -1, refillTimeMs: 1 } };
    expect(() => set.limit("a", wrong)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
    set.close();
  });

  describe.each<IoEngine>(["auto", "libuv"])("replacing a drive with %s", (ioEngine) => {
    it("reads from the new file afterwards and has closed the old one", async () => {
      const { set, read, machine } = running(ioEngine);
      expect(await read()).toBe("a");
      expect(await set.replace("a", file("b", 16 * KIB))).toBe(16 * KIB);
      expect(await read(20)).toBe("b");
      expect(machine.device.metrics.update_count).toBe(1);
      expect(openFiles()).toEqual(["b"]);
      set.close();
    });

    it("measures the same file again, the one it was given last", async () => {
      const { set, read } = running(ioEngine);
      const path = file("b");
      await set.replace("a", path);
      truncateSync(path, 32 * KIB);
      expect(await set.replace("a", undefined)).toBe(32 * KIB);
      expect(await read()).toBe("b");
      set.close();
    });

    it("finishes what is in flight on the old file first", async () => {
      const { set, machine, offerRead, answered, letter } = running(ioEngine);
      for (let slot = 0; slot < 8; slot++) offerRead(slot, slot);
      machine.kick();
      const replaced = set.replace("a", file("b"));
      await answered(8);
      await replaced;
      expect(Array.from({ length: 8 }, (_, slot) => letter(slot)).join("")).toMatch(/^a+b*$/);
      expect(openFiles()).toEqual(["b"]);
      set.close();
    });

    it("replaces one after the other when asked twice, and closes every file but the last", async () => {
      const { set, machine, offerRead, answered, read } = running(ioEngine);
      for (let slot = 0; slot < 8; slot++) offerRead(slot, 0);
      machine.kick();
      const replaced = [set.replace("a", file("b")), set.replace("a", file("c", 4 * KIB))];
      await answered(8);
      expect(await Promise.all(replaced)).toEqual([8 * KIB, 4 * KIB]);
      expect(openFiles()).toEqual(["c"]);
      expect(await read()).toBe("c");
      set.close();
    });

    it("lets functions see requests from the next idle moment on, until they are gone", async () => {
      const { set, machine, offerRead, answered, read } = running(ioEngine);
      for (let slot = 0; slot < 8; slot++) offerRead(slot, slot);
      machine.kick();
      const seen: string[] = [];
      const remove = set.middleware.use(async ({ drive, operation }, next) => {
        seen.push(`${operation} ${drive}`);
        await next();
      });
      await answered(8);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(await read()).toBe("a");
      expect(seen.at(-1)).toBe("read a");
      await set.replace("a", file("b"));
      expect(await read()).toBe("b");
      const { length } = seen;
      remove();
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(await read()).toBe("b");
      expect(seen.length).toBe(length);
      expect(machine.device.metrics.update_count).toBe(1);
      set.close();
    });

    it("has nothing before the drive's own backend but while there are functions", async () => {
      const detoured = vi.spyOn(FilteredDisk.prototype, "enqueue");
      onTestFinished(() => detoured.mockRestore());
      const { set, read, machine } = running(ioEngine);
      const changed = vi.spyOn(machine.device, "setBackend");
      /** What the drive's device talks to from its latest change on. */
      const latest = async (change: number) => {
        await vi.waitUntil(() => changed.mock.calls.length === change, { timeout: 20_000 });
        await changed.mock.results[change - 1].value;
        return changed.mock.calls[change - 1][0];
      };
      await read();
      expect(detoured).not.toHaveBeenCalled();
      const removes = [1, 2].map(() => set.middleware.use((_request, next) => next()));
      expect(await latest(1)).toBeInstanceOf(FilteredDisk);
      await read();
      const { length } = detoured.mock.calls;
      expect(length).toBeGreaterThan(0);
      for (const remove of removes) remove();
      expect(await latest(2)).not.toBeInstanceOf(FilteredDisk);
      await read();
      expect(detoured).toHaveBeenCalledTimes(length);
      expect(changed).toHaveBeenCalledTimes(2);
      set.close();
    });

    it("leaves the drive as it was when the new file is not there", async () => {
      const { set, read } = running(ioEngine);
      await expect(set.replace("a", join(folder, "missing"))).rejects.toMatchObject({
        code: "ERR_ESTALO_DRIVE_FILE",
      });
      expect(await read()).toBe("a");
      expect(openFiles()).toEqual(["a"]);
      set.close();
    });

    it("is quiet at the microVM's end although a function never answers", async () => {
      const { set, machine, offerRead } = running(ioEngine);
      set.middleware.use(() => new Promise<void>(() => {}));
      await vi.waitUntil(() => {
        offerRead(0, 0);
        machine.kick();
        return set.middleware.metrics.seen > 0;
      });
      set.abandon();
      await machine.device.quiesce();
      set.close();
    });

    it("has a new file's long requests cut short as well when the microVM ends meanwhile", async () => {
      const told = new Set<unknown>();
      for (const { prototype } of [LibuvDisk, UringDisk]) {
        const { abandon } = prototype;
        const spied = vi.spyOn(prototype, "abandon").mockImplementation(function (
          this: LibuvDisk & UringDisk,
        ) {
          told.add(this);
          abandon.call(this);
        });
        onTestFinished(() => spied.mockRestore());
      }
      const { set, machine, offerRead, answered } = running(ioEngine);
      const changed = vi.spyOn(machine.device, "setBackend");
      for (let slot = 0; slot < 8; slot++) offerRead(slot, slot);
      machine.kick();
      const replaced = set.replace("a", file("b"));
      set.abandon();
      await answered(8);
      await replaced;
      expect(told).toContain(changed.mock.calls[0][0]);
      set.close();
    });

    it("leaves no file open when the microVM ends meanwhile", async () => {
      const { set, machine, offerRead } = running(ioEngine);
      offerRead(0, 0);
      machine.kick();
      const replaced = [set.replace("a", file("b")), set.replace("a", file("c"))];
      const outcomes = Promise.allSettled(replaced);
      // As the supervisor ends a microVM: quiet first, then closed.
      await machine.device.quiesce();
      set.close();
      const [first, second] = await outcomes;
      // The first may have been through before the end.
      if (first.status === "rejected") expect(first.reason.code).toBe("ERR_ESTALO_STATE");
      expect(second).toMatchObject({ status: "rejected", reason: { code: "ERR_ESTALO_STATE" } });
      expect(openFiles()).toEqual([]);
    });
  });

  it("closes the file that it is given when it refuses the limits that come with it", async () => {
    const { set, read } = running("auto");
    const path = file("b");
    const given = openDiskFile({ id: "a", path, readOnly: false });
    const limits = { ops: { size: -1, refillTimeMs: 1 } };
    await expect(set.replace("a", path, given, limits)).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_INVALID",
    });
    expect(openFiles()).toEqual(["a"]);
    expect(await read()).toBe("a");
    const fine = { ops: { size: 1, refillTimeMs: 1000 } };
    const other = openDiskFile({ id: "a", path, readOnly: false });
    await set.replace("a", path, other, fine);
    expect(set.limits.get("a")?.limiter.config).toMatchObject(fine);
    set.close();
  });

  it("knows no drive of another name", async () => {
    const { set } = running("auto");
    await expect(set.replace("b", undefined)).rejects.toMatchObject({
      code: "ERR_ESTALO_DRIVE_UNKNOWN",
      data: { id: "b", drives: ["a"] },
    });
    set.close();
  });
});
