/**
 * What door 2 takes and gives, as JSON Schema: checks requests, types the client, makes the serialisers and is
 * the OpenAPI document. Ranges and defaults are those of actors/config.ts; the types at the end hold the two
 * against each other.
 */
import Type, { type Static } from "typebox";
import type { MicroVmConfig } from "../../actors/config.js";
import type {
  FleetSpec as FleetSpecMessage,
  RestartPolicy as RestartPolicyMessage,
} from "../../actors/fleet-messages.js";
import { VCPU_COUNT_MAX } from "../../boot/layout.js";
import { MEMORY_MIB_MAX, MEMORY_MIB_MIN } from "../../boot/memory-map.js";

const closed = { additionalProperties: false } as const;

/** Where a microVM of the fleet is. */
export const FLEET_STATES = [
  "configured",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "failed",
  "lost",
] as const;

const HostPath = (description: string) =>
  Type.String({ minLength: 1, maxLength: 4095, pattern: "^[^\\u0000]*$", description });

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
  },
  { ...closed, title: "Drive", description: "A virtio block device." },
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
      Type.Boolean({
        default: false,
        description: "Back guest memory with 2 MiB pages; then memoryMib is even.",
      }),
    ),
    drives: Type.Optional(
      Type.Array(Drive, {
        maxItems: 64,
        description: "In the order of their devices. Default: the default guest's root.",
      }),
    ),
    entropy: Type.Optional(
      Type.Boolean({ default: true, description: "A virtio entropy device." }),
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

export const RestartPolicy = Type.Object(
  {
    policy: Type.Enum(["no", "on-failure", "always"], {
      type: "string",
      description: "on-failure: exit code not 0. always: never after stop, kill or delete.",
    }),
    maxRetries: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 1_000_000,
        description: "Only with on-failure. Default: no limit.",
      }),
    ),
  },
  { ...closed, title: "RestartPolicy" },
);

const MicrovmName = Type.String({
  pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
  description:
    "Unique in the fleet: a letter or digit, then letters, digits, hyphens, dots, underscores.",
});

export const Labels = Type.Record(
  Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$" }),
  Type.String({ maxLength: 256 }),
  { ...closed, maxProperties: 64, title: "Labels" },
);

/** Body of POST /v1/microvms. */
export const FleetSpec = Type.Object(
  {
    name: Type.Optional(MicrovmName),
    labels: Type.Optional(Labels),
    config: Type.Optional(Config),
    restart: Type.Optional(RestartPolicy),
    autoRemove: Type.Optional(
      Type.Boolean({
        default: false,
        description: "Delete the record when the microVM has ended.",
      }),
    ),
    start: Type.Optional(Type.Boolean({ default: true, description: "Start it at once." })),
  },
  { ...closed, title: "MicrovmSpec" },
);

/** Body of PATCH /v1/microvms/{id}. */
export const MicrovmUpdate = Type.Object(
  {
    name: Type.Optional(MicrovmName),
    labels: Type.Optional(Labels),
    restart: Type.Optional(RestartPolicy),
  },
  { ...closed, minProperties: 1, title: "MicrovmUpdate" },
);

/** Body of POST /v1/microvms/{id}/stop. */
export const StopRequest = Type.Object(
  {
    timeoutMs: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 3_600_000,
        default: 5000,
        description: "Killed when it has not shut down within this time.",
      }),
    ),
  },
  { ...closed, title: "StopRequest" },
);

/** An error as logs, events and exits carry it. */
export const ErrorDetail = Type.Object(
  {
    code: Type.String({
      pattern: "^ERR_ESTALO_",
      description: "Stable; docs/errors.md lists all.",
    }),
    message: Type.String(),
    hint: Type.Optional(Type.String()),
    data: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    cause: Type.Optional(Type.Unknown({ description: "The error behind it, of the same form." })),
  },
  { title: "ErrorDetail" },
);

/** Body of every reply from 400 on. */
export const Problem = Type.Object({ error: ErrorDetail }, { title: "Problem" });

const TimeMs = (description: string) =>
  Type.Number({ description: `${description}, Unix milliseconds.` });

/** A field that is null until there is something to say. */
const orNull = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()]);

export const MicrovmExit = Type.Object(
  {
    reason: Type.Enum(["poweroff", "reboot", "panic", "triple-fault", "killed", "failed"], {
      type: "string",
    }),
    guestStatus: orNull(
      Type.Integer({ minimum: 0, maximum: 255, description: "Of the guest's command, if told." }),
    ),
    error: orNull(ErrorDetail),
    exitCode: Type.Integer({
      minimum: 0,
      maximum: 255,
      description: "Of a command that ran this microVM; docs/exit-codes.md.",
    }),
  },
  { title: "MicrovmExit" },
);

export const FleetStateName = Type.Enum([...FLEET_STATES], { type: "string" });

/** A microVM of the fleet. */
export const Microvm = Type.Object(
  {
    id: Type.String(),
    name: Type.String(),
    labels: Labels,
    config: Config,
    restart: RestartPolicy,
    autoRemove: Type.Boolean(),
    state: FleetStateName,
    createdAtMs: TimeMs("When it was described"),
    startedAtMs: orNull(TimeMs("When its last run started")),
    endedAtMs: orNull(TimeMs("When its last run ended")),
    exit: orNull(MicrovmExit),
    lostReason: orNull(Type.String({ description: "Why it is lost." })),
    restartCount: Type.Integer({ minimum: 0 }),
  },
  { title: "Microvm" },
);

export const MicrovmPage = Type.Object(
  {
    items: Type.Array(Microvm),
    next: orNull(Type.String({ description: "after= of the next page; null on the last." })),
  },
  { title: "MicrovmPage" },
);

export const WaitResult = Type.Object(
  {
    ended: Type.Boolean({ description: "false: timeoutMs went by; ask again." }),
    microvm: Microvm,
  },
  { title: "WaitResult" },
);

export const Info = Type.Object(
  {
    version: Type.String(),
    apiVersion: Type.String({ description: "Of this API: v1." }),
    node: Type.String(),
    kvm: Type.Boolean({ description: "This server can open /dev/kvm." }),
    uptimeMs: Type.Number({ minimum: 0 }),
    microvms: Type.Object(
      Object.fromEntries(FLEET_STATES.map((state) => [state, Type.Integer({ minimum: 0 })])) as {
        readonly [State in (typeof FLEET_STATES)[number]]: Type.TInteger;
      },
    ),
  },
  { title: "Info" },
);

export const Health = Type.Object(
  { status: Type.Enum(["ok", "opening", "closing"], { type: "string" }) },
  { title: "Health" },
);

/** `T` with every property, at any depth, read-only. */
export type DeepReadonly<T> = T extends object
  ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
  : T;
/** Each can stand for the other. */
export type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
/** Refuses to compile unless it holds. */
export type Holds<T extends true> = T;

/** Refuses to compile when a schema and the type it stands for differ. */
export type SchemasAgree = [
  Holds<Same<DeepReadonly<Static<typeof Config>>, DeepReadonly<MicroVmConfig>>>,
  Holds<Same<DeepReadonly<Static<typeof FleetSpec>>, DeepReadonly<FleetSpecMessage>>>,
  Holds<Same<DeepReadonly<Static<typeof RestartPolicy>>, RestartPolicyMessage>>,
];
