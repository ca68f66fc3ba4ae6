/**
 * The server's part in opening a microVM's files: with its own rights and by its own checks, before its cell hears of
 * them; what the cell gets are descriptors.
 */
import { closeSync, constants, openSync } from "node:fs";
import { type DiskFile, openDiskFile } from "../actors/backends/disk-file.js";
import { TapBackend } from "../actors/backends/tap.js";
import type { CheckedConfig, CheckedDrive } from "../actors/config.js";
import { usesOf } from "../actors/given-files.js";
import { type ErrorCode, EstaloError, hostError } from "../errors.js";
import type { CellLink } from "./cell-link.js";
import type { SentFiles } from "./cell-messages.js";

/** Opens what a microVM needs and sends it; nothing stays open here. Raises what is wrong with it. */
export function sendFiles(config: CheckedConfig, cell: Pick<CellLink, "giveDescriptor">) {
  refuseWhatCellsLack(config);
  const disks: Record<string, ReturnType<typeof factsOf>> = {};
  const opened: number[] = [];
  try {
    // All of them first: what cannot be opened leaves nothing in the cell.
    opened.push(openBoot("kernel", config.kernel, "ERR_ESTALO_KERNEL_FILE"));
    if (config.initrd !== undefined) {
      opened.push(openBoot("initrd", config.initrd, "ERR_ESTALO_INITRD_FILE"));
    }
    for (const drive of config.drives) {
      const disk = openDiskFile(drive);
      opened.push(disk.fd);
      disks[drive.id] = factsOf(disk);
    }
    for (const { tap } of config.networkInterfaces) {
      opened.push(TapBackend.open(tap as string));
    }
    for (const fd of opened) cell.giveDescriptor(fd);
    return { uses: usesOf(config), disks } satisfies SentFiles;
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

/** The same for a drive's new file. */
export function sendDisk(
  drive: Pick<CheckedDrive, "id" | "path" | "readOnly">,
  cell: Pick<CellLink, "giveDescriptor">,
): SentFiles {
  const disk = openDiskFile(drive);
  try {
    cell.giveDescriptor(disk.fd);
    return { uses: [`drive ${drive.id}`], disks: { [drive.id]: factsOf(disk) } };
  } finally {
    closeSync(disk.fd);
  }
}

/** Raises ERR_ESTALO_ISOLATION for what is neither handed in nor called there. */
function refuseWhatCellsLack({ networkInterfaces, pmem, memoryHotplug }: CheckedConfig): void {
  const refuse = (what: string, hint: string) => {
    throw new EstaloError("ERR_ESTALO_ISOLATION", `an isolated microVM has no ${what}`, {
      data: { what },
      hint,
    });
  };
  for (const { id, tap, queuePairs } of networkInterfaces) {
    if (tap === undefined) {
      refuse(`user's network: interface ${id}`, "give it a tap, or serve without --isolate");
    }
    if (queuePairs > 1) {
      refuse(
        `several queue pairs: interface ${id}`,
        "leave queuePairs, or serve without --isolate",
      );
    }
  }
  const [first] = pmem;
  if (first !== undefined) {
    refuse(`persistent memory: pmem ${first.id}`, "make it a drive, or serve without --isolate");
  }
  if (memoryHotplug !== undefined) {
    refuse("memory hotplug", "give it memory by memoryMib, or serve without --isolate");
  }
}

function factsOf({ sizeBytes, serial }: DiskFile) {
  return { sizeBytes, serial: Buffer.from(serial).toString("hex") };
}

function openBoot(kind: string, path: string, code: ErrorCode): number {
  try {
    // Not waiting for the other end of a FIFO: the cell says that it is none of what it can load.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw hostError("open", `${kind} ${path}`, error, code);
  }
}
