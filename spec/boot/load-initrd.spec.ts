import { describe, expect, it } from "vitest";
import { withBootFile } from "../../src/boot/boot-file.js";
import { loadInitrd } from "../../src/boot/load-initrd.js";
import { MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { bzImage, elfKernel, parseAt, temporaryFiles } from "./kernel-fixtures.js";

const fileOf = temporaryFiles();
const CONTENTS = Buffer.from(Array.from({ length: 10_000 }, (_, i) => i % 253));

function load(kernel: Uint8Array, initrd: Uint8Array, memory = createMemory(32 * MIB)) {
  const image = parseAt(fileOf("kernel", kernel));
  const path = fileOf("initrd", initrd);
  return {
    memory,
    loaded: withBootFile("initrd", { path }, (file) => loadInitrd(file, image, memory)),
  };
}

describe("loadInitrd", () => {
  it("ends at the top of memory, rounded down to a page", () => {
    const { memory, loaded } = load(elfKernel(), CONTENTS);
    expect(loaded).toEqual({ gpa: 32 * MIB - 3 * 4096, sizeBytes: 10_000 });
    expect(Buffer.from(memory.read(loaded.gpa, 10_000)).equals(CONTENTS)).toBe(true);
  });

  it("stays below a bzImage's initrd_addr_max", () => {
    const { loaded } = load(bzImage({ initrdAddrMax: 28 * MIB - 1 }), CONTENTS);
    expect(loaded.gpa).toBe(28 * MIB - 3 * 4096);
  });

  it("says how much room there is when the initrd has none", () => {
    expect(() => load(elfKernel(), Buffer.alloc(20 * MIB))).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_INITRD_TOO_LARGE",
        data: expect.objectContaining({ sizeBytes: 20 * MIB, roomBytes: 16 * MIB - 4096 }),
      }),
    );
  });

  it("takes an initrd that fills the room exactly", () => {
    const { loaded } = load(elfKernel(), Buffer.alloc(16 * MIB - 4096));
    expect(loaded.gpa).toBe(16 * MIB + 4096);
  });

  it("refuses an empty file and a missing one", () => {
    expect(() => load(elfKernel(), Buffer.alloc(0))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_INITRD_FILE" }),
    );
    expect(() => withBootFile("initrd", { path: "/nowhere/initrd" }, () => 0)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_INITRD_FILE",
        message: "open initrd /nowhere/initrd: ENOENT",
      }),
    );
  });
});
