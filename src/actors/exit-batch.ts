/**
 * Exits as columns: a batch is one ArrayBuffer with an array for each field, not an object for each exit.
 *
 * The buffer is what a binary frame carries (docs/streams.md has it byte by byte), so encoding is a copy and
 * decoding is looking. 44 bytes an exit, 52 with RIP. Host order is little-endian everywhere Estalo runs.
 */
import * as k from "../native/layouts.js";

/** What made a vCPU leave the guest; a kind's code is its index here. New kinds come at the end. */
export const EXIT_KINDS = [
  "other",
  "pio",
  "mmio",
  "hlt",
  "irq-window",
  "shutdown",
  "hypercall",
  "internal-error",
  "fail-entry",
  "interrupted",
  "system-event",
  "notify",
] as const;

/**
 * `pio`, `mmio`: an access to a port or an address. `shutdown`: triple fault. `internal-error`, `fail-entry`:
 * KVM cannot go on. `interrupted`: asked to leave (pause, stop). `notify`: a queue notification that an
 * ioeventfd took, so that the guest never left for user space. `hlt`, `irq-window`, `hypercall`: KVM answers
 * them itself; they are told as KVM's counters show them, many as one.
 */
export type ExitKind = (typeof EXIT_KINDS)[number];

const KIND_OF_REASON: Readonly<Record<number, ExitKind>> = {
  [k.KVM_EXIT_IO]: "pio",
  [k.KVM_EXIT_HYPERCALL]: "hypercall",
  [k.KVM_EXIT_HLT]: "hlt",
  [k.KVM_EXIT_MMIO]: "mmio",
  [k.KVM_EXIT_IRQ_WINDOW_OPEN]: "irq-window",
  [k.KVM_EXIT_SHUTDOWN]: "shutdown",
  [k.KVM_EXIT_FAIL_ENTRY]: "fail-entry",
  [k.KVM_EXIT_INTR]: "interrupted",
  [k.KVM_EXIT_INTERNAL_ERROR]: "internal-error",
  [k.KVM_EXIT_SYSTEM_EVENT]: "system-event",
  [k.EXIT_NOTIFY]: "notify",
};

/** The kind of an exit reason, KVM_EXIT_* or one of ours. */
export function exitKindOf(reason: number): ExitKind {
  return KIND_OF_REASON[reason] ?? "other";
}

/** The code of a kind. */
export function exitKindCode(kind: ExitKind): number {
  return EXIT_KINDS.indexOf(kind);
}

/** In `vcpu` and `device`: nobody knows, or none. */
export const NONE = 0xff;
/** In `access`: the low bits are the size in bytes, 0 when the exit is not an access. */
export const ACCESS_SIZE_MASK = 0x0f;
/** In `access`: a write. */
export const ACCESS_WRITE = 0x80;
/** Longest time that `guestNs` and `hostNs` tell: it took this or longer. */
export const DURATION_MAX_NS = 0xffff_ffff;

/** Bytes of one exit in a batch, without and with RIP. */
export const EXIT_BYTES = 44;
export const EXIT_BYTES_WITH_RIP = EXIT_BYTES + 8;

/** The columns of `length` exits, all over `buffer`. Index them all by the same number. */
export class ExitColumns {
  readonly length: number;
  readonly buffer: ArrayBuffer;
  /** When, in nanoseconds on CLOCK_MONOTONIC (`process.hrtime`); 0: from before anybody watched. */
  readonly atNs: Float64Array;
  /** Port or guest-physical address. */
  readonly address: Float64Array;
  /** What was written, or what the read was answered with; of `notify`, the queue. */
  readonly data: BigUint64Array;
  /** The guest's RIP; undefined unless it was asked for. */
  readonly rip: BigUint64Array | undefined;
  /**
   * Position in the life of its vCPU's ring, from 0, modulo 2^32: a gap is exits that were lost, or not asked
   * for. What the device host tells (`notify`, `hlt`, `irq-window`, `hypercall`) is numbered apart.
   */
  readonly sequence: Uint32Array;
  /** Time in the guest before the exit, up to DURATION_MAX_NS; KVM's own work and sleep in it included. */
  readonly guestNs: Uint32Array;
  /** Time until the guest went on. */
  readonly hostNs: Uint32Array;
  /**
   * Of `pio`: repetitions of a string instruction. Of `notify`, `hlt`, `irq-window`, `hypercall`: how many are
   * told as one. Else 1.
   */
  readonly count: Uint32Array;
  /** Index in EXIT_KINDS. */
  readonly kind: Uint8Array;
  /** Size and direction: ACCESS_SIZE_MASK, ACCESS_WRITE. */
  readonly access: Uint8Array;
  /** Index of the vCPU, or NONE. */
  readonly vcpu: Uint8Array;
  /** Index in the microVM's device names, or NONE. */
  readonly device: Uint8Array;
  /** `data` and `rip` as words, low first: what is copied without making BigInts. */
  readonly dataWords: Uint32Array;
  readonly ripWords: Uint32Array | undefined;

  /** Columns in a buffer that has them from byte `at`, a multiple of 8, or in a new one. */
  constructor(length: number, hasRip: boolean, buffer?: ArrayBuffer, at = 0) {
    this.length = length;
    this.buffer = buffer ?? new ArrayBuffer(exitColumnsBytes(length, hasRip));
    const eights = hasRip ? 4 : 3;
    const fours = at + 8 * eights * length;
    const ones = fours + 16 * length;
    this.atNs = new Float64Array(this.buffer, at, length);
    this.address = new Float64Array(this.buffer, at + 8 * length, length);
    this.data = new BigUint64Array(this.buffer, at + 16 * length, length);
    this.dataWords = new Uint32Array(this.buffer, at + 16 * length, 2 * length);
    this.rip = hasRip ? new BigUint64Array(this.buffer, at + 24 * length, length) : undefined;
    this.ripWords = hasRip ? new Uint32Array(this.buffer, at + 24 * length, 2 * length) : undefined;
    this.sequence = new Uint32Array(this.buffer, fours, length);
    this.guestNs = new Uint32Array(this.buffer, fours + 4 * length, length);
    this.hostNs = new Uint32Array(this.buffer, fours + 8 * length, length);
    this.count = new Uint32Array(this.buffer, fours + 12 * length, length);
    this.kind = new Uint8Array(this.buffer, ones, length);
    this.access = new Uint8Array(this.buffer, ones + length, length);
    this.vcpu = new Uint8Array(this.buffer, ones + 2 * length, length);
    this.device = new Uint8Array(this.buffer, ones + 3 * length, length);
  }
}

/** Bytes that the columns of `length` exits take. */
export function exitColumnsBytes(length: number, hasRip: boolean): number {
  return length * (hasRip ? EXIT_BYTES_WITH_RIP : EXIT_BYTES);
}

/** One exit as an object, for what looks at few of them. */
export interface ExitInfo {
  readonly kind: ExitKind;
  /** Undefined: unknown. */
  readonly vcpu: number | undefined;
  readonly sequence: number;
  /** The device whose window holds the address; undefined: none. */
  readonly device: string | undefined;
  readonly address: number;
  /** 1, 2, 4, 8; 0 when it is not an access. */
  readonly sizeBytes: number;
  /** Undefined when it is not an access. */
  readonly direction: "read" | "write" | undefined;
  readonly data: bigint;
  readonly count: number;
  readonly rip: bigint | undefined;
  readonly atNs: number;
  readonly guestNs: number;
  readonly hostNs: number;
}

/**
 * Exits of one microVM in the order of their times, read-only. The columns are documented at
 * {@link ExitColumns}; `toArray` is the slow and comfortable way.
 */
export class ExitBatch extends ExitColumns {
  /** Names of the microVM's devices, which `device` indexes. */
  readonly devices: readonly string[];
  /** Exits of this microVM that were overwritten before they were read, since this watcher began. */
  readonly lost: number;
  /** Exits that this watcher would have got and did not, because it was too slow; since it began. */
  readonly dropped: number;

  constructor(
    columns: {
      readonly length: number;
      readonly hasRip: boolean;
      readonly buffer?: ArrayBuffer;
      readonly at?: number;
    },
    devices: readonly string[],
    counters: { readonly lost: number; readonly dropped: number },
  ) {
    super(columns.length, columns.hasRip, columns.buffer, columns.at);
    this.devices = devices;
    this.lost = counters.lost;
    this.dropped = counters.dropped;
  }

  /** The exit at `index` as an object. */
  get(index: number): ExitInfo {
    const access = this.access[index];
    const sizeBytes = access & ACCESS_SIZE_MASK;
    const vcpu = this.vcpu[index];
    return {
      kind: EXIT_KINDS[this.kind[index]] ?? "other",
      vcpu: vcpu === NONE ? undefined : vcpu,
      sequence: this.sequence[index],
      device: this.devices[this.device[index]],
      address: this.address[index],
      sizeBytes,
      direction: sizeBytes === 0 ? undefined : (access & ACCESS_WRITE) !== 0 ? "write" : "read",
      data: this.data[index],
      count: this.count[index],
      rip: this.rip?.[index],
      atNs: this.atNs[index],
      guestNs: this.guestNs[index],
      hostNs: this.hostNs[index],
    };
  }

  /** All exits as objects. */
  toArray(): ExitInfo[] {
    return Array.from({ length: this.length }, (_, index) => this.get(index));
  }
}
