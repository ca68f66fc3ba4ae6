import { describe, expect, it } from "vitest";
import { buildBootParams } from "../../src/boot/boot-params.js";
import { memoryMap, ramRegions } from "../../src/boot/memory-map.js";
import { bzImage, elfKernel, parseAt, temporaryFiles } from "./kernel-fixtures.js";

const fileOf = temporaryFiles();
const info = {
  commandLineGpa: 0x20000,
  commandLineBytes: 40,
  rsdpGpa: 0xe0000,
  initrd: { gpa: 0x7f0_0000, sizeBytes: 12345 },
  memoryMap: memoryMap(ramRegions(4096)),
};
const paramsOf = (kernel: Uint8Array, of = info) => {
  const page = buildBootParams(parseAt(fileOf("kernel", kernel)), of);
  return new DataView(page.buffer);
};

describe("buildBootParams", () => {
  it("sets a vmlinux's header as boot.rst asks of a loader", () => {
    const page = paramsOf(elfKernel());
    expect(page.byteLength).toBe(4096);
    expect(page.getUint16(0x1fe, true)).toBe(0xaa55);
    expect(page.getUint32(0x202, true)).toBe(0x53726448);
    expect(page.getUint8(0x210)).toBe(0xff);
    expect(page.getUint32(0x230, true)).toBe(0x1000000);
    expect(page.getUint32(0x228, true)).toBe(0x20000);
    expect(page.getUint32(0x238, true)).toBe(40);
    expect(page.getUint32(0x218, true)).toBe(0x7f00000);
    expect(page.getUint32(0x21c, true)).toBe(12345);
    expect(page.getBigUint64(0x70, true)).toBe(0xe0000n);
  });

  it("carries a bzImage's own header over, with the loader's fields set", () => {
    const page = paramsOf(bzImage());
    expect(page.getUint16(0x206, true)).toBe(0x20f);
    expect(page.getUint32(0x22c, true)).toBe(0x7fffffff);
    expect(page.getBigUint64(0x258, true)).toBe(0x1000000n);
    expect(page.getUint8(0x210)).toBe(0xff);
    expect(page.getUint32(0x214, true)).toBe(0x100000);
    expect(page.getUint32(0x228, true)).toBe(0x20000);
  });

  it("lists the memory map in e820 entries of 20 bytes", () => {
    const page = paramsOf(elfKernel());
    expect(page.getUint8(0x1e8)).toBe(4);
    const entries = [0, 1, 2, 3].map((i) => [
      Number(page.getBigUint64(0x2d0 + i * 20, true)),
      Number(page.getBigUint64(0x2d8 + i * 20, true)),
      page.getUint32(0x2e0 + i * 20, true),
    ]);
    expect(entries).toEqual([
      [0, 0x9fc00, 1],
      [0x9fc00, 0x40400, 2],
      [0x100000, 0xbff00000, 1],
      [0x100000000, 0x40000000, 1],
    ]);
  });

  it("leaves sentinel and ramdisk fields 0 without an initrd", () => {
    const page = new DataView(
      buildBootParams(parseAt(fileOf("kernel", elfKernel())), { ...info, initrd: undefined })
        .buffer,
    );
    expect(page.getUint8(0x1ef)).toBe(0);
    expect(page.getBigUint64(0x218, true)).toBe(0n);
  });
});
