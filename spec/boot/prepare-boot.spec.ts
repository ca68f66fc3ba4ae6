import { describe, expect, it } from "vitest";
import { DEFAULT_BOOT_ARGS } from "../../src/boot/command-line.js";
import { prepareBoot } from "../../src/boot/prepare-boot.js";
import { MIB } from "../../src/units.js";
import { createMemory } from "../support/fake-memory.js";
import { bzImage, elfKernel, pvhNote, temporaryFiles } from "./kernel-fixtures.js";

const fileOf = temporaryFiles();
const generation = { id: new Uint8Array(16).fill(7), gsis: { vmGenId: 6, vmClock: 7 } };
const virtioDevices = [{ base: 0xc0001000, gsi: 5 }];

const kernels = {
  pvh: fileOf("pvh", elfKernel({ notes: pvhNote(0x1000010) })),
  elf: fileOf("elf", elfKernel()),
  bzImage: fileOf("bzimage", bzImage()),
};
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");

describe("prepareBoot", () => {
  it("prepares a PVH kernel with initrd and devices", () => {
    const memory = createMemory(64 * MIB);
    const initrd = { path: fileOf("initrd", Buffer.alloc(5000, 3)) };
    const root = { device: "/dev/vda", readOnly: true };
    const kernel = { path: kernels.pvh };
    const boot = prepareBoot(memory, {
      kernel,
      initrd,
      root,
      vcpuCount: 2,
      virtioDevices,
      generation,
    });
    expect(boot).toMatchObject({
      protocol: "pvh",
      entry: 0x1000010,
      commandLine: `${DEFAULT_BOOT_ARGS} pci=off root=/dev/vda ro virtio_mmio.device=4K@0xc0001000:5`,
      bytesLoaded: 64 + 5000,
      registers: { regs: { rip: 0x1000010n, rbx: 0x6000n }, sregs: { cr0: 0x11n } },
    });
    expect(memory.readU32(0x6000)).toBe(0x336ec578);
    expect(memory.readU64(0x6040)).toBe(64 * MIB - 8192);
    expect(memory.readU8(64 * MIB - 8192)).toBe(3);
    expect(text(memory.read(0x20000, boot.commandLine.length + 1))).toBe(`${boot.commandLine}\0`);
    expect(text(memory.read(0xe0000, 8))).toBe("RSD PTR ");
    expect(text(memory.read(0xa0000, 4))).toBe("DSDT");
    expect(text(memory.read(0x9fc00, 4))).toBe("_MP_");
    expect(memory.read(0xdf000, 16)).toEqual(generation.id);
    expect(text(memory.read(0xde000, 4))).toBe("VCLK");
  });

  it.each([
    ["a vmlinux without PVH note", kernels.elf, 0x1000000],
    ["a bzImage", kernels.bzImage, 0x100200],
  ])("prepares %s for the 64-bit entry", (_, path, entry) => {
    const memory = createMemory(64 * MIB);
    const boot = prepareBoot(memory, {
      kernel: { path },
      bootArgs: "console=ttyS0 -- arg",
      vcpuCount: 1,
      virtioDevices: [],
    });
    expect(boot).toMatchObject({
      protocol: "linux64",
      entry,
      commandLine: "console=ttyS0 pci=off -- arg",
      registers: { regs: { rip: BigInt(entry), rsi: 0x7000n }, sregs: { efer: 0x500n } },
    });
    expect(memory.readU16(0x71fe)).toBe(0xaa55);
    expect(memory.readU64(0x7070)).toBe(0xe0000);
    expect(memory.readU64(0x9000)).toBe(0xa003);
    expect(memory.read(0xdf000, 16)).toEqual(new Uint8Array(16));
  });

  it("keeps a command line within what a bzImage takes", () => {
    const path = fileOf("short", bzImage({ cmdlineSize: 255 }));
    const boot = () =>
      prepareBoot(createMemory(64 * MIB), {
        kernel: { path },
        bootArgs: "a".repeat(300),
        vcpuCount: 1,
        virtioDevices: [],
      });
    expect(boot).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CMDLINE_TOO_LONG",
        data: expect.objectContaining({ maximumBytes: 255 }),
      }),
    );
  });

  it.each([0, 33, 1.5])("refuses %d vCPUs", (vcpuCount) => {
    const kernel = { path: kernels.pvh };
    expect(() => prepareBoot(createMemory(64 * MIB), { kernel, vcpuCount, virtioDevices })).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });
});
