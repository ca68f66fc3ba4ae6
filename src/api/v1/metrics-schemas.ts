/**
 * The counters of one microVM as JSON. docs/api.md lists the names under which /metrics has them.
 */
import Type from "typebox";

const Count = (description?: string) =>
  Type.Integer({ minimum: 0, ...(description === undefined ? {} : { description }) });

/** Exits of one vCPU in its present run; 32-bit counters that wrap. */
export const VcpuMetrics = Type.Object(
  {
    exitIoIn: Count("Port reads."),
    exitIoOut: Count("Port writes."),
    exitMmioRead: Count(),
    exitMmioWrite: Count(),
    exitOther: Count(),
    kicks: Count("Times its supervisor called it out of the guest."),
    cpuMs: Type.Optional(
      Type.Number({
        minimum: 0,
        description: "Processor time of the thread it runs on; absent while it has none.",
      }),
    ),
  },
  { title: "VcpuMetrics" },
);

const Latency = Type.Object({
  min_us: Type.Number({ minimum: 0 }),
  max_us: Type.Number({ minimum: 0 }),
  sum_us: Type.Number({ minimum: 0 }),
});

/** One drive, with the names of Firecracker's metrics. */
export const DriveMetrics = Type.Object(
  {
    no_avail_buffer: Count(),
    event_fails: Count(),
    execute_fails: Count(),
    invalid_reqs_count: Count(),
    flush_count: Count(),
    queue_event_count: Count(),
    update_count: Count(),
    update_fails: Count(),
    read_bytes: Count(),
    write_bytes: Count(),
    read_count: Count(),
    write_count: Count(),
    io_engine_throttled_events: Count(),
    remaining_reqs_count: Count(),
    rate_limiter_event_count: Count(),
    rate_limiter_throttled_events: Count(),
    read_agg: Latency,
    write_agg: Latency,
  },
  { title: "DriveMetrics" },
);

/** Reply of GET /v1/microvms/{id}/metrics: of the present run; empty and zero when there is none. */
export const MicrovmMetrics = Type.Object(
  {
    id: Type.String(),
    state: Type.String(),
    atMs: Type.Number({ description: "When they were read, Unix milliseconds." }),
    vcpus: Type.Array(VcpuMetrics),
    drives: Type.Record(Type.String(), DriveMetrics, { description: "By the drive's id." }),
    serial: Type.Object({
      transmittedBytes: Count("From the guest."),
      receivedBytes: Count("To the guest."),
      droppedBytes: Count("From the guest, beyond its rate limit."),
    }),
  },
  { title: "MicrovmMetrics" },
);
