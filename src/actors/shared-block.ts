/**
 * The memory one microVM's threads share beside guest memory: one SharedArrayBuffer, laid out once.
 *
 *     ┌ per vCPU ─────────────────────────────┐ ┌ per device ─┐
 *     │ control 64 B │ exit ring │ trace ring │ │ state words │ …
 *     └───────────────────────────────────────┘ └─────────────┘
 *
 * Every part starts on a cache line of its own. Offsets are bytes from the buffer's start; all threads get
 * the same buffer object (two over one address break `Atomics.notify`).
 */
import { EXIT_RING_BYTES } from "../native/exit-ring.js";
import { TRACE_BYTES, VCPU_CONTROL_BYTES } from "../native/layouts.js";
import { alignUp } from "../units.js";

const CACHE_LINE_BYTES = 64;

/** Where one vCPU's parts are. */
export interface VcpuBlock {
  readonly controlOffset: number;
  readonly ringOffset: number;
  readonly traceOffset: number;
}

/** The block and where everything in it is. */
export interface SharedBlock {
  readonly buffer: SharedArrayBuffer;
  readonly vcpus: readonly VcpuBlock[];
  /** Byte offset of each device's words, in the order of `deviceWords`. */
  readonly deviceOffsets: readonly number[];
}

/** Lays out and allocates a block of zeros for `vcpuCount` vCPUs and devices of `deviceWords[i]` words each. */
export function createSharedBlock(vcpuCount: number, deviceWords: readonly number[]): SharedBlock {
  let end = 0;
  const place = (bytes: number): number => {
    const at = end;
    end = alignUp(at + bytes, CACHE_LINE_BYTES);
    return at;
  };
  const vcpus = Array.from({ length: vcpuCount }, () => ({
    controlOffset: place(VCPU_CONTROL_BYTES),
    ringOffset: place(EXIT_RING_BYTES),
    traceOffset: place(TRACE_BYTES),
  }));
  const deviceOffsets = deviceWords.map((words) => place(words * Int32Array.BYTES_PER_ELEMENT));
  return { buffer: new SharedArrayBuffer(end), vcpus, deviceOffsets };
}
