/**
 * The frames between host and guest agent: numbers, and payloads in and out of bytes. docs/agent.md is their
 * description, guest/agent/agent.h the other side's table; a spec compares the two.
 *
 *     u8 type | u8 version | u16 0 | u32 length | payload          all numbers little-endian
 *
 * What comes from the guest is checked here, once: no length, name or number leaves this file that is not
 * what its type says.
 */
import { EstaloError } from "../../errors.js";

export const AGENT_PORT = 1024;
export const PROTOCOL_VERSION = 1;
export const HEADER_BYTES = 8;
export const PAYLOAD_BYTES_MAX = 65_536;
/** Input that may be under way to a program at once. */
export const STDIN_WINDOW_BYTES = 65_536;
export const NAME_BYTES_MAX = 255;
export const PATH_BYTES_MAX = 4095;

/** Types of frames. */
export const FRAME = {
  // Requests, the first frame of a connection.
  EXEC: 1,
  HEALTH: 2,
  SET_TIME: 3,
  READ: 4,
  WRITE: 5,
  LIST: 6,
  STAT: 7,
  REMOVE: 8,
  // The host's, while a program runs.
  STDIN: 32,
  WINDOW_SIZE: 33,
  SIGNAL: 34,
  // The agent's.
  STARTED: 64,
  STDOUT: 65,
  STDERR: 66,
  EXITED: 67,
  STDIN_ROOM: 68,
  DONE: 69,
  FAILED: 70,
  HEALTH_IS: 71,
  // Files, both ways.
  ENTRY: 80,
  DATA: 81,
  HOLE: 82,
  LEAVE: 83,
  END: 84,
} as const;

export const EXEC_TERMINAL = 1;
/** Flags of READ, STAT and REMOVE. */
export const FOLLOW = 1;
export const RECURSIVE = 2;
/** An entry's fields before its name. */
export const ENTRY_BYTES = 40;
/** Of an entry's user and group: whoever the agent is. */
export const NOBODY_GIVEN = 0xffff_ffff;

/** The kind in a mode, stat(2). */
const KIND_MASK = 0o170000;
const KIND_BITS = { file: 0o100000, directory: 0o040000, symlink: 0o120000, other: 0 } as const;
const KINDS = new Map<number, FileKind>([
  [KIND_BITS.file, "file"],
  [KIND_BITS.directory, "directory"],
  [KIND_BITS.symlink, "symlink"],
]);
const PERMISSIONS_MASK = 0o7777;
const NS_PER_MS = 1_000_000;
/** Sizes and times from the guest have to be whole numbers that JavaScript can hold. */
const HIGH_WORD_MAX = 2 ** 21;

/** What a file is; "other" is a device, a pipe or a socket. */
export type FileKind = "file" | "directory" | "symlink" | "other";

/** A file or folder of the guest's. */
export interface FileInfo {
  /** One component of a path; empty for what was asked for itself. */
  readonly name: string;
  readonly kind: FileKind;
  /** Permissions, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** What it takes on its disk: less than its size when it has holes. */
  readonly allocatedBytes: number;
  /** Last change of its content, ms since 1970. */
  readonly mtimeMs: number;
  /** Of a symbolic link, where it leads. */
  readonly target: string;
}

/** A frame as it came. */
export interface Frame {
  readonly type: number;
  readonly payload: Buffer;
}

/** What the guest says of itself. */
export interface GuestHealth {
  readonly uptimeMs: number;
  /** The guest's clock, ms since 1970. */
  readonly timeMs: number;
  readonly memoryBytes: number;
  readonly freeBytes: number;
  /** What programs could still get without swapping. */
  readonly availableBytes: number;
  /** Load averages of 1, 5 and 15 minutes. */
  readonly load: readonly [number, number, number];
  readonly processes: number;
}

/** What a program is to be started as. */
export interface ExecOrder {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string;
  readonly terminal: { readonly rows: number; readonly columns: number } | undefined;
}

/** The guest says what the protocol does not have. */
export function protocolError(what: string): EstaloError {
  return new EstaloError("ERR_ESTALO_AGENT_PROTOCOL", `the guest's agent: ${what}`, {
    hint: "its version must be this Estalo's; a guest that is not trusted may say anything",
    data: { what },
  });
}

/** A frame's bytes. */
export function encodeFrame(type: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  frame.writeUInt8(type, 0);
  frame.writeUInt8(PROTOCOL_VERSION, 1);
  frame.writeUInt16LE(0, 2);
  frame.writeUInt32LE(payload.length, 4);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

/** Of a frame that comes in parts, those that are kept apart. */
const PARTS_MAX = 64;

/** Cuts a stream of bytes into frames; at most one frame is kept. */
export class FrameReader {
  #parts: Buffer[] = [];
  #bytes = 0;

  /** Frames that are whole with these bytes; raises ERR_ESTALO_AGENT_PROTOCOL. */
  *take(bytes: Buffer): Generator<Frame> {
    this.#parts.push(bytes);
    this.#bytes += bytes.length;
    // A guest may send a frame byte by byte, and each part has a buffer of its own.
    if (this.#parts.length > PARTS_MAX) this.#joined();
    while (this.#bytes >= HEADER_BYTES) {
      const length = this.#length();
      if (this.#bytes < HEADER_BYTES + length) return;
      const all = this.#joined();
      const end = HEADER_BYTES + length;
      this.#parts = end < all.length ? [all.subarray(end)] : [];
      this.#bytes = all.length - end;
      yield { type: all.readUInt8(0), payload: all.subarray(HEADER_BYTES, end) };
    }
  }

  /** Whether the bytes ended inside a frame. */
  get isInside(): boolean {
    return this.#bytes > 0;
  }

  #length(): number {
    const header = this.#parts[0].length >= HEADER_BYTES ? this.#parts[0] : this.#joined();
    const length = header.readUInt32LE(4);
    if (header.readUInt8(1) !== PROTOCOL_VERSION || header.readUInt16LE(2) !== 0) {
      throw protocolError(`version ${header.readUInt8(1)} of the protocol`);
    }
    if (length > PAYLOAD_BYTES_MAX) throw protocolError(`a frame of ${length} bytes`);
    return length;
  }

  #joined(): Buffer {
    if (this.#parts.length > 1) this.#parts = [Buffer.concat(this.#parts)];
    return this.#parts[0];
  }
}

/** A payload in the making. */
class Writer {
  readonly #parts: Buffer[] = [];

  number(value: number, bytes: 1 | 2 | 4 | 8): this {
    const part = Buffer.alloc(bytes);
    if (bytes === 8) {
      part.writeUInt32LE(value % 2 ** 32, 0);
      part.writeUInt32LE(Math.floor(value / 2 ** 32), 4);
    } else {
      part.writeUIntLE(value, 0, bytes);
    }
    this.#parts.push(part);
    return this;
  }

  text(text: string): this {
    if (text.includes("\0")) throw requestError("texts have no NUL", text);
    this.#parts.push(Buffer.from(`${text}\0`));
    return this;
  }

  get payload(): Buffer {
    const payload = Buffer.concat(this.#parts);
    if (payload.length > PAYLOAD_BYTES_MAX) {
      throw requestError(`at most ${PAYLOAD_BYTES_MAX} bytes in all`, `${payload.length} bytes`);
    }
    return payload;
  }
}

function requestError(expected: string, got: string): EstaloError {
  return new EstaloError("ERR_ESTALO_CONFIG_INVALID", `the guest's agent is asked: ${expected}`, {
    data: { expected, got },
  });
}

/** A payload being read; what is not there is ERR_ESTALO_AGENT_PROTOCOL. */
class Reader {
  readonly #payload: Buffer;
  readonly #what: string;
  #at = 0;

  constructor(payload: Buffer, what: string) {
    this.#payload = payload;
    this.#what = what;
  }

  number(bytes: 1 | 2 | 4 | 8): number {
    const at = this.#at;
    this.#at += bytes;
    if (this.#at > this.#payload.length) throw protocolError(`${this.#what} is short`);
    if (bytes < 8) return this.#payload.readUIntLE(at, bytes);
    const high = this.#payload.readUInt32LE(at + 4);
    if (high >= HIGH_WORD_MAX) throw protocolError(`${this.#what} has a number beyond 2^53`);
    return high * 2 ** 32 + this.#payload.readUInt32LE(at);
  }

  text(bytesMax: number): string {
    const end = this.#payload.indexOf(0, this.#at);
    if (end < 0 || end - this.#at > bytesMax) throw protocolError(`${this.#what} has a bad text`);
    const text = this.#payload.toString("utf8", this.#at, end);
    this.#at = end + 1;
    return text;
  }

  end(): void {
    if (this.#at !== this.#payload.length) throw protocolError(`${this.#what} is long`);
  }
}

export function encodeExec(order: ExecOrder): Buffer {
  const variables = Object.entries(order.env);
  const { argv, cwd, user, terminal } = order;
  if (argv.length === 0 || argv[0] === "") throw requestError("a program to run", "none");
  const bad = variables.find(([name]) => name === "" || name.includes("="));
  if (bad !== undefined) throw requestError("names of variables without =", bad[0]);
  if (argv.length > 16_384 || variables.length > 4096) {
    throw requestError("at most 16384 words and 4096 variables", `${argv.length} words`);
  }
  const writer = new Writer()
    .number(terminal === undefined ? 0 : EXEC_TERMINAL, 4)
    .number(terminal?.rows ?? 0, 2)
    .number(terminal?.columns ?? 0, 2)
    .number(argv.length, 2)
    .number(variables.length, 2)
    .text(cwd)
    .text(user);
  for (const word of argv) writer.text(word);
  for (const [name, value] of variables) writer.text(`${name}=${value}`);
  return writer.payload;
}

export function encodeWindowSize(rows: number, columns: number): Buffer {
  return new Writer().number(rows, 2).number(columns, 2).payload;
}

/** READ, WRITE, LIST, STAT and REMOVE. */
export function encodePath(path: string, flags = 0): Buffer {
  if (path === "" || Buffer.byteLength(path) > PATH_BYTES_MAX) {
    throw requestError(`a path of 1 to ${PATH_BYTES_MAX} bytes`, path);
  }
  return new Writer().number(flags, 4).text(path).payload;
}

/** @param timeMs - ms since 1970 */
export function encodeTime(timeMs: number): Buffer {
  // In two steps: nanoseconds since 1970 are beyond 2^53.
  const payload = Buffer.alloc(8);
  payload.writeBigUInt64LE(BigInt(Math.floor(timeMs)) * BigInt(NS_PER_MS));
  return payload;
}

export function encodeHole(bytes: number): Buffer {
  return new Writer().number(bytes, 8).payload;
}

export function encodeEntry(
  entry: Pick<FileInfo, "name" | "kind" | "mode" | "mtimeMs" | "target">,
): Buffer {
  const whole = Math.floor(entry.mtimeMs / 1000);
  return new Writer()
    .number((KIND_BITS[entry.kind] | (entry.mode & PERMISSIONS_MASK)) >>> 0, 4)
    .number(NOBODY_GIVEN, 4)
    .number(NOBODY_GIVEN, 4)
    .number(0, 8)
    .number(0, 8)
    .number(Math.max(0, whole), 8)
    .number(whole < 0 ? 0 : Math.floor((entry.mtimeMs - whole * 1000) * NS_PER_MS), 4)
    .text(entry.name)
    .text(entry.target).payload;
}

/** An entry of the guest's: its name is one component, or nothing. */
export function decodeEntry(payload: Buffer): FileInfo {
  const reader = new Reader(payload, "an entry");
  const mode = reader.number(4);
  const [uid, gid] = [reader.number(4), reader.number(4)];
  const [sizeBytes, allocatedBytes] = [reader.number(8), reader.number(8)];
  const seconds = reader.number(8);
  const nanoseconds = reader.number(4);
  const name = reader.text(NAME_BYTES_MAX);
  const target = reader.text(PATH_BYTES_MAX);
  reader.end();
  if (name === "." || name === ".." || name.includes("/")) {
    throw protocolError(`a file's name is ${JSON.stringify(name)}`);
  }
  if (nanoseconds >= 1e9 || seconds > 8.64e12) throw protocolError("an entry's time is none");
  return {
    name,
    kind: KINDS.get(mode & KIND_MASK) ?? "other",
    mode: mode & PERMISSIONS_MASK,
    uid,
    gid,
    sizeBytes,
    allocatedBytes,
    mtimeMs: seconds * 1000 + nanoseconds / NS_PER_MS,
    target,
  };
}

export function decodeNumber(payload: Buffer, bytes: 4 | 8, what: string): number {
  const reader = new Reader(payload, what);
  const value = reader.number(bytes);
  reader.end();
  return value;
}

/** How a program ended: its status, or the number of the signal that ended it. */
export function decodeExit(payload: Buffer): {
  readonly signalled: boolean;
  readonly value: number;
} {
  const reader = new Reader(payload, "an exit");
  const exit = { signalled: reader.number(1) !== 0, value: reader.number(1) };
  reader.end();
  return exit;
}

/** What failed in the guest, with the errno there. */
export function decodeFailure(payload: Buffer): { readonly errno: number; readonly what: string } {
  const reader = new Reader(payload, "a failure");
  const failure = { errno: reader.number(4), what: reader.text(NAME_BYTES_MAX) };
  reader.end();
  return failure;
}

export function decodeHealth(payload: Buffer): GuestHealth {
  const reader = new Reader(payload, "health");
  const LOAD_ONE = 65_536;
  const uptimeMs = reader.number(8);
  // Nanoseconds since 1970 are beyond 2^53.
  if (payload.length < 16) throw protocolError("health is short");
  const timeMs = Number(payload.readBigUInt64LE(8) / BigInt(NS_PER_MS));
  reader.number(4);
  reader.number(4);
  const health = {
    uptimeMs,
    timeMs,
    memoryBytes: reader.number(8),
    freeBytes: reader.number(8),
    availableBytes: reader.number(8),
    load: [reader.number(4), reader.number(4), reader.number(4)].map((one) => one / LOAD_ONE),
    processes: reader.number(4),
  };
  reader.end();
  return health as unknown as GuestHealth;
}
