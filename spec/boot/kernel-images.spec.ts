import { readdirSync, readlinkSync, utimesSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { withBootFile } from "../../src/boot/boot-file.js";
import { type GuestImages, withKernel } from "../../src/boot/kernel-images.js";
import { placeKernel } from "../../src/boot/load-kernel.js";
import { native } from "../../src/native/binding.js";
import { GuestMemory } from "../../src/native/guest-memory.js";
import { MIB } from "../../src/units.js";
import { elfKernel, temporaryFiles } from "./kernel-fixtures.js";

const fileOf = temporaryFiles();
const CODE_GPA = 0x100_0000;
/** Not a whole number of pages, and more than is copied at once. */
const CODE = Buffer.from(Array.from({ length: 300_001 }, (_, i) => i % 251));
const REGIONS = [{ start: 0, sizeBytes: 32 * MIB }];

/** Time stamps of a file that nobody is writing any more. */
function settle(path: string, secondsAgo: number): void {
  const at = new Date(Date.now() - secondsAgo * 1000);
  utimesSync(path, at, at);
}

function kernelFile(name: string, code: Uint8Array = CODE): string {
  const path = fileOf(name, elfKernel({ code }));
  settle(path, 60);
  return path;
}

/** Descriptors of images that this process holds. */
function heldImages(): number {
  const targets = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return targets.filter((target) => target.includes("estalo-guest-image")).length;
}

function place(path: string, memory: GuestMemory, images?: GuestImages): number {
  return withBootFile("kernel", { path }, (file) =>
    withKernel(file, (kernel) => placeKernel(file, kernel, memory, images)),
  );
}

/** Guest memory with the kernel of `path` in it. */
function guest(path: string) {
  const mapping = new (native().GuestMapping)(REGIONS);
  const memory = new GuestMemory(mapping.buffer, REGIONS);
  try {
    const bytes = place(path, memory, {
      create: (sizeBytes) => new (native().ImageFile)(sizeBytes),
      map: (image, gpa) => mapping.mapImage(image, gpa),
    });
    return { memory, bytes, [Symbol.dispose]: () => mapping.close() };
  } catch (error) {
    mapping.close();
    throw error;
  }
}

describe("withKernel and placeKernel", () => {
  it("put into memory by mapping what they put there by reading", () => {
    const path = kernelFile("same");
    using mapped = guest(path);
    const read = new GuestMemory(new SharedArrayBuffer(32 * MIB), REGIONS);
    expect(mapped.bytes).toBe(place(path, read));
    const around = [CODE_GPA - 4096, CODE.length + 3 * 4096] as const;
    expect(Buffer.compare(mapped.memory.read(...around), read.read(...around))).toBe(0);
    expect(Buffer.compare(mapped.memory.read(CODE_GPA, CODE.length), CODE)).toBe(0);
  });

  it("give each guest a copy of its own, and read the file once", () => {
    const path = kernelFile("copies");
    using first = guest(path);
    const held = heldImages();
    first.memory.writeU32(CODE_GPA, 0xdead_beef);
    using second = guest(path);
    expect(heldImages()).toBe(held);
    expect(second.memory.readU32(CODE_GPA)).toBe(CODE.readUInt32LE());
    second.memory.writeU8(CODE_GPA + CODE.length - 1, 0xaa);
    expect(first.memory.readU32(CODE_GPA)).toBe(0xdead_beef);
    expect(first.memory.readU8(CODE_GPA + CODE.length - 1)).toBe(CODE[CODE.length - 1]);
  });

  it("keep a running guest from a change of the file, which the next one sees", () => {
    const path = kernelFile("changed");
    using old = guest(path);
    writeFileSync(path, elfKernel({ code: Buffer.alloc(CODE.length, 7) }));
    settle(path, 30);
    using next = guest(path);
    writeFileSync(path, "");
    expect(Buffer.compare(old.memory.read(CODE_GPA, CODE.length), CODE)).toBe(0);
    expect(next.memory.readU8(CODE_GPA)).toBe(7);
    expect(() => guest(path)).toThrow(expect.objectContaining({ family: "config" }));
  });

  it("keep few kernels, and none that may still be being written", () => {
    const before = heldImages();
    guest(fileOf("fresh", elfKernel({ code: CODE })))[Symbol.dispose]();
    expect(heldImages()).toBe(before);
    for (let i = 0; i < 6; i++) guest(kernelFile(`kernel-${i}`))[Symbol.dispose]();
    expect(heldImages()).toBe(4);
  });

  it("keep nothing of a kernel that could not be placed", () => {
    const before = heldImages();
    const path = kernelFile("large");
    writeFileSync(path, elfKernel({ code: CODE, memoryBytes: BigInt(64 * MIB) }));
    settle(path, 60);
    expect(() => guest(path)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_MEMORY_TOO_SMALL" }),
    );
    expect(heldImages()).toBe(before);
  });
});
