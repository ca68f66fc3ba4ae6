/**
 * The operations of door 2, described: what OpenAPI, the client and the checks are made from. routes.ts joins
 * them to what does them.
 */
import Type from "typebox";
import type { ReplySpec, RouteSpec } from "../route.js";
import { DeviceChanges } from "./device-change-schemas.js";
import { MicrovmMetrics } from "./metrics-schemas.js";
import {
  FleetSpec,
  Health,
  Info,
  Microvm,
  MicrovmPage,
  MicrovmUpdate,
  Problem,
  StopRequest,
  WaitResult,
} from "./schemas.js";

/** `{id}` of every path: a microVM's id or its name. */
export const MicrovmParams = Type.Object({
  id: Type.String({
    pattern: "^[A-Za-z0-9_.-]{1,64}$",
    description: "The microVM's id, or its name.",
  }),
});

const PROBLEMS: Readonly<Record<number, string>> = {
  400: "The request is wrong: data tells the field.",
  401: "No token, or a wrong one.",
  403: "The Host or Origin header is not one this server answers to.",
  404: "There is no such microVM or device.",
  409: "Its state, or something that has the name already, does not allow it.",
  413: "The body is larger than this server takes.",
  415: "The body is not JSON.",
  503: "The host could not do it, or the server is opening or closing.",
};

/** Errors that any request may meet before its operation sees it. */
const COMMON = [400, 401, 403, 413, 503];

/** What every operation may answer, with its good reply and its own problems. */
export function repliesOf(
  good: Readonly<Record<number, ReplySpec>>,
  problems: readonly number[] = [],
): Record<number, ReplySpec> {
  const statuses = [...new Set([...COMMON, ...problems])].sort();
  return {
    ...good,
    ...Object.fromEntries(
      statuses.map((status) => [status, { description: PROBLEMS[status], schema: Problem }]),
    ),
  };
}

const microvmReply = (description: string): ReplySpec => ({ description, schema: Microvm });

/** A POST without a body that changes a microVM's state. */
function transition(verb: string, summary: string, description: string): RouteSpec {
  return {
    operationId: `${verb}Microvm`,
    method: "POST",
    path: `/v1/microvms/{id}/${verb}`,
    summary,
    description,
    tag: "microvms",
    params: MicrovmParams,
    replies: repliesOf({ 200: microvmReply("As it is now.") }, [404, 409]),
  };
}

const fleetSpecs = {
  createMicrovm: {
    operationId: "createMicrovm",
    method: "POST",
    path: "/v1/microvms",
    summary: "Create a microVM, and start it unless told not to.",
    tag: "microvms",
    headers: Type.Object({
      "idempotency-key": Type.Optional(
        Type.String({
          pattern: "^[ -~]{1,128}$",
          description: "A second request with the same key and body gets the first one's microVM.",
        }),
      ),
    }),
    body: FleetSpec,
    isBodyOptional: true,
    replies: repliesOf(
      {
        200: microvmReply("The key was used before: the microVM it made, as it is now."),
        201: microvmReply("Created; Location has its path."),
      },
      [409, 415],
    ),
  },
  listMicrovms: {
    operationId: "listMicrovms",
    method: "GET",
    path: "/v1/microvms",
    summary: "List microVMs, oldest first.",
    tag: "microvms",
    query: Type.Object({
      state: Type.Optional(
        Type.String({
          pattern: "^[a-z]+(,[a-z]+)*$",
          maxLength: 128,
          description: "States, separated by commas.",
        }),
      ),
      name: Type.Optional(Type.String({ maxLength: 64 })),
      label: Type.Optional(
        Type.Array(Type.String({ pattern: "^[A-Za-z0-9._/-]{1,63}=[^]{0,256}$" }), {
          maxItems: 64,
          description: "key=value that it must have; may be repeated.",
        }),
      ),
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
      after: Type.Optional(
        Type.String({ maxLength: 256, description: "`next` of the page before." }),
      ),
    }),
    replies: repliesOf({ 200: { description: "A page.", schema: MicrovmPage } }),
  },
  getMicrovm: {
    operationId: "getMicrovm",
    method: "GET",
    path: "/v1/microvms/{id}",
    summary: "One microVM.",
    tag: "microvms",
    params: MicrovmParams,
    replies: repliesOf({ 200: microvmReply("As it is now.") }, [404]),
  },
  updateMicrovm: {
    operationId: "updateMicrovm",
    method: "PATCH",
    path: "/v1/microvms/{id}",
    summary: "Change name, labels or restart policy; in any state.",
    description: "Labels are replaced as a whole.",
    tag: "microvms",
    params: MicrovmParams,
    body: MicrovmUpdate,
    replies: repliesOf({ 200: microvmReply("As it is now.") }, [404, 409, 415]),
  },
  changeDevices: {
    operationId: "changeDevices",
    method: "PATCH",
    path: "/v1/microvms/{id}/devices",
    summary: "Change limits, files, links, forwards and balloon; while it runs or is paused.",
    description:
      "One device after the other: drives, interfaces, pmem, balloon, entropy, serial. Each that is done holds for later starts as well; the first that is refused ends it.",
    tag: "microvms",
    params: MicrovmParams,
    body: DeviceChanges,
    replies: repliesOf({ 200: microvmReply("As it is now.") }, [404, 409, 415]),
  },
  deleteMicrovm: {
    operationId: "deleteMicrovm",
    method: "DELETE",
    path: "/v1/microvms/{id}",
    summary: "Delete the record of a microVM that does not run.",
    tag: "microvms",
    params: MicrovmParams,
    query: Type.Object({
      force: Type.Optional(Type.Boolean({ default: false, description: "Kill it first." })),
    }),
    replies: repliesOf({ 204: { description: "Deleted." } }, [404, 409]),
  },
} as const satisfies Record<string, RouteSpec>;

const lifeSpecs = {
  startMicrovm: transition("start", "Start it.", "From configured, stopped, failed and lost."),
  pauseMicrovm: transition("pause", "Stop its vCPUs and devices.", "While it runs."),
  resumeMicrovm: transition("resume", "Go on after pause.", "While it is paused."),
  killMicrovm: transition("kill", "End it at once.", "In any state; does nothing to an ended one."),
  stopMicrovm: {
    operationId: "stopMicrovm",
    method: "POST",
    path: "/v1/microvms/{id}/stop",
    summary: "Ask the guest to shut down; kill it when it does not.",
    description: "Answers when it has ended. Does nothing to an ended one.",
    tag: "microvms",
    params: MicrovmParams,
    body: StopRequest,
    isBodyOptional: true,
    replies: repliesOf({ 200: microvmReply("As it ended.") }, [404, 409, 415]),
  },
  sendCtrlAltDelete: {
    operationId: "sendCtrlAltDelete",
    method: "POST",
    path: "/v1/microvms/{id}/ctrl-alt-delete",
    summary: "Press Ctrl, Alt and Delete.",
    tag: "microvms",
    params: MicrovmParams,
    replies: repliesOf({ 204: { description: "Pressed." } }, [404, 409]),
  },
  waitMicrovm: {
    operationId: "waitMicrovm",
    method: "GET",
    path: "/v1/microvms/{id}/wait",
    summary: "Wait until it has ended and will not be restarted.",
    tag: "microvms",
    params: MicrovmParams,
    query: Type.Object({
      timeoutMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 600_000, default: 60_000 })),
    }),
    replies: repliesOf(
      { 200: { description: "It ended, or the time did.", schema: WaitResult } },
      [404],
    ),
  },
  getMicrovmLogs: {
    operationId: "getMicrovmLogs",
    method: "GET",
    path: "/v1/microvms/{id}/logs",
    summary: "What its serial console showed last, at most 64 KiB.",
    description: "Of the last run when it has ended.",
    tag: "microvms",
    params: MicrovmParams,
    query: Type.Object({
      tailBytes: Type.Optional(
        Type.Integer({ minimum: 0, maximum: 1_048_576, description: "Not more than so much." }),
      ),
    }),
    replies: repliesOf(
      {
        200: {
          description: "Bytes as the guest wrote them.",
          contentType: "application/octet-stream",
          schema: Type.String({ format: "binary" }),
        },
      },
      [404],
    ),
  },
  getMicrovmMetrics: {
    operationId: "getMicrovmMetrics",
    method: "GET",
    path: "/v1/microvms/{id}/metrics",
    summary: "Its counters.",
    tag: "microvms",
    params: MicrovmParams,
    replies: repliesOf({ 200: { description: "As they are now.", schema: MicrovmMetrics } }, [404]),
  },
} as const satisfies Record<string, RouteSpec>;

const serverSpecs = {
  getInfo: {
    operationId: "getInfo",
    method: "GET",
    path: "/v1/info",
    summary: "The server, and how many microVMs are in each state.",
    tag: "server",
    replies: repliesOf({ 200: { description: "As it is now.", schema: Info } }),
  },
  getMetrics: {
    operationId: "getMetrics",
    method: "GET",
    path: "/metrics",
    summary: "Counters of the server and all microVMs for Prometheus.",
    tag: "server",
    replies: repliesOf({
      200: {
        description: "Text format 0.0.4.",
        contentType: "text/plain; version=0.0.4; charset=utf-8",
        schema: Type.String(),
      },
    }),
  },
  getHealth: {
    operationId: "getHealth",
    method: "GET",
    path: "/healthz",
    summary: "The process answers.",
    tag: "server",
    replies: repliesOf({ 200: { description: "It does.", schema: Health } }),
  },
  getReadiness: {
    operationId: "getReadiness",
    method: "GET",
    path: "/readyz",
    summary: "The server takes microVMs: neither opening nor closing.",
    tag: "server",
    replies: {
      ...repliesOf({ 200: { description: "It does.", schema: Health } }),
      503: { description: "Not now.", schema: Health },
    },
  },
} as const satisfies Record<string, RouteSpec>;

/** Every operation of door 2 but the step-by-step configuration, by its operationId. */
export const ROUTE_SPECS = { ...fleetSpecs, ...lifeSpecs, ...serverSpecs };

/** Name of an operation. */
export type OperationId = keyof typeof ROUTE_SPECS;
