/**
 * A disk backend on a temporary file with guest memory behind it, and its contract as one table of cases
 * for every backend (`describeDisk`).
 */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { constants as os, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type DiskFile, openDiskFile } from "../../src/actors/backends/disk-file.js";
import { DeviceHost } from "../../src/actors/device-host.js";
import {
  DISK_FLUSH,
  DISK_READ,
  DISK_WRITE,
  type DiskBackend,
  type DiskOperation,
} from "../../src/devices/backend.js";
import { type NativeGuestMapping, native } from "../../src/native/binding.js";
import { GuestMemory } from "../../src/native/guest-memory.js";
import { GIB, MIB } from "../../src/units.js";

/** A range of guest memory. */
export type Segment = readonly [address: number, length: number];
type Backend = DiskBackend & { close(): void };

/** RAM up to 1 GiB, and 1 GiB around the 8 GiB line, which no single view may cross. */
const REGIONS = [
  { start: 0, sizeBytes: 1 * GIB },
  { start: 4 * GIB, sizeBytes: 5 * GIB },
];

export class DiskBench {
  readonly folder: string;
  readonly path: string;
  readonly host = new DeviceHost();
  readonly mapping: NativeGuestMapping = new (native().GuestMapping)(REGIONS);
  readonly memory = new GuestMemory(this.mapping.buffer, REGIONS);
  readonly file: DiskFile;
  readonly backend: Backend;
  /** Errors the backend reported beside its requests' results. */
  readonly errors: unknown[] = [];
  readonly #waiting = new Map<number, (result: number) => void>();
  readonly #free: number[];
  batches = 0;

  constructor(
    content: Uint8Array,
    create: (bench: DiskBench, file: DiskFile) => Backend,
    options: { readonly parent?: string | undefined; readonly readOnly?: boolean } = {},
  ) {
    this.folder = mkdtempSync(join(options.parent ?? tmpdir(), "estalo-disk-"));
    this.path = join(this.folder, "disk");
    writeFileSync(this.path, content);
    this.file = openDiskFile({ id: "d", path: this.path, readOnly: options.readOnly ?? false });
    this.backend = create(this, this.file);
    this.#free = Array.from({ length: this.backend.depth }, (_, tag) => tag);
    this.backend.onComplete = (tag, result) => {
      const answer = this.#waiting.get(tag);
      if (answer === undefined) throw new Error(`tag ${tag} completed without being in flight`);
      this.#waiting.delete(tag);
      this.#free.push(tag);
      answer(result);
    };
    this.backend.onBatchEnd = () => {
      this.batches += 1;
    };
  }

  get inFlight(): number {
    return this.#waiting.size;
  }

  /** Enqueues a request under a free tag; the caller submits. */
  enqueue(
    operation: DiskOperation,
    offsetBytes: number,
    lengthBytes: number,
    segments: readonly Segment[] = [],
    unmap = false,
  ): Promise<number> {
    const tag = this.#free.pop();
    if (tag === undefined) throw new Error("no tag is free");
    // As in a descriptor chain: the request's segments lie somewhere within longer lists.
    const addresses = new Float64Array([9, ...segments.map(([address]) => address), 9]);
    const lengths = new Uint32Array([9, ...segments.map(([, length]) => length), 9]);
    const result = new Promise<number>((resolve) => this.#waiting.set(tag, resolve));
    const count = segments.length;
    this.backend.enqueue(
      tag,
      operation,
      offsetBytes,
      lengthBytes,
      addresses,
      lengths,
      1,
      count,
      unmap,
    );
    // The contract: lists are the backend's only until `enqueue` returns.
    addresses.fill(0);
    lengths.fill(0);
    return result;
  }

  /** One request, from enqueue to answer. */
  request(...args: Parameters<DiskBench["enqueue"]>): Promise<number> {
    const result = this.enqueue(...args);
    this.backend.submit();
    return result;
  }

  transfer(
    operation: typeof DISK_READ | typeof DISK_WRITE,
    offsetBytes: number,
    segments: readonly Segment[],
  ): Promise<number> {
    const bytes = segments.reduce((sum, [, length]) => sum + length, 0);
    return this.request(operation, offsetBytes, bytes, segments);
  }

  content(): Buffer {
    return readFileSync(this.path);
  }

  close(): void {
    this.backend.close();
    this.mapping.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** `sizeBytes` of bytes that differ from sector to sector and within each. */
export function pattern(sizeBytes: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 31 + (i >> 9) * 7 + seed) & 0xff);
}

const EIO = -os.errno.EIO;

/** The contract of every disk backend. */
export function describeDisk(
  name: string,
  create: (bench: DiskBench, file: DiskFile) => Backend,
): void {
  describe(`${name} as a disk`, () => {
    const content = pattern(4 * MIB);
    let disk: DiskBench;
    beforeEach(() => {
      disk = new DiskBench(content, create);
    });
    afterEach(() => {
      expect(disk.errors).toEqual([]);
      disk.close();
    });

    it("says what it is", () => {
      const { sizeBytes, readOnly, serial } = disk.backend;
      expect({ sizeBytes, readOnly, serial }).toEqual({
        sizeBytes: 4 * MIB,
        readOnly: false,
        serial: disk.file.serial,
      });
    });

    it("reads into guest memory", async () => {
      expect(await disk.transfer(DISK_READ, 512, [[0x3000, 4096]])).toBe(0);
      expect(disk.memory.read(0x3000, 4096)).toEqual(content.slice(512, 512 + 4096));
      expect(disk.memory.readU8(0x3000 + 4096)).toBe(0);
    });

    it("writes from guest memory", async () => {
      const bytes = pattern(1024, 77);
      disk.memory.write(0x5000, bytes);
      expect(await disk.transfer(DISK_WRITE, 2048, [[0x5000, 1024]])).toBe(0);
      const expected = Buffer.from(content);
      expected.set(bytes, 2048);
      expect(disk.content().equals(expected)).toBe(true);
    });

    it("takes a request apart into any segments, odd ones too, in their order", async () => {
      const segments: Segment[] = [
        [0x9001, 7],
        [0x1000, 500],
        [4 * GIB, 5],
        [0x20003, 1024],
      ];
      expect(await disk.transfer(DISK_READ, 1536, segments)).toBe(0);
      const read = segments.map(([address, length]) => disk.memory.read(address, length));
      expect(Buffer.concat(read).equals(content.slice(1536, 3072))).toBe(true);
      expect(await disk.transfer(DISK_WRITE, 0, segments)).toBe(0);
      expect(disk.content().subarray(0, 1536).equals(content.slice(1536, 3072))).toBe(true);
    });

    it("carries data across a multiple of 4 GiB", async () => {
      const segment: Segment = [8 * GIB - 100, 512];
      expect(await disk.transfer(DISK_READ, 0, [segment])).toBe(0);
      expect(disk.memory.read(...segment)).toEqual(content.slice(0, 512));
    });

    it("moves as many segments as a queue holds in one request", async () => {
      const segments = Array.from({ length: 256 }, (_, i): Segment => [MIB + i * 8192, 4096]);
      expect(await disk.transfer(DISK_READ, 0, segments)).toBe(0);
      const read = segments.map((segment) => disk.memory.read(...segment));
      expect(Buffer.concat(read).equals(content.slice(0, 256 * 4096))).toBe(true);
    });

    it("flushes", async () => {
      expect(await disk.request(DISK_FLUSH, 0, 0)).toBe(0);
    });

    it("answers EIO for what a file that shrank no longer has, and goes on", async () => {
      truncateSync(disk.path, 1024);
      expect(await disk.transfer(DISK_READ, 4096, [[0, 512]])).toBe(EIO);
      expect(await disk.transfer(DISK_READ, 512, [[0, 4096]])).toBe(EIO);
      expect(await disk.transfer(DISK_READ, 0, [[0x3000, 1024]])).toBe(0);
      expect(disk.memory.read(0x3000, 1024)).toEqual(content.slice(0, 1024));
    });

    it("answers with the errno of what the file does not take", async () => {
      const readOnly = new DiskBench(content, create, { readOnly: true });
      const result = await readOnly.transfer(DISK_WRITE, 0, [[0, 512]]);
      expect(result).toBe(-os.errno.EBADF);
      expect(readOnly.content().equals(content)).toBe(true);
      readOnly.close();
    });

    it("has as many requests in flight as it says, answers each, and uses tags again", async () => {
      for (let round = 0; round < 3; round++) {
        const depth = disk.backend.depth;
        const results = Array.from({ length: depth }, (_, i) =>
          disk.enqueue(DISK_READ, i * 4096, 4096, [[MIB + i * 4096, 4096]]),
        );
        expect(disk.inFlight).toBe(depth);
        disk.backend.submit();
        expect(await Promise.all(results)).toEqual(Array.from({ length: depth }, () => 0));
        const read = disk.memory.read(MIB, depth * 4096);
        expect(Buffer.from(read).equals(content.slice(0, depth * 4096))).toBe(true);
        disk.memory.fill(MIB, depth * 4096, 0);
      }
      expect(disk.batches).toBeGreaterThan(0);
    });

    it("closes its file, and nothing else", () => {
      const other = openSync(disk.path, "r");
      const closing = new DiskBench(content, create);
      closing.close();
      expect(() => closeSync(closing.file.fd)).toThrow(expect.objectContaining({ code: "EBADF" }));
      closeSync(other);
    });
  });
}
