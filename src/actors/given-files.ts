/**
 * Files that a microVM does not open itself: a jailed process has none of the host's, and is handed open ones.
 *
 * Each is taken once, by who owns it from then on; `close` closes what nobody took.
 */
import { closeSync } from "node:fs";
import type { BootFile, BootFileKind } from "../boot/boot-file.js";
import type { DiskFile } from "./backends/disk-file.js";
import type { CheckedConfig } from "./config.js";
import { bootFile as handedOver } from "./handed-over.js";

/** What is known of a drive's file by who opened it. */
export type GivenDisk = Pick<DiskFile, "sizeBytes" | "serial">;

/** See the file's header. */
export class GivenFiles {
  readonly #fds: Map<string, number>;
  readonly #disks: ReadonlyMap<string, GivenDisk>;

  /** Open files by what they are for: "kernel", "initrd", `drive ID`, `interface ID`; drives' facts by id. */
  constructor(fds: ReadonlyMap<string, number>, disks: ReadonlyMap<string, GivenDisk>) {
    this.#fds = new Map(fds);
    this.#disks = disks;
  }

  /** The descriptor, the caller's from now on. */
  take(use: string): number | undefined {
    const fd = this.#fds.get(use);
    this.#fds.delete(use);
    return fd;
  }

  /** A drive's file, the caller's from now on. */
  takeDisk({ id, path, readOnly }: { id: string; path: string; readOnly: boolean }) {
    const known = this.#disks.get(id);
    const fd = known === undefined ? undefined : this.take(`drive ${id}`);
    return known && fd !== undefined ? { fd, path, readOnly, ...known } : undefined;
  }

  /** A file to load, which stays in here. */
  bootFile(use: BootFileKind, path: string): BootFile {
    const fd = this.#fds.get(use);
    return fd === undefined ? { path } : { path, fd };
  }

  close(): void {
    for (const fd of this.#fds.values()) closeSync(fd);
    this.#fds.clear();
  }
}

/** A kernel or an initrd: the given one, or the one that this process was started with, or the path's. */
export function bootFile(kind: BootFileKind, path: string, given?: GivenFiles): BootFile {
  return given?.bootFile(kind, path) ?? handedOver(kind, path);
}

/** What a microVM of this configuration is to be given, in order; interfaces of a user's network are not. */
export function usesOf({ initrd, drives, networkInterfaces }: CheckedConfig): string[] {
  return [
    "kernel",
    ...(initrd === undefined ? [] : ["initrd"]),
    ...drives.map(({ id }) => `drive ${id}`),
    ...networkInterfaces.filter(({ tap }) => tap !== undefined).map(({ id }) => `interface ${id}`),
  ];
}
