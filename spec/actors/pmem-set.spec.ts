/** Files as persistent memory, without a guest. */
import { mkdirSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkPmem, type PmemConfig } from "../../src/actors/config-pmem.js";
import { DeviceHost } from "../../src/actors/device-host.js";
import { PmemSet } from "../../src/actors/pmem-set.js";
import type { NativeFileMapping, NativeGuestMapping, NativeVm } from "../../src/native/binding.js";
import { GIB, MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { Scratch } from "../support/tiny-guest.js";

describe("PmemSet", () => {
  let scratch: Scratch;
  beforeEach(() => {
    scratch = new Scratch();
  });
  afterEach(() => scratch[Symbol.dispose]());

  const file = (name: string, bytes: number) => scratch.file(name, new Uint8Array(bytes));
  const open = (...configs: PmemConfig[]) => new PmemSet(checkPmem(configs, []), 4 * GIB);
  /** Files of the spec that this process has open. */
  const openFiles = () =>
    readdirSync("/proc/self/fd").filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).endsWith(".img");
      } catch {
        return false;
      }
    });

  it("gives each file a slot, one after the other, rounded up to 2 MiB", () => {
    const set = open(
      { path: file("a.img", 1) },
      { path: file("b.img", 2 * MIB + 1), readOnly: true, isRoot: true },
    );
    const slots: [number, number, number][] = [];
    const vm = {
      setFileSlot: (slot: number, gpa: number, { windowBytes }: NativeFileMapping) =>
        slots.push([slot, gpa, windowBytes]),
    } as unknown as NativeVm;
    set.connect({
      vm,
      mapping: {} as NativeGuestMapping,
      memory: createMemory(),
      host: new DeviceHost(),
      onError: () => {},
    });
    expect(slots).toEqual([
      [2, 4 * GIB, 2 * MIB],
      [3, 4 * GIB + 128 * MIB, 4 * MIB],
    ]);
    expect(set.end).toBe(4 * GIB + 132 * MIB);
    expect(set.root).toEqual({ device: "/dev/pmem1", readOnly: true });
    set.close();
    set.close();
    expect(openFiles()).toEqual([]);
  });

  it("names a file that cannot be used, and leaves none open", () => {
    const good = { path: file("good.img", 10) };
    const folder = join(scratch.path, "folder");
    mkdirSync(folder);
    for (const [path, text] of [
      [join(folder, "none"), "ENOENT"],
      [folder, "no regular file"],
      ["/dev/null", "no regular file"],
      [file("empty.img", 0), "is empty"],
    ]) {
      expect(() => open(good, { id: "bad", path })).toThrow(
        expect.objectContaining({
          code: "ERR_ESTALO_PMEM_FILE",
          message: expect.stringMatching(new RegExp(`pmem bad .*${text}`)),
        }),
      );
      expect(openFiles()).toEqual([]);
    }
  });

  it("changes limits, and knows its devices", () => {
    const set = open({ id: "a", path: file("a.img", 10) });
    set.limit("a", { ops: { size: 3, refillTimeMs: 100 } });
    expect(set.limits.get("a")?.limiter.config.ops?.size).toBe(3);
    expect(() => set.limit("b", {})).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_PMEM_UNKNOWN", data: { id: "b", pmem: ["a"] } }),
    );
    set.close();
  });
});
