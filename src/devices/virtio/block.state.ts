/**
 * What a block device counts, and its record in a snapshot.
 *
 * The device keeps nothing of a driver between two batches but its queue's position, so the record
 * holds what a restored device must offer again.
 */
import { DISK_READ, DISK_WRITE } from "../backend.js";

/** Latencies in microseconds; `min_us` is 0 until there is one. */
export interface LatencyAggregate {
  min_us: number;
  max_us: number;
  sum_us: number;
}

/**
 * Counters under the names of Firecracker's `block` metrics; they count up and are never reset
 * here.
 */
export interface BlockMetrics {
  no_avail_buffer: number;
  event_fails: number;
  execute_fails: number;
  invalid_reqs_count: number;
  flush_count: number;
  queue_event_count: number;
  update_count: number;
  update_fails: number;
  rate_limiter_event_count: number;
  rate_limiter_throttled_events: number;
  read_bytes: number;
  write_bytes: number;
  read_count: number;
  write_count: number;
  io_engine_throttled_events: number;
  remaining_reqs_count: number;
  readonly read_agg: LatencyAggregate;
  readonly write_agg: LatencyAggregate;
}

export function createBlockMetrics(): BlockMetrics {
  return {
    no_avail_buffer: 0,
    event_fails: 0,
    execute_fails: 0,
    invalid_reqs_count: 0,
    flush_count: 0,
    queue_event_count: 0,
    update_count: 0,
    update_fails: 0,
    rate_limiter_event_count: 0,
    rate_limiter_throttled_events: 0,
    read_bytes: 0,
    write_bytes: 0,
    read_count: 0,
    write_count: 0,
    io_engine_throttled_events: 0,
    remaining_reqs_count: 0,
    read_agg: { min_us: 0, max_us: 0, sum_us: 0 },
    write_agg: { min_us: 0, max_us: 0, sum_us: 0 },
  };
}

/** Takes one more latency in. */
export function addLatency(aggregate: LatencyAggregate, latencyUs: number): void {
  if (aggregate.min_us === 0 || latencyUs < aggregate.min_us) aggregate.min_us = latencyUs;
  if (latencyUs > aggregate.max_us) aggregate.max_us = latencyUs;
  aggregate.sum_us += latencyUs;
}

/** Counts one successful request, if it moved data. */
export function countTransfer(
  metrics: BlockMetrics,
  operation: number,
  bytes: number,
  latencyUs: number,
): void {
  if (operation === DISK_READ) {
    metrics.read_count++;
    metrics.read_bytes += bytes;
    addLatency(metrics.read_agg, latencyUs);
  } else if (operation === DISK_WRITE) {
    metrics.write_count++;
    metrics.write_bytes += bytes;
    addLatency(metrics.write_agg, latencyUs);
  }
}

/** When a completed write is on stable storage: by FLUSH only, or whenever the host likes. */
export type CacheType = "Unsafe" | "Writeback";

/** A block device in a snapshot. */
export interface BlockState {
  readonly version: 1;
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  readonly cacheType: CacheType;
  readonly discard: boolean;
}
