/**
 * Groups and fields of Firecracker's metrics, all of them: clients decode lines into fixed structures, so what
 * this build cannot count yet is there as 0. Firecracker 1.16, src/vmm/src/logger/metrics.rs and the metrics.rs
 * of its devices.
 */
import type { ApiCounters } from "./api-counters.js";

/** Latencies of one kind; min and max since the start, the sum since the line before. */
export interface Aggregate {
  min_us: number;
  max_us: number;
  sum_us: number;
}

/** One group's values. */
export type MetricsGroup = Record<string, number | Aggregate>;

/** All groups, by name. */
export type MetricsGroups = Record<string, MetricsGroup>;

const zeros = (fields: string): Record<string, number> =>
  Object.fromEntries(
    fields
      .trim()
      .split(/\s+/)
      .map((field) => [field, 0]),
  );

const aggregates = (fields: string): Record<string, Aggregate> =>
  Object.fromEntries(
    fields.split(" ").map((field) => [field, { min_us: 0, max_us: 0, sum_us: 0 }]),
  );

/** Fields of `block` and of `block_<id>`. */
export function blockGroup(): MetricsGroup {
  return {
    ...zeros(`activate_fails cfg_fails no_avail_buffer event_fails execute_fails invalid_reqs_count
      flush_count queue_event_count rate_limiter_event_count update_count update_fails read_bytes
      write_bytes read_count write_count rate_limiter_throttled_events io_engine_throttled_events
      remaining_reqs_count`),
    ...aggregates("read_agg write_agg"),
  };
}

/** Fields of `net` and of `net_<id>`. */
export function netGroup(): MetricsGroup {
  return {
    ...zeros(`activate_fails cfg_fails no_rx_avail_buffer no_tx_avail_buffer event_fails
      rx_queue_event_count rx_event_rate_limiter_count rx_rate_limiter_throttled
      rx_tap_event_count rx_bytes_count rx_packets_count rx_fails rx_count tap_read_fails
      tap_write_fails tx_bytes_count tx_malformed_frames tx_fails tx_count tx_packets_count
      tx_queue_event_count tx_rate_limiter_event_count tx_rate_limiter_throttled
      tx_spoofed_mac_count tx_remaining_reqs_count`),
    ...aggregates("tap_write_agg"),
  };
}

/** Fields of `pmem` and of `pmem_<id>`. */
export function pmemGroup(): MetricsGroup {
  return zeros(`activate_fails cfg_fails event_fails queue_event_count
    rate_limiter_throttled_events rate_limiter_event_count`);
}

/** Every group with every value 0, but for those of single devices. */
export function zeroGroups(): MetricsGroups {
  return {
    api_server: zeros("process_startup_time_us process_startup_time_cpu_us"),
    balloon:
      zeros(`activate_fails inflate_count stats_updates_count stats_update_fails deflate_count
      event_fails free_page_report_count free_page_report_freed free_page_report_fails
      free_page_hint_count free_page_hint_freed free_page_hint_fails`),
    block: blockGroup(),
    deprecated_api: zeros("deprecated_http_api_calls"),
    get_api_requests: {},
    i8042: zeros(
      "error_count missed_read_count missed_write_count read_count reset_count write_count",
    ),
    latencies_us: zeros(`full_create_snapshot diff_create_snapshot load_snapshot pause_vm resume_vm
      vmm_full_create_snapshot vmm_diff_create_snapshot vmm_load_snapshot vmm_pause_vm vmm_resume_vm`),
    logger: zeros("missed_metrics_count metrics_fails missed_log_count rate_limited_log_count"),
    mmds: zeros(`rx_accepted rx_accepted_err rx_accepted_unusual rx_bad_eth rx_invalid_token
      rx_no_token rx_count tx_bytes tx_count tx_errors tx_frames connections_created
      connections_destroyed`),
    net: netGroup(),
    patch_api_requests: {},
    put_api_requests: {},
    seccomp: zeros("num_faults"),
    vcpu: {
      ...zeros(
        "exit_io_in exit_io_out exit_mmio_read exit_mmio_write failures kvmclock_ctrl_fails",
      ),
      ...aggregates("exit_io_in_agg exit_io_out_agg exit_mmio_read_agg exit_mmio_write_agg"),
    },
    vmm: zeros("panic_count"),
    uart: zeros(`error_count flush_count missed_read_count missed_write_count read_count write_count
      rate_limiter_dropped_bytes`),
    signals: zeros("sigbus sigsegv sigxfsz sigxcpu sigpipe sighup sigill"),
    vsock: zeros(`activate_fails cfg_fails rx_queue_event_fails tx_queue_event_fails
      ev_queue_event_fails muxer_event_fails conn_event_fails rx_queue_event_count
      tx_queue_event_count rx_bytes_count tx_bytes_count rx_packets_count tx_packets_count
      conns_added conns_killed conns_removed killq_resync tx_flush_fails tx_write_fails rx_read_fails`),
    entropy: zeros(`activate_fails entropy_event_fails entropy_event_count entropy_bytes
      host_rng_fails entropy_rate_limiter_throttled rate_limiter_event_count`),
    pmem: pmemGroup(),
    memory_hotplug: {
      ...zeros(`activate_fails queue_event_fails queue_event_count plug_count plug_bytes plug_fails
        unplug_count unplug_bytes unplug_fails unplug_discard_fails unplug_all_count
        unplug_all_fails state_count state_fails`),
      ...aggregates("plug_agg unplug_agg unplug_all_agg state_agg"),
    },
    interrupts: zeros("triggers config_updates"),
  };
}

/** Puts the door's own counters in their groups. */
export function addApiCounters(groups: MetricsGroups, counters: ApiCounters): void {
  for (const name of [
    "get_api_requests",
    "put_api_requests",
    "patch_api_requests",
    "deprecated_api",
    "latencies_us",
  ] as const) {
    Object.assign(groups[name], counters[name]);
  }
}

/** Values that are told as they are, not as what was added since the line before. */
export const GAUGES: ReadonlySet<string> = new Set([
  "api_server",
  "latencies_us",
  "seccomp",
  "signals",
  "vmm",
]);
