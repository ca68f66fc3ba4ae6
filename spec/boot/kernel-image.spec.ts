import { mkdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isEstaloError } from "../../src/errors.js";
import {
  bzImage,
  elfKernel,
  elfNote,
  parseAt,
  pvhNote,
  temporaryFiles,
} from "./kernel-fixtures.js";

const fileOf = temporaryFiles();
const parse = (contents: Uint8Array) => parseAt(fileOf("kernel", contents));
const FORMAT = "ERR_ESTALO_KERNEL_FORMAT";
const TRUNCATED = "ERR_ESTALO_KERNEL_TRUNCATED";

describe("parseKernelImage of an ELF vmlinux", () => {
  it("enters at e_entry in long mode without a PVH note", () => {
    const image = parse(elfKernel({ memoryBytes: 0x3000n }));
    expect(image).toMatchObject({
      format: "elf",
      protocol: "linux64",
      entry: 0x1000000,
      endGpa: 0x1003000,
      commandLineBytesMax: 2047,
      segments: [{ fileOffset: 0x200, fileBytes: 64, gpa: 0x1000000, memoryBytes: 0x3000 }],
    });
    expect(image.setupHeader).toBeUndefined();
  });

  it("enters at the PVH note's address where there is one, other notes before it", () => {
    const notes = Buffer.concat([elfNote("GNU", 3, Buffer.alloc(20)), pvhNote(0x1000020)]);
    expect(parse(elfKernel({ notes }))).toMatchObject({ protocol: "pvh", entry: 0x1000020 });
  });

  it("takes a PVH entry of 8 bytes", () => {
    const desc = Buffer.alloc(8);
    desc.writeBigUInt64LE(0x1000008n);
    const image = parse(elfKernel({ notes: elfNote("Xen", 18, desc) }));
    expect(image).toMatchObject({ protocol: "pvh", entry: 0x1000008 });
  });

  it("does not take another vendor's note 18, nor a note that ends early", () => {
    const desc = Buffer.alloc(4);
    expect(parse(elfKernel({ notes: elfNote("Foo", 18, desc) })).protocol).toBe("linux64");
    const cut = pvhNote(0x1000020).subarray(0, 14);
    expect(parse(elfKernel({ notes: cut })).protocol).toBe("linux64");
  });

  it.each([
    ["another machine", elfKernel({ machine: 183 }), /for aarch64, not x86-64/],
    ["32-bit x86", elfKernel({ machine: 3, fileClass: 1 }), /for 32-bit x86/],
    ["a 32-bit file", elfKernel({ fileClass: 1 }), /is a 32-bit ELF file/],
    ["big-endian", elfKernel({ data: 2 }), /big-endian/],
    ["an object file", elfKernel({ type: 1 }), /type 1, not an executable/],
    ["a segment below 1 MiB", elfKernel({ paddr: 0x8000n, entry: 0x8000n }), /below 1 MiB/],
    ["an entry elsewhere", elfKernel({ entry: 0x2000000n }), /outside of its segments/],
    ["more file than memory", elfKernel({ memoryBytes: 1n }), /impossible segment/],
    ["an address beyond 2^53", elfKernel({ paddr: 1n << 60n }), /impossible segment address/],
    [
      "a 64-bit entry above 1 GiB",
      elfKernel({ paddr: 1n << 31n, entry: 1n << 31n }),
      /boot can reach/,
    ],
    ["a PVH note of 3 bytes", elfKernel({ notes: elfNote("Xen", 18, Buffer.alloc(3)) }), /3 bytes/],
  ])("refuses %s", (_, contents, message) => {
    expect(() => parse(contents)).toThrow(expect.objectContaining({ code: FORMAT }));
    expect(() => parse(contents)).toThrow(message);
  });

  it("takes segments that touch, and refuses those that overlap", () => {
    const kernel = elfKernel({ notes: Buffer.alloc(0) });
    const second = 64 + 56;
    kernel.copy(kernel, second, 64, second);
    kernel.writeBigUInt64LE(0x100_0000n - 64n, second + 24);
    expect(parse(kernel).segments).toHaveLength(2);
    for (const gpa of [0x100_0000n, 0x100_003fn, 0xff_ffc1n]) {
      kernel.writeBigUInt64LE(gpa, second + 24);
      expect(() => parse(kernel)).toThrow(
        expect.objectContaining({ code: FORMAT, message: expect.stringContaining("overlap at") }),
      );
    }
  });

  it("says what is cut off a truncated file", () => {
    const whole = elfKernel({ notes: pvhNote(0x1000020) });
    const cutTo = (sizeBytes: number) => () => parse(whole.subarray(0, sizeBytes));
    for (const sizeBytes of [32, 100, 0x210, whole.length - 1]) {
      expect(cutTo(sizeBytes)).toThrow(expect.objectContaining({ code: TRUNCATED }));
    }
    expect(cutTo(32)).toThrow(/the ELF header/);
    expect(cutTo(100)).toThrow(/the program header table/);
    expect(cutTo(0x210)).toThrow(/the segment for 0x1000000/);
    expect(cutTo(whole.length - 1)).toThrow(/a note segment/);
  });
});

describe("parseKernelImage of a bzImage", () => {
  it("enters at 0x200 of the code at 1 MiB and needs the room to unpack", () => {
    const image = parse(bzImage());
    expect(image).toMatchObject({
      format: "bzimage",
      protocol: "linux64",
      entry: 0x100200,
      endGpa: 0x1200000,
      initrdLastGpa: 0x7fffffff,
      commandLineBytesMax: 2047,
      segments: [{ fileOffset: 5 * 512, fileBytes: 4096, gpa: 0x100000, memoryBytes: 4096 }],
    });
    expect(image.setupHeader).toHaveLength(0x26c - 0x1f1);
  });

  it("reads 0 setup sectors as 4 and ignores a signature at the end", () => {
    const contents = Buffer.concat([bzImage({ setupSectors: 0 }), Buffer.alloc(1000, 0xff)]);
    expect(parse(contents).segments).toMatchObject([{ fileOffset: 5 * 512, fileBytes: 4096 }]);
  });

  it.each([
    ["protocol 2.11", bzImage({ version: 0x20b }), /protocol 2\.11; 2\.12 or later/],
    ["a 32-bit kernel", bzImage({ xloadflags: 0 }), /without a 64-bit entry point/],
    ["no code", bzImage({ syssize: 0 }), /no code in it/],
    ["a header that ends before init_size", bzImage({ headerEnd: 0x250 }), /ends at 0x250/],
    ["a header that runs into other fields", bzImage({ headerEnd: 0x2a0 }), /ends at 0x2a0/],
  ])("refuses %s", (_, contents, message) => {
    expect(() => parse(contents)).toThrow(expect.objectContaining({ code: FORMAT }));
    expect(() => parse(contents)).toThrow(message);
  });

  it("refuses a truncated file", () => {
    const whole = bzImage();
    for (const sizeBytes of [0x210, 0x28f, 5 * 512, whole.length - 1]) {
      const contents = whole.subarray(0, sizeBytes);
      expect(() => parse(contents)).toThrow(expect.objectContaining({ code: TRUNCATED }));
    }
  });
});

describe("parseKernelImage of something else", () => {
  it.each([
    ["gzip", Buffer.from([0x1f, 0x8b, 8, 0]), /gzip data, not a kernel/],
    ["zstd", Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), /zstd data, not a kernel/],
    ["text", Buffer.from("#!/bin/sh\nexit 0\n"), /is a text file/],
    ["a PE file", Buffer.from("MZ\x90\0"), /PE file/],
    ["an initrd", Buffer.from("0707010000"), /cpio archive/],
    ["aarch64's Image", Buffer.concat([Buffer.alloc(56), Buffer.from("ARMd")]), /aarch64/],
    ["zeros", Buffer.alloc(4096), /neither an ELF file nor a bzImage/],
    ["one byte", Buffer.of(0x7f), /neither an ELF file nor a bzImage/],
  ])("names %s", (_, contents, message) => {
    expect(() => parse(contents)).toThrow(expect.objectContaining({ code: FORMAT }));
    expect(() => parse(contents)).toThrow(message);
  });

  it("tells an empty file from a truncated kernel by its message", () => {
    expect(() => parse(Buffer.alloc(0))).toThrow(expect.objectContaining({ code: TRUNCATED }));
    expect(() => parse(Buffer.alloc(0))).toThrow(/is empty/);
  });

  it("names path and errno of a missing file, and refuses a directory", () => {
    const missing = `${fileOf("x", Buffer.alloc(0))}-missing`;
    expect(() => parseAt(missing)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_KERNEL_FILE",
        message: `open kernel ${missing}: ENOENT`,
      }),
    );
    mkdirSync(`${missing}.d`);
    expect(() => parseAt(`${missing}.d`)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_KERNEL_FILE" }),
    );
  });
});

describe("parseKernelImage of hostile files", () => {
  const originals = [
    elfKernel({ notes: pvhNote(0x1000020), memoryBytes: 0x10000n }),
    elfKernel(),
    bzImage(),
  ];
  /** Whole headers are mutated: bytes, and cuts. */
  const mutation = fc.record({
    original: fc.constantFrom(...originals),
    bytes: fc.array(
      fc.record({ offset: fc.integer({ min: 0, max: 0x2ff }), value: fc.nat({ max: 255 }) }),
      { maxLength: 8 },
    ),
    cut: fc.option(fc.nat({ max: 0xfff }), { nil: undefined }),
  });

  it("lets only configuration errors escape, and only sound images through", () => {
    fc.assert(
      fc.property(mutation, ({ original, bytes, cut }) => {
        const contents = Buffer.from(original);
        for (const { offset, value } of bytes) contents[offset % contents.length] = value;
        const file = contents.subarray(0, cut);
        try {
          const image = parse(file);
          for (const segment of image.segments) {
            expect(segment.fileOffset + segment.fileBytes).toBeLessThanOrEqual(file.length);
            expect(segment.gpa).toBeGreaterThanOrEqual(0x100000);
            expect(segment.gpa + segment.memoryBytes).toBeLessThanOrEqual(image.endGpa);
            expect(segment.fileBytes).toBeLessThanOrEqual(segment.memoryBytes);
          }
          expect(Number.isSafeInteger(image.entry)).toBe(true);
        } catch (error) {
          if (!isEstaloError(error)) throw error;
          expect(error.family).toBe("config");
        }
      }),
      { numRuns: 500 },
    );
  }, 30_000);
});
