/**
 * What door 2's WebSockets carry as text: lifecycle events of the fleet, and what a console's client says
 * beside its bytes. docs/api.md tells their order.
 */
import Type, { type Static } from "typebox";
import type { FleetEvent as FleetEventMessage } from "../../actors/fleet-messages.js";
import type { Holds, Same } from "./schema-types.js";
import { ErrorDetail, FleetStateName, MicrovmExit } from "./schemas.js";

/** Types of events, as `type=` filters them. */
export const EVENT_TYPES = [
  "created",
  "updated",
  "deleted",
  "restarting",
  "lost",
  "state",
  "booted",
  "command-exited",
  "panicked",
  "drive-changed",
  "device-failed",
  "device-needs-reset",
  "exited",
] as const;

/** One event of a type, with what only this type has. */
function event<const Name extends string, const Properties extends Type.TProperties>(
  type: Name,
  description: string,
  properties: Properties,
) {
  return Type.Object(
    {
      sequence: Type.Integer({
        minimum: 1,
        description: "Grows by one with every event of the fleet, across restarts of its server.",
      }),
      atMs: Type.Number({ description: "Unix milliseconds." }),
      microvm: Type.String({ description: "Its id." }),
      name: Type.String({ description: "Its name at that moment." }),
      type: Type.Literal(type),
      ...properties,
    },
    { description },
  );
}

/** One message of /v1/events after the first. */
export const FleetEvent = Type.Union(
  [
    event("created", "It was described.", {}),
    event("updated", "Its name, labels, restart policy or configuration changed.", {}),
    event("deleted", "Its record is gone.", {}),
    event("restarting", "It ended and will be started again.", {
      delayMs: Type.Number({ minimum: 0 }),
      restartCount: Type.Integer({ minimum: 0 }),
    }),
    event("lost", "It ran when its server died.", { reason: Type.String() }),
    event("state", "It went into another state.", { state: FleetStateName }),
    event("booted", "The guest's init runs (default guest).", {}),
    event("command-exited", "The guest's command ended.", { status: Type.Integer() }),
    event("panicked", "The guest's kernel panicked.", {}),
    event("drive-changed", "Another file, or another size, is behind a drive.", {
      drive: Type.String(),
      sizeBytes: Type.Number({ minimum: 0 }),
    }),
    event("device-failed", "A device's code failed and was reset.", {
      device: Type.String(),
      error: ErrorDetail,
    }),
    event("device-needs-reset", "The guest's driver broke a rule of its device.", {
      device: Type.String(),
      reason: Type.String(),
    }),
    event("exited", "It ended; nothing of it is left.", { exit: MicrovmExit }),
  ],
  { title: "FleetEvent" },
);

/** First message of /v1/events. */
export const EventsHello = Type.Object(
  {
    type: Type.Literal("hello"),
    oldest: Type.Integer({ description: "Sequence number of the oldest event that is kept." }),
    newest: Type.Integer({ description: "Of the newest; 0 when there was none." }),
  },
  { title: "EventsHello" },
);

/** From the server on …/console, as text, after each 64 KiB of input that the guest has read. */
export const ConsoleTaken = Type.Object(
  {
    type: Type.Literal("taken"),
    bytes: Type.Integer({
      minimum: 0,
      description: "Of this client's input that the guest has read, in all.",
    }),
  },
  { title: "ConsoleTaken" },
);

/** From the client on …/console, as text. */
export const ConsoleResize = Type.Object(
  {
    type: Type.Literal("resize"),
    columns: Type.Integer({ minimum: 1, maximum: 65_535 }),
    rows: Type.Integer({ minimum: 1, maximum: 65_535 }),
  },
  { additionalProperties: false, title: "ConsoleResize" },
);

/** Refuses to compile when the types of events differ from the fleet's. */
export type StreamSchemasAgree = [
  Holds<Same<(typeof EVENT_TYPES)[number], FleetEventMessage["type"]>>,
  Holds<Same<Static<typeof FleetEvent>["type"], FleetEventMessage["type"]>>,
];
