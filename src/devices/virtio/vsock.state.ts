/**
 * What a socket device counts, and its record in a snapshot. Connections are not in it: they end when a microVM
 * is restored, and its driver is told by TRANSPORT_RESET.
 */

/** Counters under the names of Firecracker's `vsock` metrics; they count up and are never reset here. */
export interface VsockMetrics {
  rx_queue_event_fails: number;
  tx_queue_event_fails: number;
  ev_queue_event_fails: number;
  rx_queue_event_count: number;
  tx_queue_event_count: number;
  rx_bytes_count: number;
  tx_bytes_count: number;
  rx_packets_count: number;
  tx_packets_count: number;
  conns_added: number;
  conns_killed: number;
  conns_removed: number;
}

export function createVsockMetrics(): VsockMetrics {
  return {
    rx_queue_event_fails: 0,
    tx_queue_event_fails: 0,
    ev_queue_event_fails: 0,
    rx_queue_event_count: 0,
    tx_queue_event_count: 0,
    rx_bytes_count: 0,
    tx_bytes_count: 0,
    rx_packets_count: 0,
    tx_packets_count: 0,
    conns_added: 0,
    conns_killed: 0,
    conns_removed: 0,
  };
}

/** A socket device in a snapshot. */
export interface VsockState {
  readonly version: 1;
  readonly guestCid: number;
}
