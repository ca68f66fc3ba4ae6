/**
 * What goes over the wire of door 2, as types: all of them made from the schemas that the server checks with.
 */
import type { Static } from "typebox";
import type * as changes from "../v1/device-change-schemas.js";
import type * as exits from "../v1/exit-schemas.js";
import type * as limits from "../v1/limit-schemas.js";
import type * as metrics from "../v1/metrics-schemas.js";
import type { DeepReadonly } from "../v1/schema-types.js";
import type * as schemas from "../v1/schemas.js";
import type * as streams from "../v1/stream-schemas.js";

/** A microVM of the fleet as it is now. Times are Unix milliseconds. */
export type Microvm = DeepReadonly<Static<typeof schemas.Microvm>>;
/** What a microVM is made from. */
export type MicrovmSpec = DeepReadonly<Static<typeof schemas.FleetSpec>>;
/** What can be changed of a microVM in any state; labels are replaced as a whole. */
export type MicrovmUpdate = DeepReadonly<Static<typeof schemas.MicrovmUpdate>>;
/** How a run ended. */
export type MicrovmExit = DeepReadonly<Static<typeof schemas.MicrovmExit>>;
/** Where a microVM is in its life. */
export type MicrovmState = Microvm["state"];
/** When a microVM that ended is started again. */
export type RestartPolicy = DeepReadonly<Static<typeof schemas.RestartPolicy>>;
/** A page of a list, oldest first. */
export type MicrovmPage = DeepReadonly<Static<typeof schemas.MicrovmPage>>;
/** Reply of one long poll. */
export type WaitResult = DeepReadonly<Static<typeof schemas.WaitResult>>;
/** The server, and how many microVMs are in each state. */
export type ServerInfo = DeepReadonly<Static<typeof schemas.Info>>;
/** Whether the server answers, or takes microVMs. */
export type Health = DeepReadonly<Static<typeof schemas.Health>>;
/** Counters of one microVM. */
export type MicrovmMetrics = DeepReadonly<Static<typeof metrics.MicrovmMetrics>>;
/** What happened to a microVM of the fleet. */
export type FleetEvent = DeepReadonly<Static<typeof streams.FleetEvent>>;
/** What {@link FleetEvent} may be. */
export type FleetEventType = FleetEvent["type"];
/** What can be changed of a running microVM's devices. */
export type DeviceChanges = DeepReadonly<Static<typeof changes.DeviceChanges>>;
/** First message of a stream of what limiters do. */
export type LimitsHello = DeepReadonly<Static<typeof limits.LimitsHello>>;
/** What happened to a rate limiter. */
export type RateLimitMessage = DeepReadonly<Static<typeof limits.LimitMessage>>;
/** First message of a stream of exits. */
export type ExitsHelloMessage = DeepReadonly<Static<typeof exits.ExitsHello>>;
/** One exit, as JSON. */
export type ExitMessage = DeepReadonly<Static<typeof exits.Exit>>;
/** Exits, as they were polled. */
export type ExitsBatchMessage = DeepReadonly<Static<typeof exits.ExitsBatch>>;
/** A window of counts. */
export type ExitsCountsMessage = DeepReadonly<Static<typeof exits.ExitsCounts>>;
