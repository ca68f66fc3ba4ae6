/**
 * The checks of what a cell says. Whoever broke out of a guest speaks here: what does not pass is a breach, and what
 * passes is bounded, of the types it claims, and has nothing more than is asked for.
 */
import Type, { type Static, type TSchema } from "typebox";
import { Compile } from "typebox/compile";
import type { MemoryHotplugReport } from "../actors/memory-hotplug.js";
import type { DeviceRateLimitEvent } from "../actors/rate-limits.js";
import { type RunningMetrics, runningMetricsOf } from "../actors/running-microvm.js";
import { RateLimitEvent } from "../api/v1/limit-schemas.js";
import * as metrics from "../api/v1/metrics-schemas.js";
import type { ErrorCode, ErrorRecord } from "../errors.js";
import { ERROR_DATA_MAX, ERROR_TEXT_MAX } from "./cell-messages.js";
import { frameError } from "./frames.js";

/** Names of a microVM's devices are of ours; more are no microVM's. */
const DEVICES_MAX = 64;
const VCPUS_MAX = 32;
/** No device has more. */
const COUNTERS_MAX = 64;

const Text = Type.String({ maxLength: ERROR_TEXT_MAX });
const Name = Type.String({ maxLength: 128 });
const closed = <const Properties extends Type.TProperties>(properties: Properties) =>
  Type.Object(properties, { additionalProperties: false });

/** An error, without what is behind it: that is the cell's own. */
const Failure = closed({
  code: Type.String({ pattern: "^ERR_ESTALO_[A-Z_]{1,64}$" }),
  message: Text,
  hint: Type.Optional(Text),
  data: Type.Optional(Type.Record(Name, Type.Unknown())),
  cause: Type.Optional(Type.Unknown()),
});

const States = ["created", "starting", "running", "paused", "stopping", "stopped", "failed"];
const Reasons = ["poweroff", "reboot", "panic", "triple-fault", "killed", "failed"];
const oneOf = (words: readonly string[]) => Type.Union(words.map((word) => Type.Literal(word)));
const Status = Type.Integer({ minimum: 0, maximum: 255 });

/** What happens to a microVM; its end comes as an exit. */
const Event = Type.Union([
  closed({ type: Type.Literal("state"), state: oneOf(States) }),
  closed({ type: Type.Literal("booted") }),
  closed({ type: Type.Literal("command-exited"), status: Status }),
  closed({ type: Type.Literal("panicked") }),
  closed({
    type: Type.Literal("drive-changed"),
    drive: Name,
    sizeBytes: Type.Number({ minimum: 0 }),
  }),
  closed({ type: Type.Literal("device-failed"), device: Name, error: Failure }),
  closed({ type: Type.Literal("device-needs-reset"), device: Name, reason: Text }),
]);

const Exit = closed({
  reason: oneOf(Reasons),
  guestStatus: Type.Optional(Status),
  error: Type.Optional(Failure),
  exitCode: Status,
});

/** Those of a device: what the doors name, and others in bounds. */
const Counters = (schema: TSchema) =>
  Type.Intersect([schema, Type.Object({}, { maxProperties: COUNTERS_MAX })]);

/** By the ids of devices. */
const CountersById = (schema: TSchema) =>
  Type.Record(Name, Counters(schema), { maxProperties: DEVICES_MAX });

const Metrics = Type.Object({
  vcpus: Type.Array(metrics.VcpuMetrics, { maxItems: VCPUS_MAX }),
  drives: CountersById(metrics.DriveMetrics),
  networkInterfaces: CountersById(metrics.NetworkMetrics),
  pmem: CountersById(metrics.PmemMetrics),
  entropy: Type.Optional(Counters(metrics.EntropyMetrics)),
  vsock: Type.Optional(Counters(metrics.VsockMetrics)),
  balloon: Type.Optional(Counters(metrics.BalloonMetrics)),
  memoryHotplug: Type.Optional(Counters(metrics.MemoryHotplugMetrics)),
  mmds: Type.Optional(Counters(metrics.MmdsMetrics)),
  serial: closed({
    transmittedBytes: Type.Number({ minimum: 0 }),
    receivedBytes: Type.Number({ minimum: 0 }),
    droppedBytes: Type.Number({ minimum: 0 }),
  }),
});

const Message = Type.Union([
  closed({ hello: Type.Literal(1) }),
  closed({
    reply: Type.Integer({ minimum: 1 }),
    value: Type.Optional(Type.Unknown()),
    error: Type.Optional(Failure),
  }),
  closed({ vm: Type.Integer({ minimum: 1 }), event: Event }),
  closed({ vm: Type.Integer({ minimum: 1 }), exit: Exit, metrics: Metrics }),
]);

const BalloonReport = closed({
  targetMib: Type.Number(),
  targetPages: Type.Number(),
  actualMib: Type.Number(),
  actualPages: Type.Number(),
  statistics: Type.Record(Name, Type.Number(), { maxProperties: 64 }),
});

const Hinting = closed({
  hostCommand: Type.Integer({ minimum: 0 }),
  guestCommand: Type.Optional(Type.Integer({ minimum: 0 })),
});

/** An error that a cell tells of, in bounds. */
export function knownError({ code, message, hint, data }: Static<typeof Failure>): ErrorRecord {
  const isShort = data !== undefined && JSON.stringify(data).length <= ERROR_DATA_MAX;
  return {
    code: code as ErrorCode,
    message,
    ...(hint === undefined ? {} : { hint }),
    ...(isShort ? { data } : {}),
  };
}

/** A check: the value, or a breach. */
export type Check<T> = (value: unknown) => T;

function checkOf<Schema extends TSchema>(schema: Schema, what: string): Check<Static<Schema>> {
  const compiled = Compile(schema);
  return (value) => {
    if (!compiled.Check(value)) throw frameError(`${what} that is none`);
    return value as Static<Schema>;
  };
}

export const checkMessage = checkOf(Message, "a message");
export const checkNothing = checkOf(Type.Undefined(), "an answer");
export const checkBoolean = checkOf(Type.Boolean(), "an answer");
/** What a new microVM's exits can be of and have. */
export const checkMade = checkOf(
  closed({ devices: Type.Array(Name, { maxItems: 255 }), hasRip: Type.Boolean() }),
  "a microVM",
);
export const checkBalloonReport = checkOf(BalloonReport, "a balloon");
export const checkAmounts = checkOf(
  Type.Object({
    actualMib: Type.Number({ minimum: 0 }),
    availableMib: Type.Optional(Type.Number({ minimum: 0 })),
  }),
  "a balloon",
);
const MemoryMib = Type.Integer({ minimum: 0 });
export const checkPluggedMemory: Check<MemoryHotplugReport> = checkOf(
  closed({
    totalSizeMib: MemoryMib,
    blockSizeMib: MemoryMib,
    slotSizeMib: MemoryMib,
    pluggedSizeMib: MemoryMib,
    requestedSizeMib: MemoryMib,
  }),
  "plugged memory",
);
export const checkRateLimitEvent: Check<DeviceRateLimitEvent> = checkOf(
  RateLimitEvent,
  "a limiter's event",
);
export const checkHinting = checkOf(Hinting, "a balloon's hinting");

const checkTold = checkOf(
  closed({
    metrics: Metrics,
    threads: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: VCPUS_MAX }),
  }),
  "a list of counters",
);

/** Counters, and the vCPUs' threads by their numbers in the cell. */
export const checkMetrics: Check<{ metrics: RunningMetrics; threads: readonly number[] }> = (
  value,
) => {
  const { metrics: told, threads } = checkTold(value);
  return { metrics: knownMetrics(told), threads };
};

/** Those that the doors tell of. */
export function knownMetrics(checked: Static<typeof Metrics>): RunningMetrics {
  return runningMetricsOf(checked as unknown as RunningMetrics);
}
