import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  assembleCommandLine,
  DEFAULT_BOOT_ARGS,
  encodeCommandLine,
} from "../../src/boot/command-line.js";

const virtioDevices = [
  { base: 0xc0001000, gsi: 5 },
  { base: 0xc0002000, gsi: 6 },
];

describe("assembleCommandLine", () => {
  it("adds the machine's arguments to the default ones", () => {
    expect(
      assembleCommandLine({ virtioDevices, root: { device: "/dev/vda", readOnly: true } }),
    ).toBe(
      `${DEFAULT_BOOT_ARGS} pci=off root=/dev/vda ro ` +
        "virtio_mmio.device=4K@0xc0001000:5 virtio_mmio.device=4K@0xc0002000:6",
    );
  });

  it("names a root by PARTUUID, writable", () => {
    const root = { device: "PARTUUID=0eaa91a0-01", readOnly: false };
    expect(assembleCommandLine({ bootArgs: "quiet", virtioDevices: [], root })).toBe(
      "quiet pci=off root=PARTUUID=0eaa91a0-01 rw",
    );
  });

  it.each([
    ["console=ttyS0 -- a b", "console=ttyS0 pci=off -- a b"],
    ["-- init=x", "pci=off -- init=x"],
    ["quiet --", "quiet pci=off --"],
    ["a -- b -- c", "a pci=off -- b -- c"],
    ['a="x -- y" z', 'a="x -- y" z pci=off'],
    ["a--b --c", "a--b --c pci=off"],
    ["  quiet  ", "quiet pci=off"],
    ["", "pci=off"],
  ])("keeps init's arguments of %j last", (bootArgs, expected) => {
    expect(assembleCommandLine({ bootArgs, virtioDevices: [] })).toBe(expected);
  });

  it("takes 2,047 bytes and refuses one more, naming both lengths", () => {
    const fill = (length: number) => "a".repeat(length - " pci=off".length);
    const line = assembleCommandLine({ bootArgs: fill(2047), virtioDevices: [] });
    expect(line).toHaveLength(2047);
    expect(encodeCommandLine(line)).toHaveLength(2048);
    expect(() => assembleCommandLine({ bootArgs: fill(2048), virtioDevices: [] })).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CMDLINE_TOO_LONG",
        message: expect.stringMatching(/2048 bytes.*at most 2047/),
        data: expect.objectContaining({ lengthBytes: 2048, maximumBytes: 2047 }),
      }),
    );
  });

  it.each(["caf\u00e9", "a\0b", "a\nb", "a\tb", "\u{1f680}"])("refuses %j", (bootArgs) => {
    expect(() => assembleCommandLine({ bootArgs, virtioDevices: [] })).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });

  it("keeps every user word in order and its additions before the mark, for all arguments", () => {
    const word = fc.stringMatching(/^[!#-,.-~]{1,12}$/);
    fc.assert(
      fc.property(fc.array(word), fc.array(word), fc.boolean(), (before, after, marked) => {
        const bootArgs = [...before, ...(marked ? ["--", ...after] : [])].join(" ");
        const line = assembleCommandLine({ bootArgs, virtioDevices });
        const words = line.split(" ");
        const added = [
          "pci=off",
          "virtio_mmio.device=4K@0xc0001000:5",
          "virtio_mmio.device=4K@0xc0002000:6",
        ];
        expect(words).toEqual([...before, ...added, ...(marked ? ["--", ...after] : [])]);
      }),
    );
  });

  it("lets only configuration errors escape, for any string", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 3000 }), (bootArgs) => {
        try {
          const line = assembleCommandLine({ bootArgs, virtioDevices });
          expect(line).toMatch(/^[ -~]{1,2047}$/);
        } catch (error) {
          expect(error).toMatchObject({ family: "config" });
        }
      }),
    );
  });
});
