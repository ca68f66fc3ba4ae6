import { describe, expect, it } from "vitest";
import { withBootFile } from "../../src/boot/boot-file.js";
import { parseKernelImage } from "../../src/boot/kernel-image.js";
import { loadKernel } from "../../src/boot/load-kernel.js";
import { MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { bzImage, elfKernel, temporaryFiles } from "./kernel-fixtures.js";

const fileOf = temporaryFiles();
const CODE = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));

function load(contents: Uint8Array, memory = createMemory(32 * MIB)) {
  const path = fileOf("kernel", contents);
  const bytes = withBootFile("kernel", { path }, (file) =>
    loadKernel(file, parseKernelImage(file), memory),
  );
  return { memory, bytes };
}

describe("loadKernel", () => {
  it("puts an ELF segment at its physical address and leaves the rest alone", () => {
    const memory = createMemory(32 * MIB);
    memory.writeU8(0x1000000 + CODE.length, 0xaa);
    const { bytes } = load(elfKernel({ code: CODE, memoryBytes: 0x8000n }), memory);
    expect(bytes).toBe(CODE.length);
    expect(Buffer.from(memory.read(0x1000000, CODE.length)).equals(CODE)).toBe(true);
    expect(memory.readU8(0x1000000 - 1)).toBe(0);
    // BSS is not written: fresh memory is zero already.
    expect(memory.readU8(0x1000000 + CODE.length)).toBe(0xaa);
  });

  it("puts a bzImage's code at 1 MiB", () => {
    const code = CODE.subarray(0, 4096);
    const { memory, bytes } = load(bzImage({ code }));
    expect(bytes).toBe(4096);
    expect(Buffer.from(memory.read(0x100000, 4096)).equals(code)).toBe(true);
  });

  it("says how much memory the kernel needs and how much there is", () => {
    const bss = elfKernel({ memoryBytes: BigInt(64 * MIB) });
    expect(() => load(bss)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_MEMORY_TOO_SMALL",
        message: expect.stringMatching(/needs 80 MiB to start, the microVM has 32 MiB/),
        data: expect.objectContaining({ neededMib: 80, givenMib: 32 }),
      }),
    );
  });

  it("counts a bzImage's room to unpack", () => {
    const unpacks = bzImage({ initSizeBytes: 48 * MIB });
    expect(() => load(unpacks)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_MEMORY_TOO_SMALL" }),
    );
  });
});
