/**
 * What Firecracker's API takes and gives, as JSON Schema: checks the bodies, types them, and is the OpenAPI
 * document (routes.ts).
 *
 * A field that may be left out may be `null` as well, where Firecracker takes that; an object refuses fields it
 * does not know but for those that Firecracker leaves open. Formats name the integer's width, as OpenAPI does.
 * Ranges that depend on more than one field are the door's. Firecracker 1.16, src/firecracker/swagger/
 * firecracker.yaml, and its code where the two differ.
 */
import Type, { type Static, type TEnum, type TSchema } from "typebox";

export const closed = { additionalProperties: false } as const;

/** What Firecracker's messages call the object. */
export const struct = (name: string) => ({ "x-serde": `struct ${name}` }) as const;

/** The field may be absent or null: an `Option` in Firecracker's code. */
export const option = <T extends TSchema>(schema: T) =>
  Type.Optional(Type.Union([schema, Type.Null()]));

export const uint = (bits: 8 | 16 | 32 | 64, description?: string) =>
  Type.Integer({
    minimum: 0,
    maximum: 2 ** bits - 1,
    format: `uint${bits}`,
    ...(description === undefined ? {} : { description }),
  });

export function choice<const T extends string[]>(values: T, description?: string): TEnum<T> {
  const about = description === undefined ? {} : { description };
  return Type.Enum(values, { type: "string", ...about }) as unknown as TEnum<T>;
}

/** A token bucket; zero size or time switches it off. */
export const TokenBucket = Type.Object(
  {
    size: uint(64, "Tokens it holds: bytes or operations."),
    refill_time: uint(64, "Milliseconds in which an empty bucket fills."),
    one_time_burst: option(uint(64, "Tokens beyond the size that are given once.")),
  },
  { title: "TokenBucket", ...struct("TokenBucketConfig") },
);

/** Bandwidth and operations are limited independently. */
export const RateLimiter = Type.Object(
  { bandwidth: option(TokenBucket), ops: option(TokenBucket) },
  { ...closed, title: "RateLimiter", ...struct("RateLimiterConfig") },
);

export const InstanceInfo = Type.Object(
  {
    id: Type.String(),
    state: choice(["Not started", "Running", "Paused"]),
    vmm_version: Type.String(),
    app_name: Type.String(),
  },
  { title: "InstanceInfo" },
);

export const FirecrackerVersion = Type.Object(
  { firecracker_version: Type.String() },
  { title: "FirecrackerVersion" },
);

export const Fault = Type.Object({ fault_message: Type.String() }, { title: "Error" });

export const InstanceAction = Type.Object(
  { action_type: choice(["FlushMetrics", "InstanceStart", "SendCtrlAltDel"]) },
  { ...closed, title: "InstanceActionInfo", ...struct("ActionBody") },
);

export const VmState = Type.Object(
  { state: choice(["Paused", "Resumed"]) },
  { ...closed, title: "Vm", ...struct("VmUpdate") },
);

export const BootSource = Type.Object(
  {
    kernel_image_path: Type.String({ description: "A vmlinux (ELF) or bzImage." }),
    initrd_path: option(Type.String()),
    boot_args: option(Type.String({ description: "The kernel's arguments, without root=." })),
  },
  { ...closed, title: "BootSource", ...struct("BootSourceConfig") },
);

const machineFields = {
  smt: Type.Boolean({ description: "Two threads to a core." }),
  cpu_template: choice(
    ["C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None"],
    "Deprecated: use /cpu-config.",
  ),
  track_dirty_pages: Type.Boolean({ description: "For snapshots of what changed." }),
  huge_pages: choice(["None", "Transparent", "2M"]),
};
const vcpuCount = uint(8, "1 to 32; 1 or even with smt.");
const memSizeMib = Type.Integer({
  minimum: 0,
  maximum: 2 ** 64 - 1,
  format: "uint64",
  "x-serde": "usize",
  description: "MiB of guest memory.",
});

export const MachineConfiguration = Type.Object(
  {
    vcpu_count: vcpuCount,
    mem_size_mib: memSizeMib,
    smt: Type.Optional(machineFields.smt),
    cpu_template: option(machineFields.cpu_template),
    track_dirty_pages: Type.Optional(machineFields.track_dirty_pages),
    huge_pages: Type.Optional(machineFields.huge_pages),
  },
  { ...closed, title: "MachineConfiguration", ...struct("MachineConfig") },
);

export const MachineConfigurationUpdate = Type.Object(
  {
    vcpu_count: option(vcpuCount),
    mem_size_mib: option(memSizeMib),
    smt: option(machineFields.smt),
    cpu_template: option(machineFields.cpu_template),
    track_dirty_pages: option(machineFields.track_dirty_pages),
    huge_pages: option(machineFields.huge_pages),
  },
  { ...closed, title: "MachineConfigurationUpdate", ...struct("MachineConfigUpdate") },
);

const bitmap = Type.String({ description: "0b, then 0, 1 or x for each bit; _ anywhere." });
const number = Type.String({ description: "Hexadecimal 0x, binary 0b or decimal." });

export const CpuConfig = Type.Object(
  {
    kvm_capabilities: option(
      Type.Array(Type.String({ description: "Checked as well; with ! before it: not checked." })),
    ),
    cpuid_modifiers: option(
      Type.Array(
        Type.Object(
          {
            leaf: number,
            subleaf: number,
            flags: uint(32),
            modifiers: Type.Array(
              Type.Object({ register: choice(["eax", "ebx", "ecx", "edx"]), bitmap }, closed),
            ),
          },
          closed,
        ),
      ),
    ),
    msr_modifiers: option(Type.Array(Type.Object({ addr: number, bitmap }, closed))),
    reg_modifiers: option(Type.Array(Type.Object({ addr: number, bitmap }, closed))),
    vcpu_features: option(Type.Array(Type.Object({ index: uint(32), bitmap }, closed))),
  },
  { ...closed, title: "CpuConfig", ...struct("CustomCpuTemplate") },
);

export const Drive = Type.Object(
  {
    drive_id: Type.String(),
    partuuid: option(
      Type.String({ description: "Of the root partition; only with a root device." }),
    ),
    is_root_device: Type.Boolean({ description: "Attached first; adds root= to the arguments." }),
    cache_type: Type.Optional(
      choice(["Unsafe", "Writeback"], "Writeback: what the guest flushed is on the disk."),
    ),
    is_read_only: option(Type.Boolean()),
    path_on_host: option(Type.String()),
    rate_limiter: option(RateLimiter),
    io_engine: option(choice(["Sync", "Async"], "Async insists on io_uring.")),
    socket: option(Type.String({ description: "Of a vhost-user backend." })),
  },
  { ...closed, title: "Drive", ...struct("BlockDeviceConfig") },
);

export const DriveUpdate = Type.Object(
  {
    drive_id: Type.String(),
    path_on_host: option(Type.String()),
    rate_limiter: option(RateLimiter),
  },
  { ...closed, title: "PartialDrive", ...struct("BlockDeviceUpdateConfig") },
);

export const Entropy = Type.Object(
  { rate_limiter: option(RateLimiter) },
  { ...closed, title: "EntropyDevice", ...struct("EntropyDeviceConfig") },
);

export const Serial = Type.Object(
  { serial_out_path: option(Type.String()), rate_limiter: option(TokenBucket) },
  { ...closed, title: "SerialDevice", ...struct("SerialConfig") },
);

export const Logger = Type.Object(
  {
    log_path: option(Type.String({ description: "A file or FIFO. Default: standard output." })),
    level: option(
      Type.String({ description: "Off, Trace, Debug, Info, Warning or Error, in any case." }),
    ),
    show_level: option(Type.Boolean()),
    show_log_origin: option(Type.Boolean()),
    module: option(Type.String({ description: "Only messages whose origin begins so." })),
  },
  { ...closed, title: "Logger", ...struct("LoggerConfig") },
);

export const Metrics = Type.Object(
  {
    metrics_path: Type.String({ description: "A file or FIFO." }),
    emit_id: Type.Optional(Type.Boolean({ description: "Each line has the microVM's id." })),
    properties: option(
      Type.Record(Type.String(), Type.String(), { description: "For each line." }),
    ),
  },
  { title: "Metrics", ...struct("MetricsConfig") },
);

const shown = Type.Union([RateLimiter, Type.Null()]);

const FullInterface = Type.Object({
  iface_id: Type.String(),
  host_dev_name: Type.String(),
  guest_mac: Type.Union([Type.String(), Type.Null()]),
  mtu: Type.Union([uint(16), Type.Null()]),
  rx_rate_limiter: shown,
  tx_rate_limiter: shown,
});

const FullMmds = Type.Object({
  version: choice(["V1", "V2"]),
  network_interfaces: Type.Array(Type.String()),
  ipv4_address: Type.String(),
  imds_compat: Type.Boolean(),
});

const FullBalloon = Type.Object({
  amount_mib: uint(32),
  deflate_on_oom: Type.Boolean(),
  stats_polling_interval_s: uint(16),
  free_page_hinting: Type.Boolean(),
  free_page_reporting: Type.Boolean(),
});

const FullPmem = Type.Object({
  id: Type.String(),
  path_on_host: Type.String(),
  root_device: Type.Boolean(),
  read_only: Type.Boolean(),
  rate_limiter: shown,
});

const FullMemoryHotplug = Type.Object({
  total_size_mib: uint(64),
  block_size_mib: uint(64),
  slot_size_mib: uint(64),
});

const FullVsock = Type.Object({ guest_cid: uint(32), uds_path: Type.String() });

/** `GET /vm/config` of what this build has; what it lacks is null or empty. */
export const FullVmConfiguration = Type.Object(
  {
    balloon: Type.Union([FullBalloon, Type.Null()]),
    drives: Type.Array(Drive),
    "boot-source": Type.Object(
      {
        kernel_image_path: Type.String({ description: "Empty: not set yet." }),
        initrd_path: Type.Union([Type.String(), Type.Null()]),
        boot_args: Type.Union([Type.String(), Type.Null()]),
      },
      closed,
    ),
    "cpu-config": Type.Union([CpuConfig, Type.Null()]),
    logger: Type.Null(),
    "machine-config": MachineConfiguration,
    metrics: Type.Null(),
    "mmds-config": Type.Union([FullMmds, Type.Null()]),
    "network-interfaces": Type.Array(FullInterface),
    vsock: Type.Union([FullVsock, Type.Null()]),
    entropy: Type.Union([Entropy, Type.Null()]),
    pmem: Type.Array(FullPmem),
    "memory-hotplug": Type.Union([FullMemoryHotplug, Type.Null()]),
  },
  { title: "FullVmConfiguration" },
);

export type TokenBucketJson = Static<typeof TokenBucket>;
export type RateLimiterJson = Static<typeof RateLimiter>;
export type BootSourceJson = Static<typeof BootSource>;
export type MachineConfigJson = Static<typeof MachineConfiguration>;
export type MachineConfigUpdateJson = Static<typeof MachineConfigurationUpdate>;
export type CpuConfigJson = Static<typeof CpuConfig>;
export type DriveJson = Static<typeof Drive>;
export type DriveUpdateJson = Static<typeof DriveUpdate>;
export type EntropyJson = Static<typeof Entropy>;
export type SerialJson = Static<typeof Serial>;
export type LoggerJson = Static<typeof Logger>;
export type MetricsJson = Static<typeof Metrics>;
export type FullVmConfigJson = Static<typeof FullVmConfiguration>;
