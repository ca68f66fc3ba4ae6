/**
 * What …/exits carries as text, and what can be asked of it: as JSON Schema, from which the checks, the
 * AsyncAPI document and the writers are made. docs/streams.md explains the fields.
 */
import Type, { type Static } from "typebox";
import { EXIT_KINDS } from "../../actors/exit-batch.js";
import { EXIT_FIELDS } from "../../actors/exit-counts.js";
import { HISTORY_MAX, SAMPLE_EVERY_MAX } from "../../actors/exit-filter.js";

// `nullable` and not a union: the writers of unions check every value against each of their parts.
const nullable = <T extends Type.TSchema>(schema: T) =>
  Type.Unsafe<Static<T> | null>({
    ...schema,
    type: [(schema as unknown as { type: string }).type, "null"],
  });
const Kind = Type.String({ description: `One of ${EXIT_KINDS.join(", ")}; others may follow.` });
const Hex = (description: string) => Type.String({ pattern: "^0x[0-9a-f]+$", description });
const Nanoseconds = (description: string) => Type.Number({ minimum: 0, description });
const Count = (description: string) => Type.Integer({ minimum: 0, description });

/** One exit. */
export const Exit = Type.Object(
  {
    kind: Kind,
    vcpu: nullable(Type.Integer({ description: "Null: nobody knows." })),
    sequence: Count("Position in its vCPU's trace ring, modulo 2^32."),
    device: nullable(Type.String({ description: "Null: no device answers there." })),
    address: Hex("Port or guest-physical address."),
    sizeBytes: Type.Integer({ description: "1, 2, 4, 8; 0: it is no access." }),
    direction: nullable(Type.String({ description: "read or write; null: it is no access." })),
    data: Hex("Written, or answered; of notify, the queue."),
    count: Count("Repetitions of a string instruction, or how many are told as one."),
    rip: Type.Optional(Hex("With rip=true.")),
    atNs: Nanoseconds("On the host's CLOCK_MONOTONIC; 0: from before anybody watched."),
    guestNs: Nanoseconds("Time in the guest before, at most 4294967295."),
    hostNs: Nanoseconds("Time until the guest went on, at most 4294967295."),
  },
  { title: "Exit" },
);

/** First message. */
export const ExitsHello = Type.Object(
  {
    type: Type.Literal("hello"),
    version: Type.Literal(1),
    microvm: Type.String({ description: "Its id." }),
    devices: Type.Array(Type.String(), {
      description: "Names that filters take; a binary frame has their indexes.",
    }),
    kinds: Type.Array(Type.String(), { description: "A binary frame has their indexes." }),
    zeroUnixMs: Type.Number({ description: "When atNs was 0, in Unix milliseconds." }),
  },
  { title: "ExitsHello" },
);

const counters = {
  lost: Count("Exits overwritten before the server read them, since this stream began."),
  dropped: Count("Not sent because this client was too slow, since this stream began."),
};

/** Exits, as they were polled. */
export const ExitsBatch = Type.Object(
  { type: Type.Literal("exits"), ...counters, exits: Type.Array(Exit) },
  { title: "ExitsBatch" },
);

/** One group of a window. */
export const ExitGroupSchema = Type.Object(
  {
    kind: Type.Optional(Kind),
    device: Type.Optional(nullable(Type.String())),
    address: Type.Optional(Hex("Port or guest-physical address.")),
    direction: Type.Optional(nullable(Type.String())),
    vcpu: Type.Optional(nullable(Type.Integer())),
    exits: Count("Those told as one count as many as they were."),
    timed: Count("Records with times of their own: of these are the times below."),
    hostNs: Nanoseconds("Sum of the time until the guest went on."),
    hostP50Ns: Nanoseconds("Median, at most 1/16 above the exact one."),
    hostP99Ns: Nanoseconds("99th percentile, likewise."),
    hostMaxNs: Nanoseconds("The greatest."),
    guestNs: Nanoseconds("Sum of the time in the guest before."),
  },
  { title: "ExitGroup" },
);

/** With `by`: a window. */
export const ExitsCounts = Type.Object(
  {
    type: Type.Literal("counts"),
    fromNs: Nanoseconds("Begin of the window."),
    toNs: Nanoseconds("Its end."),
    exits: Count("Of all groups and others."),
    groups: Type.Array(ExitGroupSchema, { description: "At most 1000, most exits first." }),
    otherExits: Count("Exits of further groups."),
    lost: counters.lost,
    dropped: Count("Windows that this client was too slow for, since this stream began."),
  },
  { title: "ExitsCounts" },
);

/** Comma lists that may be repeated. */
const list = (pattern: string, description: string) =>
  Type.Optional(
    Type.Array(Type.String({ pattern: `^${pattern}(,${pattern})*$`, maxLength: 1024 }), {
      maxItems: 64,
      description: `${description} Separated by commas; may be repeated.`,
    }),
  );
const ADDRESS = "(0x[0-9A-Fa-f]{1,14}|[0-9]{1,15})";

/** What a client may ask for. */
export const ExitsQuery = Type.Object({
  format: Type.Optional(
    Type.Enum(["json", "binary"], { type: "string", default: "json", description: "Of batches." }),
  ),
  kind: list("[a-z-]+", `Only these kinds: ${EXIT_KINDS.join(", ")}.`),
  device: list("[^,]+", "Only these devices, or none: what no device answers."),
  vcpu: list("[0-9]{1,2}", "Only these vCPUs."),
  direction: Type.Optional(
    Type.Enum(["read", "write"], { type: "string", description: "Only such accesses." }),
  ),
  address: Type.Optional(
    Type.String({
      pattern: `^${ADDRESS}(-${ADDRESS})?$`,
      description: "Only accesses to this address, or from the first to the last.",
    }),
  ),
  size: list("[1248]", "Only accesses of so many bytes."),
  sample: Type.Optional(
    Type.Integer({
      ...{ minimum: 1, maximum: SAMPLE_EVERY_MAX, default: 1 },
      description: "One in so many of those that pass the filters.",
    }),
  ),
  history: Type.Optional(
    Type.Integer({
      ...{ minimum: 0, maximum: HISTORY_MAX, default: 0 },
      description: "Begin so many exits of each vCPU ago.",
    }),
  ),
  rip: Type.Optional(Type.Boolean({ default: false, description: "With the guest's RIP." })),
  by: list("[a-z]+", `Counts instead of exits, by some of ${EXIT_FIELDS.join(", ")}.`),
  windowMs: Type.Optional(
    Type.Integer({
      ...{ minimum: 10, maximum: 3_600_000, default: 1000 },
      description: "Length of a window of counts.",
    }),
  ),
});
export type ExitsQuery = Static<typeof ExitsQuery>;
