/**
 * What a network device counts, and its record in a snapshot.
 *
 * Between two batches the device keeps frames only while it must (a limiter, a full host), and gives their
 * chains back to the queue when it is paused, so the record holds what a restored device must offer again.
 */

/** Counters under the names of Firecracker's `net` metrics; they count up and are never reset here. */
export interface NetMetrics {
  no_rx_avail_buffer: number;
  no_tx_avail_buffer: number;
  rx_queue_event_count: number;
  rx_event_rate_limiter_count: number;
  rx_rate_limiter_throttled: number;
  rx_tap_event_count: number;
  rx_bytes_count: number;
  rx_packets_count: number;
  rx_fails: number;
  rx_count: number;
  tx_bytes_count: number;
  tx_packets_count: number;
  tx_malformed_frames: number;
  tx_fails: number;
  tx_count: number;
  tx_queue_event_count: number;
  tx_rate_limiter_event_count: number;
  tx_rate_limiter_throttled: number;
  tx_spoofed_mac_count: number;
  tx_remaining_reqs_count: number;
  /** Commands on the control queue, and those of them that were refused: no counters of Firecracker's. */
  control_count: number;
  control_fails: number;
}

export function createNetMetrics(): NetMetrics {
  return {
    no_rx_avail_buffer: 0,
    no_tx_avail_buffer: 0,
    rx_queue_event_count: 0,
    rx_event_rate_limiter_count: 0,
    rx_rate_limiter_throttled: 0,
    rx_tap_event_count: 0,
    rx_bytes_count: 0,
    rx_packets_count: 0,
    rx_fails: 0,
    rx_count: 0,
    tx_bytes_count: 0,
    tx_packets_count: 0,
    tx_malformed_frames: 0,
    tx_fails: 0,
    tx_count: 0,
    tx_queue_event_count: 0,
    tx_rate_limiter_event_count: 0,
    tx_rate_limiter_throttled: 0,
    tx_spoofed_mac_count: 0,
    tx_remaining_reqs_count: 0,
    control_count: 0,
    control_fails: 0,
  };
}

/** A network device in a snapshot. */
export interface NetState {
  readonly version: 1;
  readonly mac: readonly number[];
  readonly mtu: number | undefined;
  readonly isLinkUp: boolean;
  /** Whether offloads were offered. */
  readonly offloads: boolean;
  /** Pairs of queues, and those that the driver uses. */
  readonly pairs: number;
  readonly activePairs: number;
}
