/**
 * What an entropy device counts, and its record in a snapshot: it has no configuration, and keeps nothing of a
 * driver between two batches but its queue's position.
 */

/** Counters under the names of Firecracker's `entropy` metrics; they count up and are never reset here. */
export interface RngMetrics {
  entropy_event_count: number;
  entropy_event_fails: number;
  entropy_bytes: number;
  host_rng_fails: number;
  entropy_rate_limiter_throttled: number;
  rate_limiter_event_count: number;
}

export function createRngMetrics(): RngMetrics {
  return {
    entropy_event_count: 0,
    entropy_event_fails: 0,
    entropy_bytes: 0,
    host_rng_fails: 0,
    entropy_rate_limiter_throttled: 0,
    rate_limiter_event_count: 0,
  };
}

/** An entropy device in a snapshot. */
export interface RngState {
  readonly version: 1;
}
