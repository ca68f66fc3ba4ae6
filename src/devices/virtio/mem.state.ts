/**
 * What a memory device counts, and its record in a snapshot.
 */
import { addLatency, type LatencyAggregate } from "./block.state.js";

/** Counters under the names of Firecracker's `memory_hotplug` metrics. */
export interface MemMetrics {
  queue_event_count: number;
  queue_event_fails: number;
  plug_count: number;
  plug_bytes: number;
  plug_fails: number;
  unplug_count: number;
  unplug_bytes: number;
  unplug_fails: number;
  unplug_discard_fails: number;
  unplug_all_count: number;
  unplug_all_fails: number;
  state_count: number;
  state_fails: number;
  readonly plug_agg: LatencyAggregate;
  readonly unplug_agg: LatencyAggregate;
  readonly unplug_all_agg: LatencyAggregate;
  readonly state_agg: LatencyAggregate;
}

/** Kinds of requests, as the metrics name them. */
export type MemRequest = "plug" | "unplug" | "unplug_all" | "state";

const noLatency = (): LatencyAggregate => ({ min_us: 0, max_us: 0, sum_us: 0 });

export function createMemMetrics(): MemMetrics {
  return {
    queue_event_count: 0,
    queue_event_fails: 0,
    plug_count: 0,
    plug_bytes: 0,
    plug_fails: 0,
    unplug_count: 0,
    unplug_bytes: 0,
    unplug_fails: 0,
    unplug_discard_fails: 0,
    unplug_all_count: 0,
    unplug_all_fails: 0,
    state_count: 0,
    state_fails: 0,
    plug_agg: noLatency(),
    unplug_agg: noLatency(),
    unplug_all_agg: noLatency(),
    state_agg: noLatency(),
  };
}

/** Counts a request that was answered; one that was refused is a failure as well. */
export function countRequest(
  metrics: MemMetrics,
  request: MemRequest,
  isRefused: boolean,
  latencyUs: number,
): void {
  metrics[`${request}_count`]++;
  if (isRefused) metrics[`${request}_fails`]++;
  addLatency(metrics[`${request}_agg`], latencyUs);
}

/** A memory device in a snapshot; sizes in bytes, blocks by their number in the region. */
export interface MemState {
  readonly version: 1;
  readonly start: number;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  readonly slotBytes: number;
  readonly requestedBytes: number;
  readonly usableBytes: number;
  /** Runs of plugged blocks, in order: the first, and how many. */
  readonly plugged: readonly (readonly [number, number])[];
  /** Blocks on their way back to the host: the next and the end; the chain to answer, if it still waits. */
  readonly unplugging:
    | {
        readonly request: MemRequest;
        readonly block: number;
        readonly endBlock: number;
        readonly head: number | undefined;
      }
    | undefined;
}

/** Runs of ones among `blocks`: the first of each, and how many. */
export function runsOf(blocks: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  for (let first = blocks.indexOf(1); first >= 0; ) {
    const end = blocks.indexOf(0, first);
    runs.push([first, (end < 0 ? blocks.length : end) - first]);
    first = end < 0 ? -1 : blocks.indexOf(1, end);
  }
  return runs;
}
