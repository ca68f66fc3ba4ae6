/**
 * Door 2's WebSockets, described: what AsyncAPI and the checks of their queries are made from. sockets.ts joins
 * them to what opens them.
 */
import Type from "typebox";
import type { SocketSpec } from "../asyncapi.js";
import {
  CLOSE_GAP,
  CLOSE_GOING_AWAY,
  CLOSE_NORMAL,
  CLOSE_NOT_FOUND,
  CLOSE_POLICY,
  CLOSE_TOO_SLOW,
  CLOSE_WRONG_STATE,
} from "./close-codes.js";
import { ExitsBatch, ExitsCounts, ExitsHello, ExitsQuery } from "./exit-schemas.js";
import { LimitMessage, LimitsHello } from "./limit-schemas.js";
import { MicrovmParams } from "./route-specs.js";
import { ConsoleResize, ConsoleTaken, EventsHello, FleetEvent } from "./stream-schemas.js";

/** What any socket may be closed with. */
const COMMON_CODES = { [CLOSE_GOING_AWAY]: "the server ends" };

/** What a stream of what a running microVM does may be closed with. */
const lossyCodes = (what: string) => ({
  [CLOSE_NORMAL]: "the microVM has ended, everything was sent",
  ...COMMON_CODES,
  [CLOSE_POLICY]: "the client sent a message",
  [CLOSE_TOO_SLOW]: "more waits for the client than the server keeps",
  [CLOSE_NOT_FOUND]: "there is no such microVM",
  [CLOSE_WRONG_STATE]: `it does not run, so that it has no ${what}`,
});

export const CONSOLE_SOCKET = {
  name: "console",
  path: "/v1/microvms/{id}/console",
  summary: "The serial console of a microVM, bytes both ways.",
  description:
    "Any number of readers and writers. A client that sends much keeps less than 256 KiB under way: `taken` tells what the guest has read.",
  params: MicrovmParams,
  query: Type.Object({
    history: Type.Optional(
      Type.Boolean({ default: true, description: "Begin with the last output, at most 64 KiB." }),
    ),
    write: Type.Optional(
      Type.Boolean({ default: true, description: "Take input from this client." }),
    ),
  }),
  serverSends: [
    { name: "output", summary: "Bytes as the guest wrote them." },
    {
      name: "taken",
      summary: "After each 64 KiB of this client's input that the guest has read.",
      schema: ConsoleTaken,
    },
  ],
  clientSends: [
    { name: "input", summary: "Bytes for the guest to read." },
    {
      name: "resize",
      summary: "The client's terminal has another size. For a command of the default guest.",
      schema: ConsoleResize,
    },
  ],
  closeCodes: {
    [CLOSE_NORMAL]: "the microVM has ended, everything was sent",
    ...COMMON_CODES,
    [CLOSE_POLICY]: "the client sent what this socket does not take",
    [CLOSE_TOO_SLOW]: "the client does not read, or the guest does not and too much waits for it",
    [CLOSE_NOT_FOUND]: "there is no such microVM",
    [CLOSE_WRONG_STATE]: "its state does not allow it: it has no console",
  },
} as const satisfies SocketSpec;

export const AGENT_SOCKET = {
  name: "agent",
  path: "/v1/microvms/{id}/agent",
  summary: "A connection with the agent in a microVM's guest, bytes both ways.",
  description:
    "One for each request, in the frames of docs/agent.md; the client of this package speaks them. A client that sends much keeps less than 256 KiB under way: `taken` tells what has gone to the guest. Ending it ends what the guest does for it.",
  params: MicrovmParams,
  query: Type.Object({}),
  serverSends: [
    { name: "reply", summary: "Bytes of the agent." },
    {
      name: "taken",
      summary: "After each 64 KiB of this client's that have gone to the guest.",
      schema: ConsoleTaken,
    },
  ],
  clientSends: [{ name: "request", summary: "Bytes for the agent." }],
  closeCodes: {
    [CLOSE_NORMAL]: "the agent has ended the connection",
    ...COMMON_CODES,
    [CLOSE_POLICY]: "the client sent a text message",
    [CLOSE_TOO_SLOW]: "the guest does not read, and too much waits for it",
    [CLOSE_NOT_FOUND]: "there is no such microVM",
    [CLOSE_WRONG_STATE]:
      "no agent: the microVM does not run, has no vsock device, or its guest no agent",
  },
} as const satisfies SocketSpec;

export const EVENTS_SOCKET = {
  name: "events",
  path: "/v1/events",
  summary: "What happens to all microVMs, as it happens.",
  description:
    "The first message is `hello`. With `since` the events after that number come first, each once and none left out.",
  query: Type.Object({
    since: Type.Optional(
      Type.Integer({
        minimum: 0,
        description: "The last sequence number seen. Default: from now.",
      }),
    ),
    microvm: Type.Optional(
      Type.Array(Type.String({ pattern: "^[A-Za-z0-9_.-]{1,64}$" }), {
        maxItems: 1000,
        description: "Only these, by id or by the name they have now; may be repeated.",
      }),
    ),
    type: Type.Optional(
      Type.Array(Type.String({ pattern: "^[a-z-]+(,[a-z-]+)*$", maxLength: 256 }), {
        maxItems: 64,
        description: "Only these types, separated by commas; may be repeated.",
      }),
    ),
  }),
  serverSends: [
    { name: "hello", summary: "What is kept. Comes first.", schema: EventsHello },
    { name: "event", summary: "One event.", schema: FleetEvent },
  ],
  clientSends: [],
  closeCodes: {
    ...COMMON_CODES,
    [CLOSE_POLICY]: "the client sent a message",
    [CLOSE_TOO_SLOW]: "the client is so slow that its next event is not kept any more",
    [CLOSE_GAP]: "events after `since` are not kept any more, or `since` never was",
  },
} as const satisfies SocketSpec;

export const EXITS_SOCKET = {
  name: "exits",
  path: "/v1/microvms/{id}/exits",
  summary: "The exits of a microVM's vCPUs while they happen.",
  description:
    "The first message is `hello`, then come batches of exits or, with `by`, a message of counts for each window. Lossy: counters tell what is missing. docs/streams.md has the fields and the bytes of a frame.",
  params: MicrovmParams,
  query: ExitsQuery,
  serverSends: [
    { name: "exitsHello", summary: "Names and clock. Comes first.", schema: ExitsHello },
    { name: "exits", summary: "Exits in the order of their times.", schema: ExitsBatch },
    { name: "exitCounts", summary: "With `by`: one window.", schema: ExitsCounts },
    { name: "exitFrame", summary: "With format=binary: a batch, instead of `exits`." },
  ],
  clientSends: [],
  closeCodes: lossyCodes("exits"),
} as const satisfies SocketSpec;

export const LIMITS_SOCKET = {
  name: "limits",
  path: "/v1/microvms/{id}/limits",
  summary: "What the rate limiters of a microVM's devices do, as it happens.",
  description:
    "The first message is `hello`, then comes a message for each change of limits, each wait, its end, and each limiter that is full again after one. Lossy: `dropped` tells what is missing.",
  params: MicrovmParams,
  query: Type.Object({}),
  serverSends: [
    { name: "limitsHello", summary: "Comes first.", schema: LimitsHello },
    { name: "limit", summary: "What happened to one limiter.", schema: LimitMessage },
  ],
  clientSends: [],
  closeCodes: lossyCodes("limits"),
} as const satisfies SocketSpec;
