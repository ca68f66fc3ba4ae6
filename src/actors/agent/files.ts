/**
 * Files of the guest's, one at a time. Whole trees are in copy-in.ts and copy-out.ts.
 */
import { Readable } from "node:stream";
import { EstaloError } from "../../errors.js";
import { KeptBytes } from "../kept-bytes.js";
import { closeOnAbort, type FileCallOptions, type OpenChannel } from "./channel.js";
import { type CopyInOptions, type CopySummary, copyIn } from "./copy-in.js";
import { type CopyOutOptions, copyOut } from "./copy-out.js";
import {
  decodeEntry,
  decodeNumber,
  encodeEntry,
  encodePath,
  type FileInfo,
  FOLLOW,
  FRAME,
  PAYLOAD_BYTES_MAX,
  protocolError,
  RECURSIVE,
} from "./protocol.js";
import { takeFrom } from "./source.js";

/** Options of {@link GuestFiles.read}. */
export interface ReadOptions extends FileCallOptions {
  /** A longer file is ERR_ESTALO_TOO_LARGE. Default 64 MiB. */
  readonly maxBytes?: number;
}

/** Options of {@link GuestFiles.write}. */
export interface WriteOptions extends FileCallOptions {
  /** Permissions. Default 0o644. */
  readonly mode?: number;
}

const READ_BYTES_MAX = 64 * 2 ** 20;
const MODE = 0o644;
/** Entries of one folder that are listed at most. */
const ENTRIES_MAX = 1_000_000;
/** Bytes of their names, targets and numbers at most. */
const LIST_BYTES_MAX = 64 * 2 ** 20;

/**
 * The guest's files, by paths in the guest. What the guest refuses rejects with ERR_ESTALO_AGENT_FAILED, whose
 * `data.errno` is the guest's (`ENOENT`, …).
 */
export class GuestFiles {
  readonly #open: OpenChannel;

  constructor(open: OpenChannel) {
    this.#open = open;
  }

  /** What a file is; a symbolic link is followed. */
  stat(path: string, options: FileCallOptions = {}): Promise<FileInfo> {
    return this.#stat(path, FOLLOW, options);
  }

  /** What a file is, or the symbolic link itself. */
  lstat(path: string, options: FileCallOptions = {}): Promise<FileInfo> {
    return this.#stat(path, 0, options);
  }

  async #stat(path: string, flags: number, options: FileCallOptions): Promise<FileInfo> {
    let info: FileInfo | undefined;
    for await (const frame of this.#ask(FRAME.STAT, encodePath(path, flags), options)) {
      if (frame.type !== FRAME.ENTRY || info !== undefined)
        throw protocolError("more than one entry");
      info = decodeEntry(frame.payload);
    }
    if (info === undefined) throw protocolError("no entry");
    return info;
  }

  /**
   * What a folder has, in no order. Rejects with ERR_ESTALO_TOO_LARGE beyond 1,000,000 entries, or 64 MiB of them
   * as the guest sends them: 42 bytes, name and target each.
   */
  async list(path: string, options: FileCallOptions = {}): Promise<FileInfo[]> {
    const entries: FileInfo[] = [];
    let bytes = 0;
    for await (const frame of this.#ask(FRAME.LIST, encodePath(path), options)) {
      if (frame.type !== FRAME.ENTRY) throw protocolError(`frame ${frame.type} in a folder`);
      if (entries.length === ENTRIES_MAX) throw tooLarge(path, `${ENTRIES_MAX} entries`);
      bytes += frame.payload.length;
      if (bytes > LIST_BYTES_MAX) throw tooLarge(path, `${LIST_BYTES_MAX} bytes of entries`);
      entries.push(decodeEntry(frame.payload));
    }
    return entries;
  }

  /** A file's bytes, in parts; holes are zeros. A symbolic link is followed. */
  async *readParts(path: string, options: FileCallOptions = {}): AsyncGenerator<Buffer, void> {
    let info: FileInfo | undefined;
    for await (const { type, payload } of this.#ask(
      FRAME.READ,
      encodePath(path, FOLLOW),
      options,
    )) {
      if (info === undefined && type === FRAME.ENTRY) {
        info = decodeEntry(payload);
        if (info.kind !== "file") {
          throw new EstaloError("ERR_ESTALO_AGENT_FAILED", `in the guest: ${path} is no file`, {
            data: { what: path, errno: info.kind === "directory" ? "EISDIR" : "EINVAL" },
          });
        }
      } else if (info !== undefined && type === FRAME.DATA) {
        yield payload;
      } else if (info !== undefined && type === FRAME.HOLE) {
        yield* zeros(decodeNumber(payload, 8, "a hole"));
      } else {
        throw protocolError(`frame ${type} in a file`);
      }
    }
  }

  /** A file's bytes. Rejects with ERR_ESTALO_TOO_LARGE beyond `maxBytes`. */
  async read(path: string, options: ReadOptions = {}): Promise<Buffer> {
    const { maxBytes = READ_BYTES_MAX } = options;
    const kept = new KeptBytes();
    for await (const part of this.readParts(path, options)) {
      if (kept.length + part.length > maxBytes) throw tooLarge(path, `${maxBytes} bytes`);
      kept.append(part);
    }
    return kept.take();
  }

  /**
   * Makes a file, or puts other bytes into one. A source is ended with the call, by `return` or `destroy`, whatever
   * ends that.
   */
  async write(
    path: string,
    content: string | Uint8Array | AsyncIterable<Uint8Array>,
    options: WriteOptions = {},
  ): Promise<void> {
    try {
      await this.#write(path, content, options);
    } finally {
      if (content instanceof Readable) content.destroy();
    }
  }

  async #write(
    path: string,
    content: string | Uint8Array | AsyncIterable<Uint8Array>,
    options: WriteOptions,
  ): Promise<void> {
    const channel = await this.#open(options.signal);
    const stop = closeOnAbort(channel, options.signal);
    const answer = channel.answer();
    const answered = new AbortController();
    // The guest may give up before everything is there, and then says why.
    answer.catch((error) => channel.close(error)).finally(() => answered.abort());
    try {
      await channel.send(FRAME.WRITE, encodePath(path));
      const mode = options.mode ?? MODE;
      const entry = { name: "", kind: "file", mode, mtimeMs: Date.now(), target: "" } as const;
      await channel.send(FRAME.ENTRY, encodeEntry(entry));
      for await (const bytes of partsOf(content, answered.signal)) {
        await channel.send(FRAME.DATA, bytes);
      }
      await channel.send(FRAME.END);
      await answer;
    } catch (error) {
      if (!answered.signal.aborted) throw error;
      await answer;
      throw protocolError("an answer before the file's end");
    } finally {
      stop();
      channel.close();
    }
  }

  /** Removes a file, a link or, with `recursive`, a folder and all in it. */
  async remove(
    path: string,
    options: FileCallOptions & { readonly recursive?: boolean } = {},
  ): Promise<void> {
    const flags = options.recursive === true ? RECURSIVE : 0;
    for await (const { type } of this.#ask(FRAME.REMOVE, encodePath(path, flags), options)) {
      throw protocolError(`frame ${type} for a removal`);
    }
  }

  /**
   * Copies a file or folder of the host's into the guest, with modes, times, symbolic links and holes. A target
   * that is a folder, or ends with a slash, gets it under its own name.
   */
  async copyIn(source: string, target: string, options: CopyInOptions = {}): Promise<CopySummary> {
    const found = await this.stat(target, options).catch((error) => {
      if (error?.data?.errno === "ENOENT") return undefined;
      throw error;
    });
    return copyIn(this.#open, source, target, found?.kind === "directory", options);
  }

  /**
   * Copies a file or folder of the guest's to the host, likewise. Nothing is written outside the target,
   * whatever the guest says: names are single components, and no symbolic link is followed.
   */
  copyOut(source: string, target: string, options: CopyOutOptions = {}): Promise<CopySummary> {
    return copyOut(this.#open, source, target, options);
  }

  async *#ask(type: number, payload: Buffer, { signal }: FileCallOptions) {
    const channel = await this.#open(signal);
    const stop = closeOnAbort(channel, signal);
    try {
      await channel.send(type, payload);
      yield* channel.until();
    } finally {
      stop();
      channel.close();
    }
  }
}

function tooLarge(path: string, limit: string): EstaloError {
  return new EstaloError("ERR_ESTALO_TOO_LARGE", `in the guest: ${path} is beyond ${limit}`, {
    data: { path, limit },
  });
}

function* zeros(bytes: number): Generator<Buffer> {
  const part = Buffer.alloc(Math.min(bytes, PAYLOAD_BYTES_MAX));
  for (let left = bytes; left > 0; left -= part.length)
    yield part.subarray(0, Math.min(left, part.length));
}

/** Content in parts that a frame holds, until `signal` aborts. */
async function* partsOf(
  content: string | Uint8Array | AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const whole = typeof content === "string" ? Buffer.from(content) : content;
  const pieces = whole instanceof Uint8Array ? [whole] : takeFrom(whole, signal);
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += PAYLOAD_BYTES_MAX) {
      yield piece.subarray(at, at + PAYLOAD_BYTES_MAX);
    }
  }
}
