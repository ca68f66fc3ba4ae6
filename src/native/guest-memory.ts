/**
 * Guest-physical memory as JavaScript may touch it: checked, and without copies.
 *
 * The buffer's offset *is* the guest-physical address; the MMIO gap is a hole in it that nothing
 * maps:
 *
 *      0          start of gap (≤ 3 GiB)        4 GiB               end
 *      ├── RAM region 0 ──┤░░░░ no memory ░░░░░░├── RAM region 1 ────┤
 *
 * Above them may lie a pluggable region, which is memory only where its blocks are plugged. A view of
 * a block that goes reads zeros or what was written since: it faults nothing.
 *
 * A typed array covers at most 4 GiB on Node 20, so there is one window for each 4 GiB and an
 * access picks its window once. No access crosses a window, because no region crosses a 4 GiB line
 * except the second, whose accesses that do are split or refused (`slice`, below).
 *
 * Every address and length that a guest chose goes through here: an access outside RAM raises
 * ERR_ESTALO_GUEST_FAULT. Nothing else may build a view on guest memory.
 */
import { EstaloError } from "../errors.js";
import { type Gpa, hex } from "../units.js";

/** One contiguous range of RAM: `start` and `sizeBytes` in bytes, page-aligned. */
export interface MemoryRegion {
  readonly start: Gpa;
  readonly sizeBytes: number;
}

/** A range that is plugged block by block. */
export interface PluggableRegion extends MemoryRegion {
  readonly blockBytes: number;
}

const WINDOW_BYTES = 2 ** 32;
/** So many bytes are copied in a loop: it allocates no view, and takes no longer than V8's way to its own copy. */
const LOOPED_BYTES_MAX = 128;

/** Checked access to the RAM of one microVM; see the file's header for the layout. */
export class GuestMemory {
  readonly regions: readonly MemoryRegion[];
  /** First address after the last region, a pluggable one among them. */
  readonly end: Gpa;
  /** Bytes of RAM, holes and pluggable memory not counted. */
  readonly sizeBytes: number;

  readonly #buffer: SharedArrayBuffer;
  readonly #u8: Uint8Array[] = [];
  readonly #u16: Uint16Array[] = [];
  readonly #u32: Uint32Array[] = [];
  // The regions' bounds, unpacked: the check below is on the path of every descriptor.
  readonly #lowEnd: number;
  readonly #highStart: number;
  readonly #highEnd: number;
  readonly #pluggable: PluggableRegion | undefined;
  /**
   * For each of its blocks that is memory: index after the last one that is memory without a gap; else 0. A
   * guest's descriptor may name thousands of blocks, and each costs nothing.
   */
  readonly #plugged: Uint32Array;

  /**
   * @param buffer - covers guest-physical addresses 0 to at least the last region's end
   * @param regions - one or two, ascending, the first at 0
   * @param pluggable - behind them, in whole blocks; none of them is plugged
   */
  constructor(
    buffer: SharedArrayBuffer,
    regions: readonly MemoryRegion[],
    pluggable?: PluggableRegion,
  ) {
    const [low, high] = regions;
    if (low === undefined || low.start !== 0 || regions.length > 2) {
      throw new EstaloError(
        "ERR_ESTALO_BUG",
        "guest memory has one or two regions, the first at 0",
      );
    }
    this.regions = regions;
    this.#buffer = buffer;
    this.#lowEnd = low.sizeBytes;
    this.#highStart = high?.start ?? 0;
    this.#highEnd = high === undefined ? 0 : high.start + high.sizeBytes;
    this.#pluggable = pluggable;
    this.#plugged = new Uint32Array(
      pluggable === undefined ? 0 : pluggable.sizeBytes / pluggable.blockBytes,
    );
    const pluggableEnd = pluggable === undefined ? 0 : pluggable.start + pluggable.sizeBytes;
    this.end = Math.max(this.#lowEnd, this.#highEnd, pluggableEnd);
    this.sizeBytes = low.sizeBytes + (high?.sizeBytes ?? 0);
    if (buffer.byteLength < this.end) {
      throw new EstaloError("ERR_ESTALO_BUG", "guest memory's buffer ends before its last region");
    }
    for (let at = 0; at < this.end; at += WINDOW_BYTES) {
      const bytes = Math.min(WINDOW_BYTES, buffer.byteLength - at);
      this.#u8.push(new Uint8Array(buffer, at, bytes));
      this.#u16.push(new Uint16Array(buffer, at, bytes / 2));
      this.#u32.push(new Uint32Array(buffer, at, bytes / 4));
    }
  }

  /**
   * Whether `[gpa, gpa + sizeBytes)` lies in one region of RAM. An empty range does where its
   * address does.
   */
  contains(gpa: Gpa, sizeBytes: number): boolean {
    const end = gpa + sizeBytes;
    // Negated comparisons, so that NaN is outside.
    if (!(gpa >= 0 && sizeBytes >= 0 && end <= Number.MAX_SAFE_INTEGER)) return false;
    return (
      end <= this.#lowEnd ||
      (gpa >= this.#highStart && end <= this.#highEnd) ||
      this.#isPlugged(gpa, end)
    );
  }

  /** Whether `[gpa, end)` is plugged memory. */
  #isPlugged(gpa: Gpa, end: Gpa): boolean {
    const region = this.#pluggable;
    if (region === undefined || gpa < region.start || end > region.start + region.sizeBytes) {
      return false;
    }
    const first = Math.floor((gpa - region.start) / region.blockBytes);
    const last = Math.floor((Math.max(gpa, end - 1) - region.start) / region.blockBytes);
    return this.#plugged[first] > last;
  }

  /** Whole blocks of the pluggable region become memory, or are none any more. */
  setPlugged(gpa: Gpa, sizeBytes: number, isPlugged: boolean): void {
    const region = this.#pluggable;
    const first = (gpa - (region?.start ?? 0)) / (region?.blockBytes ?? 1);
    const count = sizeBytes / (region?.blockBytes ?? 1);
    const isWhole = Number.isInteger(first) && Number.isInteger(count) && first >= 0 && count >= 0;
    if (region === undefined || !isWhole || first + count > this.#plugged.length) {
      throw new EstaloError("ERR_ESTALO_BUG", `${hex(gpa)} + ${sizeBytes} is no pluggable memory`);
    }
    if (count === 0) return;
    const plugged = this.#plugged;
    const end = first + count;
    const runEnd = isPlugged ? Math.max(end, plugged[end] ?? 0) : 0;
    plugged.fill(runEnd, first, end);
    // What lay before it without a gap ends with it now, or before it.
    const before = isPlugged ? runEnd : first;
    for (let block = first - 1; block >= 0 && plugged[block] > 0; block--) plugged[block] = before;
  }

  /** Raises ERR_ESTALO_GUEST_FAULT unless `[gpa, gpa + sizeBytes)` lies in one region of RAM. */
  check(gpa: Gpa, sizeBytes: number): void {
    if (!this.contains(gpa, sizeBytes)) {
      throw new EstaloError(
        "ERR_ESTALO_GUEST_FAULT",
        `no guest memory at ${hex(gpa)}, ${sizeBytes} bytes`,
        { data: { gpa, sizeBytes } },
      );
    }
  }

  /** As `check`, and the address must be a multiple of `sizeBytes` (1, 2 or 4). */
  #checkAligned(gpa: Gpa, sizeBytes: number): void {
    this.check(gpa, sizeBytes);
    if (gpa % sizeBytes !== 0) {
      throw new EstaloError("ERR_ESTALO_GUEST_FAULT", `${hex(gpa)} is not ${sizeBytes}-aligned`, {
        data: { gpa, sizeBytes },
      });
    }
  }

  readU8(gpa: Gpa): number {
    this.check(gpa, 1);
    return this.#u8[Math.floor(gpa / WINDOW_BYTES)][gpa % WINDOW_BYTES];
  }

  readU16(gpa: Gpa): number {
    this.#checkAligned(gpa, 2);
    return this.#u16[Math.floor(gpa / WINDOW_BYTES)][(gpa % WINDOW_BYTES) / 2];
  }

  readU32(gpa: Gpa): number {
    this.#checkAligned(gpa, 4);
    return this.#u32[Math.floor(gpa / WINDOW_BYTES)][(gpa % WINDOW_BYTES) / 4];
  }

  /**
   * A little-endian u64 at a 4-aligned address, as a number; inexact above 2^53, which no valid
   * address reaches.
   */
  readU64(gpa: Gpa): number {
    return this.readU32(gpa) + this.readU32(gpa + 4) * WINDOW_BYTES;
  }

  writeU8(gpa: Gpa, value: number): void {
    this.check(gpa, 1);
    this.#u8[Math.floor(gpa / WINDOW_BYTES)][gpa % WINDOW_BYTES] = value;
  }

  writeU16(gpa: Gpa, value: number): void {
    this.#checkAligned(gpa, 2);
    this.#u16[Math.floor(gpa / WINDOW_BYTES)][(gpa % WINDOW_BYTES) / 2] = value;
  }

  writeU32(gpa: Gpa, value: number): void {
    this.#checkAligned(gpa, 4);
    this.#u32[Math.floor(gpa / WINDOW_BYTES)][(gpa % WINDOW_BYTES) / 4] = value;
  }

  writeU64(gpa: Gpa, value: number): void {
    this.writeU32(gpa, value % WINDOW_BYTES);
    this.writeU32(gpa + 4, Math.floor(value / WINDOW_BYTES));
  }

  /**
   * A ring index (u16) with acquire order: what the driver wrote before publishing it is visible
   * after. `gpa` must be 2-aligned. (Atomics are sequentially consistent, a superset.)
   */
  loadIndex(gpa: Gpa): number {
    this.#checkAligned(gpa, 2);
    return Atomics.load(this.#u16[Math.floor(gpa / WINDOW_BYTES)], (gpa % WINDOW_BYTES) / 2);
  }

  /**
   * Publishes a ring index (u16) with release order: all writes before it are visible to who sees
   * it.
   */
  storeIndex(gpa: Gpa, value: number): void {
    this.#checkAligned(gpa, 2);
    Atomics.store(this.#u16[Math.floor(gpa / WINDOW_BYTES)], (gpa % WINDOW_BYTES) / 2, value);
  }

  /** A private copy of `sizeBytes` bytes. */
  read(gpa: Gpa, sizeBytes: number): Uint8Array {
    this.check(gpa, sizeBytes);
    const copy = new Uint8Array(sizeBytes);
    let at = 0;
    for (const part of this.slices(gpa, sizeBytes)) {
      copy.set(part, at);
      at += part.length;
    }
    return copy;
  }

  /** Copies the first `count` bytes (default: all) into the guest. */
  write(gpa: Gpa, bytes: Uint8Array, count = bytes.length): void {
    const first = gpa % WINDOW_BYTES;
    if (count <= LOOPED_BYTES_MAX && first + count <= WINDOW_BYTES) {
      this.check(gpa, count);
      const window = this.#u8[Math.floor(gpa / WINDOW_BYTES)];
      for (let index = 0; index < count; index++) window[first + index] = bytes[index];
      return;
    }
    let at = 0;
    for (const part of this.slices(gpa, count)) {
      part.set(bytes.subarray(at, at + part.length));
      at += part.length;
    }
  }

  fill(gpa: Gpa, sizeBytes: number, value: number): void {
    for (const part of this.slices(gpa, sizeBytes)) part.fill(value);
  }

  /**
   * Copies the first `count` little-endian u32 at `gpa` (any alignment) into `out`, without
   * allocating where the address is 4-aligned: for small tables on the data path, read once and
   * then checked.
   */
  copyWords(gpa: Gpa, out: Uint32Array, count: number): void {
    const sizeBytes = count * 4;
    this.check(gpa, sizeBytes);
    const at = gpa % WINDOW_BYTES;
    if (at % 4 === 0 && at + sizeBytes <= WINDOW_BYTES) {
      const window = this.#u32[gpa < WINDOW_BYTES ? 0 : Math.floor(gpa / WINDOW_BYTES)];
      const first = at / 4;
      for (let index = 0; index < count; index++) out[index] = window[first + index];
    } else {
      const bytes = this.read(gpa, sizeBytes);
      out.set(new Uint32Array(bytes.buffer, 0, count));
    }
  }

  /**
   * A live view of a ring, for its one user (devices/virtio/queue.ts) and as long as the ring is
   * active: resolved and checked once, so that each access afterwards costs one typed-array access.
   * What is read through it is the guest's: read once into a local, check, then use. The address
   * must be aligned to the element; unlike a window, a ring may cross a multiple of 4 GiB.
   */
  ring16(gpa: Gpa, sizeBytes: number): Uint16Array {
    this.check(gpa, sizeBytes);
    this.#checkAligned(gpa, 2);
    return new Uint16Array(this.#buffer, gpa, sizeBytes / 2);
  }

  /** As `ring16`, in u32. */
  ring32(gpa: Gpa, sizeBytes: number): Uint32Array {
    this.check(gpa, sizeBytes);
    this.#checkAligned(gpa, 4);
    return new Uint32Array(this.#buffer, gpa, sizeBytes / 4);
  }

  /**
   * A live view of guest memory for one host call (`fs.readSync` into it, `fs.writev` from it). The
   * guest may change the bytes at any moment: never parse from a view, and drop it when the call is
   * done.
   *
   * Raises ERR_ESTALO_GUEST_FAULT outside RAM, and for a range across a multiple of 4 GiB, which
   * one view cannot cover: whoever moves bulk data for a guest goes through `slices`.
   */
  slice(gpa: Gpa, sizeBytes: number): Uint8Array {
    this.check(gpa, sizeBytes);
    const window = this.#u8[Math.floor(gpa / WINDOW_BYTES)];
    const at = gpa % WINDOW_BYTES;
    if (window === undefined || at + sizeBytes > window.length) {
      throw new EstaloError("ERR_ESTALO_GUEST_FAULT", `${hex(gpa)} + ${sizeBytes} crosses 4 GiB`, {
        data: { gpa, sizeBytes },
      });
    }
    return window.subarray(at, at + sizeBytes);
  }

  /** As `slice`, in as many views as the range needs: two where it crosses a multiple of 4 GiB. */
  slices(gpa: Gpa, sizeBytes: number): Uint8Array[] {
    const split = WINDOW_BYTES - (gpa % WINDOW_BYTES);
    if (sizeBytes <= split) return [this.slice(gpa, sizeBytes)];
    this.check(gpa, sizeBytes);
    return [this.slice(gpa, split), ...this.slices(gpa + split, sizeBytes - split)];
  }
}
