/**
 * What door 2 takes and gives, as JSON Schema: checks requests, types the client, makes the serialisers and is
 * the OpenAPI document. The type at the end refuses to compile when a schema and the type it stands for differ.
 */
import Type, { type Static } from "typebox";
import type {
  FleetSpec as FleetSpecMessage,
  RestartPolicy as RestartPolicyMessage,
} from "../../actors/fleet-messages.js";
import { Config } from "./config-schemas.js";
import type { DeepReadonly, Holds, Same } from "./schema-types.js";

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
  pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
  description: "Unique in the fleet. Default: given by the server.",
});

export const Labels = Type.Record(
  Type.String({ pattern: "^[A-Za-z0-9._/-]{1,63}$" }),
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
  { ...closed, title: "MicrovmUpdate" },
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
    restartCount: Type.Integer({
      minimum: 0,
      description: "Restarts by its policy since somebody started it.",
    }),
    restartAtMs: orNull(TimeMs("When its policy starts it again")),
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
    guest: Type.Optional(
      Type.Object(
        {
          version: Type.String(),
          bootArgs: Type.String({
            description: "Its kernel arguments on this host, for a `bootArgs` that adds to them.",
          }),
        },
        { description: "The guest that comes with Estalo; absent when it is not installed." },
      ),
    ),
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

/** Refuses to compile when a schema and the type it stands for differ. */
export type SchemasAgree = [
  Holds<Same<DeepReadonly<Static<typeof FleetSpec>>, DeepReadonly<FleetSpecMessage>>>,
  Holds<Same<DeepReadonly<Static<typeof RestartPolicy>>, RestartPolicyMessage>>,
];
