/**
 * What the metadata service counts, and its record in a snapshot: data and tokens' key are not in it, as in
 * Firecracker, so a restored guest's tokens are void and the host gives the data again.
 */

/** Counters under the names of Firecracker's `mmds` metrics; they count up and are never reset here. */
export interface MmdsMetrics {
  rx_accepted: number;
  rx_accepted_err: number;
  rx_accepted_unusual: number;
  rx_bad_eth: number;
  rx_invalid_token: number;
  rx_no_token: number;
  rx_count: number;
  tx_bytes: number;
  tx_count: number;
  tx_errors: number;
  tx_frames: number;
  connections_created: number;
  connections_destroyed: number;
}

export function createMmdsMetrics(): MmdsMetrics {
  return {
    rx_accepted: 0,
    rx_accepted_err: 0,
    rx_accepted_unusual: 0,
    rx_bad_eth: 0,
    rx_invalid_token: 0,
    rx_no_token: 0,
    rx_count: 0,
    tx_bytes: 0,
    tx_count: 0,
    tx_errors: 0,
    tx_frames: 0,
    connections_created: 0,
    connections_destroyed: 0,
  };
}

/** The service in a snapshot. */
export interface MmdsState {
  readonly version: 1;
  readonly mmdsVersion: "V1" | "V2";
  readonly ipv4Address: number;
  readonly imdsCompat: boolean;
  /** Ids of the interfaces that reach it. */
  readonly interfaces: readonly string[];
}
