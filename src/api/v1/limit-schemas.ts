/**
 * What …/limits carries, as JSON Schema: from it the AsyncAPI document, the writer and the check of what a jailed
 * microVM's process says are made.
 */
import Type, { type Static } from "typebox";
import type { DeviceRateLimitEvent } from "../../actors/rate-limits.js";
import { RateLimiter } from "./config-schemas.js";
import type { DeepReadonly, Holds } from "./schema-types.js";

const device = Type.String({
  maxLength: 128,
  description:
    "drive ID, interface ID rx (to the guest), interface ID tx, pmem ID, entropy, serial.",
});
const dropped = Type.Integer({
  minimum: 0,
  description: "Messages left out because the client was too slow, since this stream began.",
});

/** What happened to a limiter, with what only that has. */
function kind<const Name extends string, const Properties extends Type.TProperties>(
  type: Name,
  description: string,
  properties: Properties,
) {
  const more = { additionalProperties: false, description };
  return Type.Object({ type: Type.Literal(type), device, ...properties }, more);
}

/** A union of all that can happen, each with what is common to them. */
function eventOf<const Common extends Type.TProperties>(common: Common, title: string) {
  return Type.Union(
    [
      kind("configured", "It has these limits from now on.", { config: RateLimiter, ...common }),
      kind("throttled", "It refused something, and the device waits (serial: drops it).", {
        waitMs: Type.Number({ minimum: 0, description: "Something like it may pass after this." }),
        ...common,
      }),
      kind("released", "The wait is over: the device goes on.", common),
      kind("refilled", "It has all its tokens again, after it had to refuse.", common),
    ],
    { title },
  );
}

/** As a cell says it. */
export const RateLimitEvent = eventOf({ dropped: Type.Optional(dropped) }, "RateLimitEvent");

/** First message. */
export const LimitsHello = Type.Object(
  {
    type: Type.Literal("hello"),
    version: Type.Literal(1),
    microvm: Type.String({ description: "Its id." }),
  },
  { title: "LimitsHello" },
);

/** Every other one. */
export const LimitMessage = eventOf(
  { atMs: Type.Number({ description: "Unix milliseconds." }), dropped },
  "LimitMessage",
);

/** Refuses to compile when the types of events differ from the limiters'. */
export type LimitSchemasAgree = [
  Holds<DeepReadonly<Static<typeof RateLimitEvent>> extends DeviceRateLimitEvent ? true : false>,
  Holds<DeviceRateLimitEvent extends DeepReadonly<Static<typeof RateLimitEvent>> ? true : false>,
];
