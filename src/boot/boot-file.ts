/**
 * Reading the files of a boot: headers into private buffers, contents straight into guest memory.
 *
 * All reads are at absolute offsets, so a caller's descriptor keeps its position. A file that ends
 * before its stated size, because somebody truncates it meanwhile, is an error and not a short
 * load.
 */
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { type ErrorCode, EstaloError, hostError } from "../errors.js";
import type { GuestMemory } from "../native/guest-memory.js";
import { GIB, type Gpa, KIB } from "../units.js";

/** A file to load: opened and closed here, or through `fd` when the caller opened it already. */
export interface BootFile {
  /** Named in errors; opened when there is no `fd`. */
  readonly path: string;
  /** An open descriptor, read at absolute offsets; stays open. */
  readonly fd?: number;
}

/** What an open boot file is to errors. */
export type BootFileKind = "kernel" | "initrd";

const FILE_ERROR: Record<BootFileKind, ErrorCode> = {
  kernel: "ERR_ESTALO_KERNEL_FILE",
  initrd: "ERR_ESTALO_INITRD_FILE",
};

/** Copies are made by this much: it stays in the processor's cache. */
const COPY_BYTES = 256 * KIB;
/** Linux reads at most 2 GiB less a page per call; a round number below that. */
const READ_BYTES_MAX = GIB;

/** An open regular file of known size. */
export interface OpenBootFile {
  readonly kind: BootFileKind;
  readonly path: string;
  readonly fd: number;
  readonly sizeBytes: number;
  /** Another one when its contents have changed: device, inode, size and times. */
  readonly identity: string;
  /** When it was last written, ms since 1970. */
  readonly changedAtMs: number;
}

/** Opens `file`, runs `use` with it and closes what was opened here. */
export function withBootFile<T>(
  kind: BootFileKind,
  file: BootFile,
  use: (open: OpenBootFile) => T,
): T {
  const fd = file.fd ?? openPath(kind, file.path);
  try {
    const stat = attempt("fstat", kind, file.path, () => fstatSync(fd, { bigint: true }));
    if (!stat.isFile()) {
      throw new EstaloError(FILE_ERROR[kind], `${kind} ${file.path} is not a regular file`, {
        data: { path: file.path },
      });
    }
    return use({
      kind,
      path: file.path,
      fd,
      sizeBytes: Number(stat.size),
      identity: [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(":"),
      changedAtMs: Number(stat.mtimeMs),
    });
  } finally {
    if (file.fd === undefined) closeSync(fd);
  }
}

/** Opens a boot file for who loads it later: the caller's descriptor. Raises as `withBootFile`, with nothing open. */
export function openBootFile(kind: BootFileKind, path: string): number {
  const fd = openPath(kind, path);
  try {
    return withBootFile(kind, { path, fd }, () => fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Without waiting for the other end of a FIFO, which is refused as soon as it is looked at. */
function openPath(kind: BootFileKind, path: string): number {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK;
  return attempt("open", kind, path, () => openSync(path, flags));
}

/**
 * A private copy of `[offset, offset + sizeBytes)`; the caller has checked it against the file's
 * size.
 */
export function readBytes(file: OpenBootFile, offset: number, sizeBytes: number): DataView {
  const bytes = new Uint8Array(sizeBytes);
  readFully(file, offset, bytes);
  return new DataView(bytes.buffer);
}

/** Reads `[offset, offset + sizeBytes)` of the file to `gpa`, without a copy of our own. */
export function readIntoGuest(
  file: OpenBootFile,
  offset: number,
  sizeBytes: number,
  memory: GuestMemory,
  gpa: Gpa,
): void {
  let at = offset;
  for (const slice of memory.slices(gpa, sizeBytes)) {
    readFully(file, at, slice);
    at += slice.length;
  }
}

/** Copies `[offset, offset + sizeBytes)` of the file to `intoOffset` of another one. */
export function copyToFile(
  file: OpenBootFile,
  offset: number,
  sizeBytes: number,
  intoFd: number,
  intoOffset: number,
): void {
  const buffer = new Uint8Array(Math.min(sizeBytes, COPY_BYTES));
  for (let done = 0; done < sizeBytes; done += buffer.length) {
    const part = buffer.subarray(0, Math.min(buffer.length, sizeBytes - done));
    readFully(file, offset + done, part);
    for (let written = 0; written < part.length; ) {
      const at = intoOffset + done + written;
      written += attempt("write", file.kind, "image", () =>
        writeSync(intoFd, part, written, part.length - written, at),
      );
    }
  }
}

function readFully(file: OpenBootFile, offset: number, into: Uint8Array): void {
  let done = 0;
  while (done < into.length) {
    const want = Math.min(into.length - done, READ_BYTES_MAX);
    const got = attempt("read", file.kind, file.path, () =>
      readSync(file.fd, into, done, want, offset + done),
    );
    if (got === 0) {
      throw new EstaloError(
        FILE_ERROR[file.kind],
        `${file.kind} ${file.path} became shorter while it was read`,
        { data: { path: file.path, offset: offset + done, expectedBytes: file.sizeBytes } },
      );
    }
    done += got;
  }
}

function attempt<T>(operation: string, kind: BootFileKind, path: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw hostError(operation, `${kind} ${path}`, error, FILE_ERROR[kind]);
  }
}
