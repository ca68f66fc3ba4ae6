/**
 * The exits of one microVM as they lie in memory: its vCPUs' trace rings, and a ring that the device host
 * writes for what no vCPU thread sees: queue notifications that ioeventfds took, and exits that KVM answers
 * itself (hlt, interrupt windows, hypercalls), as KVM's counters tell them. `poll` brings all of them, in the
 * order of their times, to columns.
 *
 * Open only while somebody watches: closed it costs nothing, and the vCPUs take no times.
 */
import { type NativeEventFd, type NativeVcpuStats, native } from "../native/binding.js";
import * as k from "../native/layouts.js";
import { TRACE_RECORD_WORDS, TraceCursor, TraceWriter } from "../native/trace-ring.js";
import { ExitDecoder, type ExitWindow, type RingRun } from "./exit-decoder.js";
import type { VcpuBlock } from "./shared-block.js";
import { TscClock } from "./tsc-clock.js";

/** KVM's counters that are told, and as what. */
const KERNEL_EXITS = [
  ["halt_exits", k.KVM_EXIT_HLT],
  ["irq_window_exits", k.KVM_EXIT_IRQ_WINDOW_OPEN],
  ["hypercalls", k.KVM_EXIT_HYPERCALL],
] as const;

/** A queue's doorbell: a write of `queue` to `address` that never leaves KVM. */
export interface Doorbell {
  readonly address: number;
  readonly queue: number;
  readonly eventFd: Pick<NativeEventFd, "take">;
}

/** Where a microVM's exits are. */
export interface ExitSourceParts {
  readonly buffer: SharedArrayBuffer;
  readonly vcpus: readonly VcpuBlock[];
  readonly vcpuFds: readonly number[];
  readonly windows: readonly ExitWindow[];
  readonly doorbells: readonly Doorbell[];
  /** Whether this host's KVM gives RIP with each exit (KVM_CAP_SYNC_REGS). */
  readonly hasRip: boolean;
}

/** One vCPU's counters in the kernel, and what they were. */
interface KernelCounters {
  readonly vcpu: number;
  readonly stats: NativeVcpuStats;
  readonly now: Float64Array;
  readonly before: Float64Array;
}

interface OpenRing {
  readonly vcpu: number;
  readonly cursor: TraceCursor;
}

/** One clock and one scratch for all: everything here happens on the device host's thread. */
let shared: { readonly clock: TscClock; readonly decoder: ExitDecoder } | undefined;

/**
 * See the file's header. Thread: the device host's. Make it before the vCPUs run: KVM gives a vCPU's counters
 * to nobody, not even an error, while that vCPU is in the guest.
 */
export class ExitSource {
  /** Names of the devices that `device` of a column means. */
  readonly deviceNames: readonly string[];
  readonly hasRip: boolean;
  readonly decoder: ExitDecoder;
  readonly clock: TscClock;
  /** Records that were overwritten before they were read, in all rings, since the source was opened. */
  lost = 0;
  /** Records in the fullest ring at the last poll. */
  fullest = 0;

  readonly #parts: ExitSourceParts;
  readonly #controls: readonly Int32Array[];
  #rings: OpenRing[] = [];
  readonly #counters: readonly KernelCounters[];
  #writer: TraceWriter | undefined;
  #isTimed = false;
  #ripWatchers = 0;

  constructor(parts: ExitSourceParts, use?: { clock: TscClock; decoder: ExitDecoder }) {
    shared ??= { clock: new TscClock(), decoder: new ExitDecoder() };
    this.clock = (use ?? shared).clock;
    this.decoder = (use ?? shared).decoder;
    this.#parts = parts;
    this.hasRip = parts.hasRip;
    this.deviceNames = parts.windows.map(({ name }) => name);
    this.#controls = parts.vcpus.map(
      ({ controlOffset }) => new Int32Array(parts.buffer, controlOffset, k.VCPU_CONTROL_BYTES / 4),
    );
    this.#counters = openCounters(parts.vcpuFds);
  }

  get isOpen(): boolean {
    return this.#writer !== undefined;
  }

  /** Begins: what happens from now on is told. */
  open(): void {
    const { buffer, vcpus, doorbells } = this.#parts;
    const hostRing = new ArrayBuffer(k.TRACE_BYTES);
    this.#writer = new TraceWriter(hostRing);
    this.#rings = vcpus.map(({ traceOffset }, vcpu) => ({
      vcpu,
      cursor: new TraceCursor(buffer, traceOffset),
    }));
    this.#rings.push({ vcpu: k.TRACE_NO_VCPU, cursor: new TraceCursor(hostRing, 0) });
    this.lost = 0;
    // What was rung before belongs to nobody who watches now.
    for (const { eventFd } of doorbells) eventFd.take();
    for (const { stats, before } of this.#counters) stats.read(before);
    this.#tellVcpus();
  }

  /** Ends it; idempotent. The vCPUs stop taking times, unless `keepTimes` was asked for. */
  close(): void {
    this.#writer = undefined;
    this.#rings = [];
    this.#tellVcpus();
  }

  /** The microVM has ended: closed for good. */
  dispose(): void {
    this.close();
    for (const { stats } of this.#counters) stats.close();
  }

  /** From now on records have times, watched or not: for readers that nobody sees ending. */
  keepTimes(): void {
    this.#isTimed = true;
    this.#tellVcpus();
  }

  /** Records RIP as long as anybody wants it: balance each call with `releaseRip`. */
  holdRip(): void {
    this.#ripWatchers += 1;
    this.#tellVcpus();
  }

  releaseRip(): void {
    this.#ripWatchers -= 1;
    this.#tellVcpus();
  }

  /** A doorbell was heard: told with how often it rang since. */
  onDoorbell(doorbell: Doorbell): void {
    if (this.#writer === undefined) return;
    this.clock.sample();
    this.#tellDoorbell(doorbell);
  }

  /** Brings everything since the last poll to `decoder.columns`; returns how many exits. */
  poll(): number {
    this.clock.sample();
    for (const doorbell of this.#parts.doorbells) this.#tellDoorbell(doorbell);
    this.#tellKernelExits();
    const waiting = this.#rings.map(({ cursor }) => Math.min(cursor.waiting, k.TRACE_RECORDS));
    this.fullest = Math.max(0, ...waiting);
    // A vCPU that runs may add some while its ring is copied: there is room for a whole ring of each.
    this.decoder.reserve(this.fullest === 0 ? 0 : this.#rings.length * k.TRACE_RECORDS);
    const runs: RingRun[] = [];
    let end = 0;
    let lost = 0;
    for (const { vcpu, cursor } of this.#rings) {
      const count = cursor.copy(this.decoder.words, end * TRACE_RECORD_WORDS);
      if (count > 0) runs.push({ vcpu, begin: end, count, sequence: cursor.next - count });
      end += count;
      lost += cursor.lost;
    }
    this.lost = lost;
    return this.decoder.decode(runs, this.clock, this.#parts.windows);
  }

  /** Brings the last `history` exits of each vCPU before the last poll to the columns of `decoder`. */
  readBack(decoder: ExitDecoder, history: number): number {
    const { buffer, vcpus } = this.#parts;
    decoder.reserve(vcpus.length * k.TRACE_RECORDS);
    const runs: RingRun[] = [];
    let end = 0;
    for (const [vcpu, { traceOffset }] of vcpus.entries()) {
      const live = this.#rings[vcpu].cursor;
      const cursor = new TraceCursor(buffer, traceOffset, history + live.waiting);
      const wanted = Math.max(0, live.next - cursor.next);
      const room = decoder.words.subarray(0, (end + wanted) * TRACE_RECORD_WORDS);
      const count = cursor.copy(room, end * TRACE_RECORD_WORDS);
      if (count > 0) runs.push({ vcpu, begin: end, count, sequence: cursor.next - count });
      end += count;
    }
    return decoder.decode(runs, this.clock, this.#parts.windows);
  }

  #tellVcpus(): void {
    const time = this.isOpen || this.#isTimed ? k.WATCH_TIME : 0;
    const rip = this.#ripWatchers > 0 ? k.WATCH_RIP : 0;
    for (const control of this.#controls) {
      Atomics.store(control, k.VCPU_CONTROL_WATCH_OFFSET / 4, time | rip);
    }
  }

  #tellDoorbell({ eventFd, address, queue }: Doorbell): void {
    const count = eventFd.take();
    if (count === 0) return;
    this.#writer?.write({
      reason: k.EXIT_NOTIFY,
      vcpu: k.TRACE_NO_VCPU,
      count,
      tscLow: this.clock.tscLow,
      tscHigh: this.clock.tscHigh,
      address,
      sizeBytes: 4,
      data: queue,
    });
  }

  #tellKernelExits(): void {
    for (const { vcpu, stats, now, before } of this.#counters) {
      stats.read(now);
      for (const [i, [, reason]] of KERNEL_EXITS.entries()) {
        const count = now[i] - before[i];
        before[i] = now[i];
        if (count <= 0) continue;
        const { tscLow, tscHigh } = this.clock;
        this.#writer?.write({ reason, vcpu, count, tscLow, tscHigh });
      }
    }
  }
}

/** KVM's counters of these vCPUs; none on Linux before 5.14, which has no such counters. */
function openCounters(vcpuFds: readonly number[]): KernelCounters[] {
  const names = KERNEL_EXITS.map(([name]) => name);
  const opened: KernelCounters[] = [];
  try {
    for (const [vcpu, fd] of vcpuFds.entries()) {
      opened.push({
        vcpu,
        stats: new (native().VcpuStats)(fd, names),
        now: new Float64Array(names.length),
        before: new Float64Array(names.length),
      });
    }
    return opened;
  } catch {
    for (const { stats } of opened) stats.close();
    return [];
  }
}
