/**
 * What this process was started with open, since it may not open it itself: a jailed one has neither the files
 * nor the rights. Who opens a file, a tap or a user's network of the configuration asks here first, by its use:
 *
 *     kernel   initrd   drive ID   tap NAME   passt ID
 *
 * Each is given away once: whoever takes it closes it.
 */
import type { BootFile, BootFileKind } from "../boot/boot-file.js";

const handedOver = new Map<string, number>();

/** Notes what this process was started with. */
export function handOver(descriptors: Readonly<Record<string, number>>): void {
  for (const [use, fd] of Object.entries(descriptors)) handedOver.set(use, fd);
}

/** The descriptor for this use, if there is one and nobody has it yet. */
export function takeHandedOver(use: string): number | undefined {
  const fd = handedOver.get(use);
  handedOver.delete(use);
  return fd;
}

/** A kernel or an initrd; one that was handed over stays open. */
export function bootFile(kind: BootFileKind, path: string): BootFile {
  const fd = takeHandedOver(kind);
  return fd === undefined ? { path } : { path, fd };
}
