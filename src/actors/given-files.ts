/**
 * Files that a microVM does not open itself: a jailed process has none of the host's, nor the rights, and is handed open
 * ones, by what they are for:
 *
 *     kernel   initrd   drive ID   interface ID   pmem ID
 *
 * An interface has one for each pair of queues, that of a tap, or the socket of its passt. Each is taken once, by who
 * owns it from then on; `close` closes what nobody took.
 */
import { closeSync } from "node:fs";
import { type BootFile, type BootFileKind, openBootFile } from "../boot/boot-file.js";
import { openDiskFile } from "./backends/disk-file.js";
import { startPasst } from "./backends/passt-program.js";
import { openPmemFile } from "./backends/pmem-file.js";
import { openTap } from "./backends/tap.js";
import type { CheckedConfig } from "./config.js";

/** What it is for, and its descriptor. */
export type GivenFile = readonly [use: string, fd: number];

/** See the file's header. */
export class GivenFiles {
  readonly #fds = new Map<string, number[]>();

  constructor(given: readonly GivenFile[] = []) {
    for (const [use, fd] of given) this.add(use, fd);
  }

  /** One more, its own from now on; those for one use are taken in this order. */
  add(use: string, fd: number): void {
    const others = this.#fds.get(use);
    if (others === undefined) this.#fds.set(use, [fd]);
    else others.push(fd);
  }

  /** The next descriptor for this use, the caller's from now on. */
  take(use: string): number | undefined {
    return this.#fds.get(use)?.shift();
  }

  /** A file to load, which stays in here; that at the path if none was given. */
  bootFile(use: BootFileKind, path: string): BootFile {
    const [fd] = this.#fds.get(use) ?? [];
    return fd === undefined ? { path } : { path, fd };
  }

  close(): void {
    for (const fd of [...this.#fds.values()].flat()) closeSync(fd);
    this.#fds.clear();
  }
}

/** What this process was started with, for the one microVM that it runs. */
export const startedWith = new GivenFiles();

/**
 * Opens all that a microVM of this configuration would open, for another process, in the words of their own errors;
 * nothing stays open when one cannot be.
 */
export function openFiles(config: CheckedConfig): GivenFile[] {
  const opened: GivenFile[] = [];
  try {
    for (const kind of ["kernel", "initrd"] as const) {
      const path = config[kind];
      if (path !== undefined) opened.push([kind, openBootFile(kind, path)]);
    }
    for (const drive of config.drives) opened.push([`drive ${drive.id}`, openDiskFile(drive).fd]);
    for (const { id, tap, user, queuePairs } of config.networkInterfaces) {
      const fds =
        user === undefined
          ? openTap(tap as string, queuePairs).map((queue) => queue.release())
          : [startPasst(user)];
      for (const fd of fds) opened.push([`interface ${id}`, fd]);
    }
    for (const one of config.pmem) opened.push([`pmem ${one.id}`, openPmemFile(one)]);
    return opened;
  } catch (error) {
    for (const [, fd] of opened) closeSync(fd);
    throw error;
  }
}
