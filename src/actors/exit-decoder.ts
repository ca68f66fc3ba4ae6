/**
 * Raw records of several trace rings to columns, in the order of their times: the part of watching that
 * happens for every exit. Numbers in, numbers out, nothing allocated but when the scratch grows.
 */
import * as k from "../native/layouts.js";
import { TRACE_RECORD_WORDS } from "../native/trace-ring.js";
import {
  ACCESS_WRITE,
  DURATION_MAX_NS,
  EXIT_KINDS,
  ExitColumns,
  exitKindCode,
  exitKindOf,
  NONE,
} from "./exit-batch.js";
import type { TscClock } from "./tsc-clock.js";

/** Where a device is; its index in a list of them is what `device` of a column holds. */
export interface ExitWindow {
  readonly name: string;
  readonly space: "pio" | "mmio";
  readonly start: number;
  readonly sizeBytes: number;
}

/** Records of one ring in the scratch. */
export interface RingRun {
  /** Whose ring, or TRACE_NO_VCPU: its records say it. */
  readonly vcpu: number;
  /** Index of the first record in the scratch. */
  readonly begin: number;
  readonly count: number;
  /** Number of the first record in the ring's life. */
  readonly sequence: number;
}

const HIGH_WORD = 2 ** 32;
const ADDRESS = k.TRACE_RECORD_ADDRESS_OFFSET / 4;
const DATA = k.TRACE_RECORD_DATA_OFFSET / 4;
const RIP = k.TRACE_RECORD_RIP_OFFSET / 4;
const EXIT_TSC = k.TRACE_RECORD_EXIT_TSC_OFFSET / 4;
const GUEST_TICKS = k.TRACE_RECORD_GUEST_TICKS_OFFSET / 4;
const HOST_TICKS = k.TRACE_RECORD_HOST_TICKS_OFFSET / 4;
const REASON = k.TRACE_RECORD_REASON_OFFSET / 4;
const COUNT = k.TRACE_RECORD_COUNT_OFFSET / 4;
/** One word: size, direction, vCPU. */
const ACCESS = k.TRACE_RECORD_SIZE_BYTES_OFFSET / 4;

/** Codes of KVM_EXIT_* below this are looked up, others asked for. */
const REASONS = 64;
const KIND_CODES = Uint8Array.from({ length: REASONS }, (_, reason) =>
  exitKindCode(exitKindOf(reason)),
);
const NOTIFY = EXIT_KINDS.indexOf("notify");
const PIO = EXIT_KINDS.indexOf("pio");

/** See the file's header. */
export class ExitDecoder {
  /** Raw records: a ring is copied here, then `decode` is called. */
  words = new Uint32Array(0);
  /** What `decode` filled; more rows than that. */
  columns = new ExitColumns(0, true);

  #merged: RingRun[] = [];
  readonly #heads = new Uint32Array(64);
  #windows: readonly ExitWindow[] = [];
  #lastHit = NONE;

  /** Makes room for so many records. */
  reserve(records: number): void {
    if (this.columns.length >= records) return;
    this.words = new Uint32Array(records * TRACE_RECORD_WORDS);
    this.columns = new ExitColumns(records, true);
  }

  /** Fills the columns from the runs' records; returns how many there are. */
  decode(runs: readonly RingRun[], clock: TscClock, windows: readonly ExitWindow[]): number {
    if (this.#windows !== windows) this.#lastHit = NONE;
    this.#windows = windows;
    this.#merged = runs.slice();
    this.#heads.fill(0);
    let row = 0;
    for (;;) {
      const next = runs.length === 1 ? this.#onlyRun() : this.#earliestRun();
      if (next < 0) return row;
      const run = this.#merged[next];
      const head = this.#heads[next]++;
      this.#decodeRecord(row++, run, head, clock);
    }
  }

  #onlyRun(): number {
    return this.#heads[0] < this.#merged[0].count ? 0 : -1;
  }

  /** The run whose next record is the earliest, the first of equals. Each ring is in order by itself. */
  #earliestRun(): number {
    const words = this.words;
    let earliest = -1;
    let earliestLow = 0;
    let earliestHigh = 0;
    for (let i = 0; i < this.#merged.length; i++) {
      const { begin, count } = this.#merged[i];
      const head = this.#heads[i];
      if (head === count) continue;
      const at = (begin + head) * TRACE_RECORD_WORDS + EXIT_TSC;
      const low = words[at];
      const high = words[at + 1];
      if (earliest >= 0 && (high > earliestHigh || (high === earliestHigh && low >= earliestLow)))
        continue;
      earliest = i;
      earliestLow = low;
      earliestHigh = high;
    }
    return earliest;
  }

  #decodeRecord(row: number, run: RingRun, head: number, clock: TscClock): void {
    const { words, columns } = this;
    const at = (run.begin + head) * TRACE_RECORD_WORDS;
    const reason = words[at + REASON];
    const packed = words[at + ACCESS];
    const sizeBytes = packed & 0xff;
    const kind =
      reason < REASONS ? KIND_CODES[reason] : reason === k.EXIT_NOTIFY ? NOTIFY : KIND_CODES[0];
    const address = words[at + ADDRESS + 1] * HIGH_WORD + words[at + ADDRESS];
    const tscLow = words[at + EXIT_TSC];
    const tscHigh = words[at + EXIT_TSC + 1];
    columns.atNs[row] = tscLow === 0 && tscHigh === 0 ? 0 : clock.atNs(tscLow, tscHigh);
    columns.address[row] = address;
    columns.dataWords[2 * row] = words[at + DATA];
    columns.dataWords[2 * row + 1] = words[at + DATA + 1];
    const ripWords = columns.ripWords as Uint32Array;
    ripWords[2 * row] = words[at + RIP];
    ripWords[2 * row + 1] = words[at + RIP + 1];
    columns.sequence[row] = run.sequence + head;
    columns.guestNs[row] = this.#durationNs(at + GUEST_TICKS, clock);
    columns.hostNs[row] = this.#durationNs(at + HOST_TICKS, clock);
    columns.count[row] = words[at + COUNT];
    columns.kind[row] = kind;
    columns.access[row] = sizeBytes | (((packed >>> 8) & 0xff) === 0 ? 0 : ACCESS_WRITE);
    columns.vcpu[row] = run.vcpu === k.TRACE_NO_VCPU ? (packed >>> 16) & NONE : run.vcpu;
    columns.device[row] = sizeBytes === 0 ? NONE : this.#deviceAt(address, kind === PIO);
  }

  #durationNs(at: number, clock: TscClock): number {
    return Math.min(DURATION_MAX_NS, clock.durationNs(this.words[at], this.words[at + 1]));
  }

  /** The device whose window holds the address; accesses come in runs, so the last hit is tried first. */
  #deviceAt(address: number, isPort: boolean): number {
    if (this.#lastHit !== NONE && this.#holds(this.#lastHit, address, isPort)) return this.#lastHit;
    for (let i = 0; i < this.#windows.length; i++) {
      if (!this.#holds(i, address, isPort)) continue;
      this.#lastHit = i;
      return i;
    }
    return NONE;
  }

  #holds(index: number, address: number, isPort: boolean): boolean {
    const { space, start, sizeBytes } = this.#windows[index];
    return (space === "pio") === isPort && address >= start && address < start + sizeBytes;
  }
}
