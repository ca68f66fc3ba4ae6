/**
 * What a balloon counts, and its record in a snapshot.
 */

/** Counters under the names of Firecracker's `balloon` metrics; they count up and are never reset here. */
export interface BalloonMetrics {
  inflate_count: number;
  deflate_count: number;
  stats_updates_count: number;
  stats_update_fails: number;
  event_fails: number;
  free_page_report_count: number;
  free_page_report_freed: number;
  free_page_report_fails: number;
  free_page_hint_count: number;
  free_page_hint_freed: number;
  free_page_hint_fails: number;
}

export function createBalloonMetrics(): BalloonMetrics {
  return {
    inflate_count: 0,
    deflate_count: 0,
    stats_updates_count: 0,
    stats_update_fails: 0,
    event_fails: 0,
    free_page_report_count: 0,
    free_page_report_freed: 0,
    free_page_report_fails: 0,
    free_page_hint_count: 0,
    free_page_hint_freed: 0,
    free_page_hint_fails: 0,
  };
}

/** A balloon in a snapshot. */
export interface BalloonState {
  readonly version: 1;
  readonly targetPages: number;
  readonly actualPages: number;
  readonly deflateOnOom: boolean;
  readonly hasStatistics: boolean;
  readonly hasHinting: boolean;
  readonly hasReporting: boolean;
}
