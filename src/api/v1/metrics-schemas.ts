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

const counter = Type.Union([
  Type.Number(),
  Type.Object({ min_us: Type.Number(), max_us: Type.Number(), sum_us: Type.Number() }),
]);

/** Named ones, and all others that the device has; names are those of Firecracker's metrics. */
const deviceMetrics = <const Properties extends Type.TProperties>(
  title: string,
  properties: Properties,
) => Type.Object(properties, { additionalProperties: counter, title });

export const DriveMetrics = deviceMetrics("DriveMetrics", {
  read_bytes: Count(),
  write_bytes: Count(),
  read_count: Count(),
  write_count: Count(),
  flush_count: Count(),
});

/** `rx` is to the guest. */
export const NetworkMetrics = deviceMetrics("NetworkMetrics", {
  rx_bytes_count: Count(),
  rx_packets_count: Count(),
  tx_bytes_count: Count(),
  tx_packets_count: Count(),
});

export const EntropyMetrics = deviceMetrics("EntropyMetrics", {
  entropy_event_count: Count(),
  entropy_bytes: Count(),
});

export const PmemMetrics = deviceMetrics("PmemMetrics", {
  queue_event_count: Count("Requests of the driver to look at its queue."),
  event_fails: Count(),
});

/** `rx` is to the guest. */
export const VsockMetrics = deviceMetrics("VsockMetrics", {
  rx_bytes_count: Count(),
  tx_bytes_count: Count(),
  conns_added: Count(),
  conns_removed: Count(),
});

export const BalloonMetrics = deviceMetrics("BalloonMetrics", {
  inflate_count: Count(),
  deflate_count: Count(),
  free_page_report_freed: Count("Bytes."),
  free_page_hint_freed: Count("Bytes."),
});

export const MemoryHotplugMetrics = deviceMetrics("MemoryHotplugMetrics", {
  plug_bytes: Count(),
  unplug_bytes: Count(),
});

export const MmdsMetrics = deviceMetrics("MmdsMetrics", {
  rx_count: Count("Frames for the service."),
  tx_count: Count("Answers."),
  connections_created: Count(),
});

const orNull = <Schema extends Type.TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);

/** Reply of GET /v1/microvms/{id}/metrics: of the present run; empty and zero when there is none. */
export const MicrovmMetrics = Type.Object(
  {
    id: Type.String(),
    state: Type.String(),
    atMs: Type.Number({ description: "When they were read, Unix milliseconds." }),
    vcpus: Type.Array(VcpuMetrics),
    drives: Type.Record(Type.String(), DriveMetrics, { description: "By the drive's id." }),
    networkInterfaces: Type.Record(Type.String(), NetworkMetrics, {
      description: "By the interface's id.",
    }),
    pmem: Type.Record(Type.String(), PmemMetrics, { description: "By the device's id." }),
    entropy: orNull(EntropyMetrics),
    vsock: orNull(VsockMetrics),
    balloon: orNull(BalloonMetrics),
    memoryHotplug: orNull(MemoryHotplugMetrics),
    mmds: orNull(MmdsMetrics),
    serial: Type.Object({
      transmittedBytes: Count("From the guest."),
      receivedBytes: Count("To the guest."),
      droppedBytes: Count("From the guest, beyond its rate limit."),
    }),
  },
  { title: "MicrovmMetrics" },
);
