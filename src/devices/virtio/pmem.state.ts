/**
 * What a persistent memory device counts, and its record in a snapshot. Flushes are not in it: a pause waits for
 * the sync under way, and takes no others.
 */

/** Counters under the names of Firecracker's `pmem` metrics; they count up and are never reset here. */
export interface PmemMetrics {
  event_fails: number;
  queue_event_count: number;
  rate_limiter_throttled_events: number;
  rate_limiter_event_count: number;
}

export function createPmemMetrics(): PmemMetrics {
  return {
    event_fails: 0,
    queue_event_count: 0,
    rate_limiter_throttled_events: 0,
    rate_limiter_event_count: 0,
  };
}

/** A persistent memory device in a snapshot. */
export interface PmemState {
  readonly version: 1;
  /** Where its memory is in the guest. */
  readonly start: number;
  readonly sizeBytes: number;
}
