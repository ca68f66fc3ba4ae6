/**
 * The kernel's command line: the user's arguments and what the machine adds.
 *
 *     USER ARGS  pci=off  root=/dev/vda ro  virtio_mmio.device=4K@0xc0001000:5 …  -- INIT'S ARGS
 *
 * Linux hands everything after a ` -- ` to init, so additions go before it. Only printable ASCII
 * passes, as in Firecracker. Specification: Linux Documentation/admin-guide/kernel-parameters.rst;
 * virtio_mmio.device in drivers/virtio/virtio_mmio.c.
 */
import { EstaloError } from "../errors.js";
import { type Gpa, type Gsi, hex, KIB } from "../units.js";
import { COMMAND_LINE_BYTES_MAX, VIRTIO_MMIO_WINDOW_BYTES } from "./layout.js";

/**
 * Firecracker's default arguments. `reboot=k` makes a reboot end the microVM at once (i8042 reset),
 * the 8250 and i8042 ones save probing, and there is no device behind a bounce buffer.
 */
export const DEFAULT_BOOT_ARGS =
  "reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce";

/** One virtio-mmio device, as the kernel is told of it. */
export interface VirtioMmioWindow {
  readonly base: Gpa;
  readonly gsi: Gsi;
}

/** The root file system's place. */
export interface RootDevice {
  /** `/dev/vda`, `/dev/pmem0`, or `PARTUUID=…`. */
  readonly device: string;
  readonly readOnly: boolean;
}

export interface CommandLineParts {
  /** The user's arguments; DEFAULT_BOOT_ARGS when absent. */
  readonly bootArgs?: string;
  /** Adds `root=… ro|rw`. */
  readonly root?: RootDevice;
  readonly virtioDevices: readonly VirtioMmioWindow[];
}

/**
 * Assembles the command line.
 *
 * @param lengthMax - bytes the kernel takes, NUL not counted
 * @throws ERR_ESTALO_CONFIG_INVALID for characters other than printable ASCII,
 *   ERR_ESTALO_CMDLINE_TOO_LONG with both lengths
 */
export function assembleCommandLine(
  parts: CommandLineParts,
  lengthMax = COMMAND_LINE_BYTES_MAX - 1,
): string {
  const { kernelArgs, initArgs } = splitInitArgs(parts.bootArgs ?? DEFAULT_BOOT_ARGS);
  const words = [kernelArgs, "pci=off"];
  if (parts.root !== undefined) {
    words.push(`root=${parts.root.device}`, parts.root.readOnly ? "ro" : "rw");
  }
  for (const { base, gsi } of parts.virtioDevices) {
    words.push(`virtio_mmio.device=${VIRTIO_MMIO_WINDOW_BYTES / KIB}K@${hex(base)}:${gsi}`);
  }
  if (initArgs !== undefined) words.push("--", initArgs);
  const line = words.filter((word) => word !== "").join(" ");
  checkCharacters(line);
  if (line.length > lengthMax) {
    throw new EstaloError(
      "ERR_ESTALO_CMDLINE_TOO_LONG",
      `the kernel's command line has ${line.length} bytes with the machine's additions, ` +
        `at most ${lengthMax} are possible`,
      { data: { lengthBytes: line.length, maximumBytes: lengthMax, commandLine: line } },
    );
  }
  return line;
}

/**
 * Splits at the first word `--`, as Linux's parse_args does: quotes protect blanks, and only a bare
 * `--` is the mark. `initArgs` is undefined without a mark.
 */
function splitInitArgs(args: string): { kernelArgs: string; initArgs: string | undefined } {
  for (const match of args.matchAll(/(?:[^\s"]|"[^"]*"?)+/g)) {
    if (match[0] === "--") {
      return {
        kernelArgs: args.slice(0, match.index).trim(),
        initArgs: args.slice(match.index + 2).trim(),
      };
    }
  }
  return { kernelArgs: args.trim(), initArgs: undefined };
}

function checkCharacters(line: string): void {
  const at = line.search(/[^ -~]/);
  if (at < 0) return;
  const code = line.codePointAt(at) ?? 0;
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `the kernel's command line has character U+${code.toString(16).padStart(4, "0")} ` +
      "where only printable ASCII may be",
    { data: { codePoint: code, before: line.slice(Math.max(0, at - 32), at) } },
  );
}

/** The line's bytes as the kernel reads them, NUL included. */
export function encodeCommandLine(line: string): Uint8Array {
  return Buffer.from(`${line}\0`, "latin1");
}
