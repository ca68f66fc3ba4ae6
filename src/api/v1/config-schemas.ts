/**
 * The machine's configuration as JSON Schema: the library's `MicroVmConfig`, with its ranges and defaults. What
 * goes with what is checkConfig's to say (actors/config.ts). The type at the end refuses to compile when the
 * two differ.
 */
import Type, { type Static } from "typebox";
import type { StoredConfig } from "../../actors/config.js";
import {
  BLOCK_MIB_MIN,
  HOTPLUG_MIB_MAX,
  SLOT_MIB_MIN,
} from "../../actors/config-memory-hotplug.js";
import { MMDS_SIZE_LIMIT_BYTES } from "../../actors/config-mmds.js";
import { VCPU_COUNT_MAX } from "../../boot/layout.js";
import { MEMORY_MIB_MAX, MEMORY_MIB_MIN } from "../../boot/memory-map.js";
import { MTU_MAX, MTU_MIN, PAIRS_MAX } from "../../devices/virtio/net.regs.js";
import { GUEST_CID_MAX, GUEST_CID_MIN } from "../../devices/virtio/vsock.regs.js";
import type { DeepReadonly, Holds, Same } from "./schema-types.js";

export const closed = { additionalProperties: false } as const;

export const HostPath = (description: string) =>
  Type.String({ minLength: 1, maxLength: 4095, pattern: "^[^\\u0000]*$", description });

const Tokens = (description: string) =>
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description });

/** `TokenBucketConfig` of the library. */
export const TokenBucket = Type.Object(
  {
    size: Tokens("Tokens it holds: bytes or operations; 0: no limit."),
    refillTimeMs: Tokens("Milliseconds in which an empty bucket is full again; 0: no limit."),
    oneTimeBurst: Type.Optional(Tokens("On top at the start. Default 0.")),
  },
  { ...closed, title: "TokenBucketConfig" },
);

/** `RateLimiterConfig` of the library. */
export const RateLimiter = Type.Object(
  { bandwidth: Type.Optional(TokenBucket), ops: Type.Optional(TokenBucket) },
  { ...closed, title: "RateLimiterConfig", description: "Limits in bytes and in operations." },
);

/** `DriveConfig` of the library. */
export const Drive = Type.Object(
  {
    id: Type.Optional(
      Type.String({
        pattern: "^[\\p{L}\\p{N}_]{1,64}$",
        description: "Unique in the microVM. Default: drive0, drive1, …",
      }),
    ),
    path: HostPath("A regular file or block device of the server's host."),
    isRoot: Type.Optional(
      Type.Boolean({ default: false, description: "Attached first, as the guest's root." }),
    ),
    partuuid: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 64,
        pattern: "^[^\\u0000]*$",
        description: "Of the root partition; only with isRoot.",
      }),
    ),
    readOnly: Type.Optional(Type.Boolean({ default: false })),
    cacheType: Type.Optional(
      Type.Enum(["Unsafe", "Writeback"], {
        type: "string",
        default: "Writeback",
        description: "Writeback: what the guest flushed is on the disk.",
      }),
    ),
    ioEngine: Type.Optional(
      Type.Enum(["auto", "io_uring", "libuv"], { type: "string", default: "auto" }),
    ),
    rateLimiter: Type.Optional(RateLimiter),
  },
  { ...closed, title: "DriveConfig", description: "A virtio block device." },
);

const Port = Type.Integer({ minimum: 1, maximum: 65_535 });

/** `UserNetworkConfig` of the library. */
export const UserNetwork = Type.Object(
  {
    forwards: Type.Optional(
      Type.Array(
        Type.Object(
          {
            protocol: Type.Optional(Type.Enum(["tcp", "udp"], { type: "string", default: "tcp" })),
            hostAddress: Type.Optional(
              Type.String({ maxLength: 15, default: "127.0.0.1", description: "IPv4." }),
            ),
            hostPort: Port,
            guestPort: Port,
          },
          { ...closed, title: "PortForward" },
        ),
        { maxItems: 64, description: "Ports of the host's that lead to the guest's." },
      ),
    ),
    hostLoopback: Type.Optional(
      Type.Boolean({
        default: false,
        description: "The guest reaches the host's loopback interface at 10.0.2.2.",
      }),
    ),
  },
  { ...closed, title: "UserNetworkConfig", description: "Sockets of the server's user, by passt." },
);

/** `NetworkInterfaceConfig` of the library. */
export const NetworkInterface = Type.Object(
  {
    id: Type.Optional(
      Type.String({
        pattern: "^[\\p{L}\\p{N}_]{1,64}$",
        description: "Unique in the microVM. Default: net0, net1, …",
      }),
    ),
    tap: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 255,
        pattern: "^[^\\u0000]*$",
        description: "An existing tap interface of the server's host; or user.",
      }),
    ),
    user: Type.Optional(UserNetwork),
    mac: Type.Optional(
      Type.String({
        pattern: "^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$",
        description: "The guest's address, not a group's. Default: random.",
      }),
    ),
    mtu: Type.Optional(Type.Integer({ minimum: MTU_MIN, maximum: MTU_MAX })),
    queuePairs: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: PAIRS_MAX,
        description:
          "Pairs of queues, no more than vCPUs; more than one needs a tap with several queues. Default: 1.",
      }),
    ),
    rxRateLimiter: Type.Optional(RateLimiter),
    txRateLimiter: Type.Optional(RateLimiter),
  },
  {
    ...closed,
    title: "NetworkInterfaceConfig",
    description: "A virtio network device; rx is to the guest.",
  },
);

/** `MmdsConfig` of the library. */
export const Mmds = Type.Object(
  {
    version: Type.Optional(
      Type.Enum(["V1", "V2"], {
        type: "string",
        default: "V2",
        description: "V2 answers only who shows a session token.",
      }),
    ),
    ipv4Address: Type.Optional(
      Type.String({
        pattern: "^169\\.254\\.\\d{1,3}\\.\\d{1,3}$",
        description: "169.254.1.0 to 169.254.254.255. Default: 169.254.169.254.",
      }),
    ),
    interfaces: Type.Optional(
      Type.Array(Type.String(), {
        minItems: 1,
        maxItems: 64,
        description: "Ids of the interfaces that reach it. Default: all.",
      }),
    ),
    imdsCompat: Type.Optional(
      Type.Boolean({
        default: false,
        description: "Bodies are as EC2's, whatever the client accepts.",
      }),
    ),
    data: Type.Optional(
      Type.Record(Type.String(), Type.Unknown(), { description: "What it begins with." }),
    ),
    sizeLimitBytes: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
        default: MMDS_SIZE_LIMIT_BYTES,
        description: "Of the data as JSON text.",
      }),
    ),
  },
  { ...closed, title: "MetadataServiceConfig", description: "The metadata service." },
);

/** `VsockConfig` of the library. */
export const Vsock = Type.Object(
  {
    guestCid: Type.Optional(
      Type.Integer({ minimum: GUEST_CID_MIN, maximum: GUEST_CID_MAX, default: GUEST_CID_MIN }),
    ),
    udsPath: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 96,
        pattern: "^[^\\u0000]*$",
        description: "A Unix socket of the server's host, made by it; at most 96 bytes.",
      }),
    ),
    connectionsMax: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_536, default: 1023 })),
  },
  { ...closed, title: "VsockConfig", description: "A virtio socket device." },
);

/** `PmemConfig` of the library. */
export const Pmem = Type.Object(
  {
    id: Type.Optional(
      Type.String({
        pattern: "^[\\p{L}\\p{N}_]{1,64}$",
        description: "Unique in the microVM. Default: pmem0, pmem1, …",
      }),
    ),
    path: HostPath("A regular file of at least a byte."),
    isRoot: Type.Optional(Type.Boolean({ default: false })),
    readOnly: Type.Optional(Type.Boolean({ default: false })),
    rateLimiter: Type.Optional(RateLimiter),
  },
  { ...closed, title: "PmemConfig", description: "A file as persistent memory." },
);

/** `MemoryHotplugConfig` of the library. */
export const MemoryHotplug = Type.Object(
  {
    totalSizeMib: Type.Integer({
      minimum: SLOT_MIB_MIN,
      maximum: HOTPLUG_MIB_MAX,
      description: "A multiple of slotSizeMib.",
    }),
    slotSizeMib: Type.Optional(
      Type.Integer({
        minimum: SLOT_MIB_MIN,
        maximum: HOTPLUG_MIB_MAX,
        default: SLOT_MIB_MIN,
        description: "A multiple of blockSizeMib.",
      }),
    ),
    blockSizeMib: Type.Optional(
      Type.Integer({
        minimum: BLOCK_MIB_MIN,
        maximum: HOTPLUG_MIB_MAX,
        default: BLOCK_MIB_MIN,
        description: "A power of two.",
      }),
    ),
  },
  {
    ...closed,
    title: "MemoryHotplugOptions",
    description: "Memory that can be plugged while the guest runs.",
  },
);

/** `MicroVmConfig` of the library. */
export const Config = Type.Object(
  {
    id: Type.Optional(
      Type.String({
        pattern: "^[A-Za-z0-9-]{1,64}$",
        description: "The microVM's id. Default: given by the server.",
      }),
    ),
    kernel: Type.Optional(
      HostPath("A vmlinux (ELF) or bzImage. Default: the guest that comes with Estalo."),
    ),
    initrd: Type.Optional(HostPath("Initial RAM disk. Default: none.")),
    bootArgs: Type.Optional(
      Type.String({
        maxLength: 2048,
        description: "The kernel's arguments; root= and the devices are added.",
      }),
    ),
    vcpuCount: Type.Optional(Type.Integer({ minimum: 1, maximum: VCPU_COUNT_MAX, default: 1 })),
    smt: Type.Optional(
      Type.Boolean({
        default: false,
        description: "Two threads to a core; then vcpuCount is 1 or even.",
      }),
    ),
    memoryMib: Type.Optional(
      Type.Integer({ minimum: MEMORY_MIB_MIN, maximum: MEMORY_MIB_MAX, default: 128 }),
    ),
    hugePages: Type.Optional(
      Type.Union([Type.Boolean(), Type.Literal("transparent")], {
        default: false,
        description:
          "Pages of 2 MiB for guest memory, then memoryMib is even: those that the host reserved (true), or where it has them at hand.",
      }),
    ),
    drives: Type.Optional(
      Type.Array(Drive, {
        maxItems: 64,
        description: "In the order of their devices. Default: the default guest's root.",
      }),
    ),
    pmem: Type.Optional(
      Type.Array(Pmem, {
        maxItems: 64,
        description: "In the order of their devices: the first is /dev/pmem0. Default: none.",
      }),
    ),
    networkInterfaces: Type.Optional(
      Type.Array(NetworkInterface, {
        maxItems: 64,
        description: "In the order of their devices: the first is eth0. Default: none.",
      }),
    ),
    mmds: Type.Optional(Mmds),
    balloon: Type.Optional(
      Type.Object(
        {
          amountMib: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: MEMORY_MIB_MAX,
              default: 0,
              description: "MiB that the guest is to give from its start, at most its memory.",
            }),
          ),
          deflateOnOom: Type.Optional(Type.Boolean({ default: false })),
          statsIntervalS: Type.Optional(
            Type.Integer({
              minimum: 0,
              maximum: 65_535,
              default: 0,
              description: "Seconds between statistics; 0: never.",
            }),
          ),
          freePageHinting: Type.Optional(Type.Boolean({ default: false })),
          freePageReporting: Type.Optional(Type.Boolean({ default: false })),
        },
        { ...closed, title: "BalloonConfig", description: "A memory balloon. Default: none." },
      ),
    ),
    memoryHotplug: Type.Optional(MemoryHotplug),
    vsock: Type.Optional(Vsock),
    entropy: Type.Optional(
      Type.Union(
        [
          Type.Boolean(),
          Type.Object(
            { rateLimiter: Type.Optional(RateLimiter) },
            { ...closed, title: "EntropyConfig" },
          ),
        ],
        { default: true, description: "A virtio entropy device." },
      ),
    ),
    serial: Type.Optional(
      Type.Object(
        { rateLimiter: Type.Optional(TokenBucket) },
        {
          ...closed,
          title: "SerialConfig",
          description: "Output beyond its limit is dropped, and counted.",
        },
      ),
    ),
    cpuTemplate: Type.Optional(
      Type.Union([
        HostPath("A file with it."),
        Type.Record(Type.String(), Type.Unknown(), {
          description: "Firecracker's custom CPU template.",
        }),
      ]),
    ),
  },
  { ...closed, title: "MicroVmConfig", description: "The machine; all fields have defaults." },
);

/** See the file's header. */
export type ConfigSchemaAgrees = Holds<
  Same<DeepReadonly<Static<typeof Config>>, DeepReadonly<StoredConfig>>
>;
