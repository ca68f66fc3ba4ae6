/**
 * Files and folders of the host's into the guest, as one stream of entries.
 */
import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, open, opendir, readlink, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { hostError, isEstaloError } from "../../errors.js";
import {
  type AgentChannel,
  closeOnAbort,
  type FileCallOptions,
  type OpenChannel,
} from "./channel.js";
import {
  encodeEntry,
  encodeHole,
  encodePath,
  type FileKind,
  FRAME,
  PAYLOAD_BYTES_MAX,
} from "./protocol.js";

/** Options of a copy into the guest. */
export interface CopyInOptions extends FileCallOptions {
  /** Hears how far it is, after each file. */
  readonly onProgress?: (summary: CopySummary) => void;
}

/** What a copy has done. */
export interface CopySummary {
  /** Files, folders and symbolic links. */
  readonly entries: number;
  /** Bytes of the files, with their holes. */
  readonly bytes: number;
  /** Devices, pipes and sockets that were left out. */
  readonly skipped: number;
}

/** A file is looked at in such parts for what is nothing but zeros. */
const PART_BYTES = PAYLOAD_BYTES_MAX;
const ZEROS = Buffer.alloc(PART_BYTES);
const BYTES_PER_BLOCK = 512;

class CopyIn {
  readonly #channel: AgentChannel;
  readonly #part = Buffer.allocUnsafe(PART_BYTES);
  readonly #onProgress: CopyInOptions["onProgress"];
  summary = { entries: 0, bytes: 0, skipped: 0 };

  constructor(channel: AgentChannel, { onProgress }: CopyInOptions) {
    this.#channel = channel;
    this.#onProgress = onProgress;
  }

  /** Sends what is at `path`; its first entry has no name, and follows a symbolic link. */
  async send(path: string, name: string): Promise<void> {
    const status = await onHost("look at", path, name === "" ? stat(path) : lstat(path));
    if (status.isDirectory()) await this.#sendFolder(path, name, status);
    else if (status.isFile()) await this.#sendFile(path, name);
    else if (status.isSymbolicLink()) {
      await this.#entry(name, "symlink", status, await onHost("read", path, readlink(path)));
    } else {
      this.summary.skipped++;
    }
    this.#onProgress?.({ ...this.summary });
  }

  async #sendFolder(path: string, name: string, status: Stats): Promise<void> {
    await this.#entry(name, "directory", status);
    const folder = await onHost("open", path, opendir(path));
    for await (const entry of folder) await this.send(join(path, entry.name), entry.name);
    await this.#channel.queue(FRAME.LEAVE);
  }

  async #sendFile(path: string, name: string): Promise<void> {
    const flags = constants.O_RDONLY | (name === "" ? 0 : constants.O_NOFOLLOW);
    const file = await onHost("open", path, open(path, flags));
    try {
      const status = await onHost("look at", path, file.stat());
      await this.#entry(name, "file", status);
      await this.#sendBytes(path, file, status.blocks * BYTES_PER_BLOCK < status.size);
    } finally {
      await file.close();
    }
  }

  /** Of a file with holes, parts of zeros become holes: Node has no SEEK_HOLE. */
  async #sendBytes(path: string, file: FileHandle, hasHoles: boolean): Promise<void> {
    let hole = 0;
    for (let at = 0; ; ) {
      const reading = file.read(this.#part, 0, PART_BYTES, at);
      const { bytesRead } = await onHost("read", path, reading);
      if (bytesRead === 0) break;
      at += bytesRead;
      this.summary.bytes += bytesRead;
      const part = this.#part.subarray(0, bytesRead);
      if (hasHoles && part.equals(ZEROS.subarray(0, bytesRead))) {
        hole += bytesRead;
        continue;
      }
      if (hole > 0) await this.#channel.queue(FRAME.HOLE, encodeHole(hole));
      hole = 0;
      await this.#channel.queue(FRAME.DATA, part);
    }
    if (hole > 0) await this.#channel.queue(FRAME.HOLE, encodeHole(hole));
  }

  async #entry(name: string, kind: FileKind, status: Stats, target = ""): Promise<void> {
    const { mode, mtimeMs } = status;
    await this.#channel.queue(FRAME.ENTRY, encodeEntry({ name, kind, mode, mtimeMs, target }));
    this.summary.entries++;
  }
}

async function onHost<T>(operation: string, path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw isEstaloError(error) ? error : hostError(operation, path, error);
  }
}

/**
 * Copies; see {@link GuestFiles.copyIn}.
 *
 * @param isFolder - the target is one, and gets the source under its name
 */
export async function copyIn(
  openChannel: OpenChannel,
  source: string,
  target: string,
  isFolder: boolean,
  options: CopyInOptions,
): Promise<CopySummary> {
  // Before the guest is asked for anything.
  await onHost("look at", source, stat(source));
  const path =
    isFolder || target.endsWith("/")
      ? `${target.replace(/\/+$/, "")}/${basename(resolve(source))}`
      : target;
  const channel = await openChannel(options.signal);
  const stop = closeOnAbort(channel, options.signal);
  const answer = channel.answer();
  // The guest may give up before everything is there, and then says why.
  answer.catch((error) => channel.close(error));
  try {
    const copy = new CopyIn(channel, options);
    await channel.send(FRAME.WRITE, encodePath(path));
    await copy.send(source, "");
    await channel.send(FRAME.END);
    await answer;
    return copy.summary;
  } finally {
    stop();
    channel.close();
  }
}
