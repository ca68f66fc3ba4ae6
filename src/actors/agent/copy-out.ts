/**
 * Files and folders of the guest's to the host. The guest may say anything: a name is one component (protocol.ts
 * has checked it), every folder below the target is one that was made or found as a real folder here, and
 * files and links are made anew, never opened through what has their name. So nothing outside the target
 * is touched, whatever symbolic links the guest sends first.
 */
import { constants } from "node:fs";
import {
  chmod,
  type FileHandle,
  lstat,
  lutimes,
  mkdir,
  open,
  stat,
  symlink,
  unlink,
  utimes,
} from "node:fs/promises";
import { basename, join } from "node:path";
import { EstaloError, hostError, isEstaloError } from "../../errors.js";
import { closeOnAbort, type FileCallOptions, type OpenChannel } from "./channel.js";
import type { CopySummary } from "./copy-in.js";
import {
  decodeEntry,
  decodeNumber,
  encodePath,
  type FileInfo,
  FRAME,
  type Frame,
  protocolError,
  RECURSIVE,
} from "./protocol.js";

/** Options of a copy out of the guest. */
export interface CopyOutOptions extends FileCallOptions {
  /** Hears how far it is, after each file. */
  readonly onProgress?: (summary: CopySummary) => void;
  /** Most entries, with those that are left out; more are ERR_ESTALO_TOO_LARGE. Default 1,000,000. */
  readonly maxEntries?: number;
  /** Most bytes, holes not counted; more are ERR_ESTALO_TOO_LARGE. Default: no limit. */
  readonly maxBytes?: number;
}

const ENTRIES_MAX = 1_000_000;
const DEPTH_MAX = 256;
const OWNER_MAY_ALL = 0o700;
const OWNER_MAY_WRITE = 0o600;
/** No file of ours gets more than these from a guest: no set-user-id programs on the host. */
const PERMISSIONS_MASK = 0o777;

interface Folder {
  readonly path: string;
  readonly info: FileInfo;
}

class CopyOut {
  readonly #options: CopyOutOptions;
  readonly #folders: Folder[] = [];
  /** Where the first entry goes; `undefined` from then on. */
  #target: string | undefined;
  #file:
    | { readonly handle: FileHandle; readonly path: string; readonly info: FileInfo }
    | undefined;
  #at = 0;
  #dataBytes = 0;
  summary = { entries: 0, bytes: 0, skipped: 0 };

  constructor(target: string, options: CopyOutOptions) {
    this.#target = target;
    this.#options = options;
  }

  async take({ type, payload }: Frame): Promise<void> {
    if (type === FRAME.ENTRY) await this.#takeEntry(decodeEntry(payload));
    else if (type === FRAME.DATA) await this.#takeData(payload);
    else if (type === FRAME.HOLE) this.#takeHole(decodeNumber(payload, 8, "a hole"));
    else if (type === FRAME.LEAVE) await this.#leave();
    else throw protocolError(`frame ${type} in a copy`);
  }

  async finish(): Promise<void> {
    await this.#finishFile();
    if (this.#folders.length > 0 || this.#target !== undefined) throw protocolError("half a tree");
  }

  /** Closes what is open, after a failure. */
  async abandon(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.handle.close().catch(() => {});
  }

  async #takeEntry(info: FileInfo): Promise<void> {
    await this.#finishFile();
    const path = this.#pathOf(info.name);
    this.summary.entries++;
    const { entries, skipped } = this.summary;
    if (entries + skipped > (this.#options.maxEntries ?? ENTRIES_MAX)) throw tooLarge("entries");
    if (info.kind === "directory") await this.#makeFolder(path, info);
    else if (info.kind === "file") await this.#makeFile(path, info);
    else if (info.kind === "symlink") await this.#makeLink(path, info);
    else {
      this.summary.entries--;
      this.summary.skipped++;
    }
    this.#options.onProgress?.({ ...this.summary });
  }

  #pathOf(name: string): string {
    const target = this.#target;
    this.#target = undefined;
    if (target !== undefined) {
      if (name !== "") throw protocolError("a first entry with a name");
      return target;
    }
    const folder = this.#folders.at(-1);
    if (folder === undefined || name === "") throw protocolError("an entry outside the tree");
    return join(folder.path, name);
  }

  async #makeFolder(path: string, info: FileInfo): Promise<void> {
    if (this.#folders.length === DEPTH_MAX) throw tooLarge("folders in folders");
    const isTarget = this.#folders.length === 0;
    try {
      await mkdir(path, OWNER_MAY_ALL);
    } catch (error) {
      // The target itself is the caller's, who may have a link there; below it only real folders count.
      const found = isTarget ? await stat(path).catch(() => undefined) : await lstat(path);
      if (!found?.isDirectory()) throw hostError("make folder", path, error);
    }
    this.#folders.push({ path, info });
  }

  async #makeFile(path: string, info: FileInfo): Promise<void> {
    await clear(path, this.#folders.length === 0);
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const handle = await onHost("make", path, open(path, flags, OWNER_MAY_WRITE));
    this.#file = { handle, path, info };
    this.#at = 0;
  }

  async #makeLink(path: string, info: FileInfo): Promise<void> {
    await clear(path, this.#folders.length === 0);
    await onHost("make link", path, symlink(info.target, path));
    await onHost("set time of", path, lutimes(path, info.mtimeMs / 1000, info.mtimeMs / 1000));
  }

  async #takeData(bytes: Buffer): Promise<void> {
    const file = this.#file;
    if (file === undefined) throw protocolError("bytes of no file");
    this.#dataBytes += bytes.length;
    if (this.#dataBytes > (this.#options.maxBytes ?? Number.POSITIVE_INFINITY))
      throw tooLarge("bytes");
    for (let done = 0; done < bytes.length; ) {
      const writing = file.handle.write(bytes, done, bytes.length - done, this.#at);
      const { bytesWritten } = await onHost("write", file.path, writing);
      done += bytesWritten;
      this.#at += bytesWritten;
    }
    this.summary.bytes += bytes.length;
  }

  #takeHole(bytes: number): void {
    if (this.#file === undefined) throw protocolError("a hole of no file");
    this.#at += bytes;
    if (!Number.isSafeInteger(this.#at)) throw protocolError("a file beyond 2^53 bytes");
    this.summary.bytes += bytes;
  }

  async #finishFile(): Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    const { handle, path, info } = file;
    const seconds = info.mtimeMs / 1000;
    try {
      await onHost("set size of", path, handle.truncate(this.#at));
      await onHost("set mode of", path, handle.chmod(info.mode & PERMISSIONS_MASK));
      await onHost("set time of", path, handle.utimes(seconds, seconds));
    } finally {
      await handle.close();
    }
  }

  async #leave(): Promise<void> {
    await this.#finishFile();
    const folder = this.#folders.pop();
    if (folder === undefined) throw protocolError("more ends than folders");
    const { path, info } = folder;
    await onHost("set mode of", path, chmod(path, info.mode & PERMISSIONS_MASK));
    await onHost("set time of", path, utimes(path, info.mtimeMs / 1000, info.mtimeMs / 1000));
  }
}

/** Takes away what has the name, a file or a link. What leads the caller's own target to a device is one, too. */
async function clear(path: string, isTarget: boolean): Promise<void> {
  const found = await (isTarget ? stat(path) : lstat(path)).catch(() => undefined);
  const isFile = found?.isFile() || found?.isSymbolicLink();
  if (found !== undefined && !isFile && !found.isDirectory()) {
    throw hostError("replace", path, Object.assign(new Error("no file"), { code: "EEXIST" }));
  }
  await unlink(path).catch((error) => {
    if (error?.code !== "ENOENT") throw hostError("replace", path, error);
  });
}

async function onHost<T>(operation: string, path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw isEstaloError(error) ? error : hostError(operation, path, error);
  }
}

function tooLarge(what: string): EstaloError {
  return new EstaloError("ERR_ESTALO_TOO_LARGE", `the guest sends too many ${what}`, {
    hint: "maxEntries and maxBytes are the limits of a copy",
  });
}

/** Copies; see {@link GuestFiles.copyOut}. */
export async function copyOut(
  openChannel: OpenChannel,
  source: string,
  target: string,
  options: CopyOutOptions,
): Promise<CopySummary> {
  const found = await stat(target).catch(() => undefined);
  const name = basename(source);
  const isInside =
    (found?.isDirectory() || target.endsWith("/")) && name !== "" && !/^\.\.?$/.test(name);
  const copy = new CopyOut(isInside ? join(target, name) : target, options);
  const channel = await openChannel(options.signal);
  const stop = closeOnAbort(channel, options.signal);
  try {
    await channel.send(FRAME.READ, encodePath(source, RECURSIVE));
    for await (const frame of channel.until()) await copy.take(frame);
    await copy.finish();
    return copy.summary;
  } finally {
    stop();
    channel.close();
    await copy.abandon();
  }
}
