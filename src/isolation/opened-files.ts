/**
 * The server's part in opening a microVM's files: with its own rights and by its own checks, before its cell hears of
 * them; what the cell gets are descriptors.
 */
import { closeSync } from "node:fs";
import { openDiskFile } from "../actors/backends/disk-file.js";
import type { CheckedConfig, CheckedDrive } from "../actors/config.js";
import { type GivenFile, openFiles } from "../actors/given-files.js";
import type { CellLink } from "./cell-link.js";

type Receiver = Pick<CellLink, "giveDescriptor">;

/** Opens what a microVM needs and sends it, all or nothing; returns what each is for. Nothing stays open here. */
export function sendFiles(config: CheckedConfig, cell: Receiver): string[] {
  return send(openFiles(config), cell);
}

/** The same for a drive's new file. */
export function sendDisk(
  drive: Pick<CheckedDrive, "id" | "path" | "readOnly">,
  cell: Receiver,
): string[] {
  return send([[`drive ${drive.id}`, openDiskFile(drive).fd]], cell);
}

function send(files: readonly GivenFile[], cell: Receiver): string[] {
  try {
    for (const [, fd] of files) cell.giveDescriptor(fd);
    return files.map(([use]) => use);
  } finally {
    for (const [, fd] of files) closeSync(fd);
  }
}
