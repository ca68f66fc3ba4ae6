/**
 * vCPUs that are played: their trace rings written as the run loop writes them, and a clock of 2 ticks to a
 * nanosecond that stands where it is told to.
 */

import { ExitDecoder, type ExitWindow } from "../../src/actors/exit-decoder.js";
import { ExitSource } from "../../src/actors/exit-source.js";
import { ExitStream } from "../../src/actors/exit-stream.js";
import { createSharedBlock } from "../../src/actors/shared-block.js";
import { TscClock } from "../../src/actors/tsc-clock.js";
import * as k from "../../src/native/layouts.js";

export const WINDOWS: readonly ExitWindow[] = [
  { name: "serial", space: "pio", start: 0x3f8, sizeBytes: 8 },
  { name: "drive root", space: "mmio", start: 0xc000_1000, sizeBytes: 0x1000 },
  { name: "entropy", space: "mmio", start: 0xc000_2000, sizeBytes: 0x1000 },
];

export const TICKS_PER_NS = 2;

/** An exit as the run loop records it; what is absent is a write of 0 to port 0x3f8. */
export interface PlayedExit {
  readonly reason?: number;
  readonly address?: number;
  readonly data?: bigint;
  readonly rip?: bigint;
  /** 0: nobody watched. */
  readonly atNs?: number;
  readonly guestNs?: number;
  readonly hostNs?: number;
  readonly sizeBytes?: number;
  readonly isWrite?: boolean;
  readonly count?: number;
}

/** A doorbell rung by hand. */
export class PlayedDoorbell {
  rings = 0;
  readonly eventFd = {
    take: () => {
      const { rings } = this;
      this.rings = 0;
      return rings;
    },
  };

  constructor(
    readonly address: number,
    readonly queue: number,
  ) {}
}

/** See the file's header. */
export class PlayedVcpus {
  readonly block;
  readonly doorbell = new PlayedDoorbell(0xc000_2050, 0);
  readonly clock: TscClock;
  readonly source: ExitSource;
  readonly stream: ExitStream;
  nowNs = 1000;
  readonly #written: number[];

  constructor(vcpuCount = 1, hasRip = true) {
    this.block = createSharedBlock(vcpuCount, []);
    this.#written = Array.from({ length: vcpuCount }, () => 0);
    this.clock = new TscClock((words) => this.#sample(words));
    this.nowNs += 1000;
    this.clock.sample();
    this.source = new ExitSource(
      {
        buffer: this.block.buffer,
        vcpus: this.block.vcpus,
        vcpuFds: [],
        windows: WINDOWS,
        doorbells: [this.doorbell],
        hasRip,
      },
      { clock: this.clock, decoder: new ExitDecoder() },
    );
    this.stream = new ExitStream(this.source);
  }

  /** The word that tells a vCPU who watches. */
  watch(vcpu = 0): number {
    const { controlOffset } = this.block.vcpus[vcpu];
    return new Int32Array(this.block.buffer, controlOffset)[k.VCPU_CONTROL_WATCH_OFFSET / 4];
  }

  exit(vcpu: number, exit: PlayedExit = {}): void {
    const { traceOffset } = this.block.vcpus[vcpu];
    const number = this.#written[vcpu]++;
    const at = k.TRACE_HEADER_BYTES + (number % k.TRACE_RECORDS) * k.TRACE_RECORD_BYTES;
    const ring = new DataView(this.block.buffer, traceOffset, k.TRACE_BYTES);
    const u64 = (offset: number, value: bigint) => ring.setBigUint64(at + offset, value, true);
    const ticks = (ns: number) => BigInt(Math.round(ns * TICKS_PER_NS));
    u64(k.TRACE_RECORD_ADDRESS_OFFSET, BigInt(exit.address ?? 0x3f8));
    u64(k.TRACE_RECORD_DATA_OFFSET, exit.data ?? 0n);
    u64(k.TRACE_RECORD_RIP_OFFSET, exit.rip ?? 0n);
    u64(k.TRACE_RECORD_EXIT_TSC_OFFSET, ticks(exit.atNs ?? this.nowNs));
    u64(k.TRACE_RECORD_GUEST_TICKS_OFFSET, ticks(exit.guestNs ?? 5));
    u64(k.TRACE_RECORD_HOST_TICKS_OFFSET, ticks(exit.hostNs ?? 10));
    ring.setUint32(at + k.TRACE_RECORD_REASON_OFFSET, exit.reason ?? k.KVM_EXIT_IO, true);
    ring.setUint32(at + k.TRACE_RECORD_COUNT_OFFSET, exit.count ?? 1, true);
    ring.setUint8(at + k.TRACE_RECORD_SIZE_BYTES_OFFSET, exit.sizeBytes ?? 1);
    ring.setUint8(at + k.TRACE_RECORD_IS_WRITE_OFFSET, (exit.isWrite ?? true) ? 1 : 0);
    ring.setBigUint64(0, BigInt(number + 1), true);
  }

  exits(vcpu: number, count: number, exit: PlayedExit = {}): void {
    for (let i = 0; i < count; i++) this.exit(vcpu, exit);
  }

  #sample(words: Uint32Array): void {
    const ticks = this.nowNs * TICKS_PER_NS;
    words.set([ticks >>> 0, Math.floor(ticks / 2 ** 32)], 0);
    words.set([this.nowNs >>> 0, Math.floor(this.nowNs / 2 ** 32)], 2);
  }
}
