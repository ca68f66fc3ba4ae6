/**
 * Door 2's operations with what does them: every route of route-specs.ts joined to a call of the fleet.
 */

import type { Static, TSchema } from "typebox";
import type { DefaultGuest } from "../../actors/default-guest.js";
import type { DeviceChanges } from "../../actors/device-changes.js";
import type {
  FleetChange,
  FleetQuery,
  FleetRecord,
  FleetSpec,
  FleetState,
} from "../../actors/fleet-messages.js";
import { EstaloError, isEstaloError } from "../../errors.js";
import type { ApiReply } from "../http.js";
import type { Route, RouteCall, RouteSpec } from "../route.js";
import { jsonReply } from "../serialise.js";
import type { DoorFleet } from "./fleet.js";
import { MicrovmMetrics } from "./metrics-schemas.js";
import { type MicrovmJson, metricsJson, microvmJson } from "./microvm-json.js";
import { prometheusText, type ServerMetrics } from "./prometheus.js";
import { type OperationId, ROUTE_SPECS } from "./route-specs.js";
import { Health, Info, Microvm, MicrovmPage, WaitResult } from "./schemas.js";

/** What the operations work on. */
export interface DoorContext {
  readonly fleet: DoorFleet;
  readonly version: string;
  readonly startedAtMs: number;
  /** "opening" and "closing": probes are told to send nobody. */
  readonly status: () => "ok" | "opening" | "closing";
  readonly hasKvm: () => boolean;
  /** The guest that comes with Estalo, if it is installed. */
  readonly guest: () => Pick<DefaultGuest, "version" | "bootArgs"> | undefined;
  readonly serverMetrics: () => ServerMetrics;
}

type Handler = (call: RouteCall) => ApiReply | Promise<ApiReply>;

/** Every operation of door 2 but the step-by-step configuration. */
export function fleetRoutes(context: DoorContext): Route[] {
  const handlers: Record<OperationId, Handler> = {
    ...collectionHandlers(context),
    ...lifeHandlers(context),
    ...serverHandlers(context),
  };
  return Object.entries<RouteSpec>(ROUTE_SPECS).map(([operation, spec]) => ({
    ...spec,
    handle: handlers[operation as OperationId],
  }));
}

function collectionHandlers({ fleet }: DoorContext) {
  return {
    createMicrovm: async ({ request, body }: RouteCall) => {
      const idempotencyKey = request.header("idempotency-key");
      const { record, isNew } = await fleet.create(
        body as FleetSpec,
        idempotencyKey === undefined ? {} : { idempotencyKey },
      );
      const location = `/v1/microvms/${record.id}`;
      if (!isNew) return microvmReply(record);
      return json(Microvm, microvmJson(record), 201, { Location: location });
    },
    listMicrovms: ({ query }: RouteCall) => {
      const { items, next } = fleet.list(fleetQuery(query));
      return json(MicrovmPage, { items: items.map(microvmJson), next: next ?? null });
    },
    getMicrovm: ({ params }: RouteCall) => microvmReply(fleet.get(params.id)),
    updateMicrovm: ({ params, body }: RouteCall) =>
      microvmReply(fleet.update(params.id, body as FleetChange)),
    changeDevices: async ({ params, body }: RouteCall) =>
      microvmReply(await fleet.changeDevices(params.id, body as DeviceChanges)),
    deleteMicrovm: async ({ params, query }: RouteCall) => {
      await fleet.remove(params.id, { force: query.force === true });
      return NO_CONTENT;
    },
  };
}

function lifeHandlers({ fleet }: DoorContext) {
  const transition = (verb: "start" | "pause" | "resume" | "kill") => {
    return async ({ params }: RouteCall) => microvmReply(await fleet[verb](params.id));
  };
  return {
    startMicrovm: transition("start"),
    pauseMicrovm: transition("pause"),
    resumeMicrovm: transition("resume"),
    killMicrovm: transition("kill"),
    // Not ended early when the client goes: what it asked for is a stop.
    stopMicrovm: async ({ params, body }: RouteCall) =>
      microvmReply(await fleet.stop(params.id, body as { timeoutMs?: number })),
    sendCtrlAltDelete: async ({ params }: RouteCall) => {
      if (!(await fleet.sendCtrlAltDelete(params.id))) {
        throw new EstaloError("ERR_ESTALO_STATE", "the guest has not read the last keys yet", {
          data: { id: params.id },
        });
      }
      return NO_CONTENT;
    },
    waitMicrovm: async ({ params, query, request }: RouteCall) => {
      const ended = await hasEnded(fleet, params.id, query.timeoutMs as number, request.signal);
      const microvm = ended ?? microvmJson(fleet.get(params.id));
      return json(WaitResult, { ended: ended !== undefined, microvm });
    },
    getMicrovmLogs: ({ params, query }: RouteCall) => {
      const log = fleet.consoleLog(params.id);
      const tail = Math.min((query.tailBytes as number | undefined) ?? log.length, log.length);
      return {
        status: 200,
        headers: { "Content-Type": "application/octet-stream" },
        body: log.subarray(log.length - tail),
      };
    },
    getMicrovmMetrics: async ({ params }: RouteCall) => {
      const { id } = fleet.get(params.id);
      await fleet.supervisor(id)?.refreshMetrics?.();
      // It may have ended meanwhile, but not gone: its counters stay.
      const record = fleet.get(id);
      const threads = fleet.supervisor(id)?.vcpuThreads;
      return json(MicrovmMetrics, metricsJson(record, fleet.metrics(id), threads));
    },
  };
}

function serverHandlers(context: DoorContext) {
  const { fleet, version, startedAtMs } = context;
  return {
    getInfo: () =>
      json(Info, {
        version,
        apiVersion: "v1",
        node: process.version,
        kvm: context.hasKvm(),
        uptimeMs: Date.now() - startedAtMs,
        microvms: fleet.counts(),
        guest: context.guest(),
      }),
    getMetrics: async () => ({
      status: 200,
      headers: { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" },
      body: await prometheusText(fleet, context.serverMetrics()),
    }),
    getHealth: () => json(Health, { status: "ok" }),
    getReadiness: () => {
      const status = context.status();
      return json(Health, { status }, status === "ok" ? 200 : 503);
    },
  };
}

const NO_CONTENT: ApiReply = { status: 204 };

/** `value` is of the schema, but read-only. */
function json(
  schema: TSchema,
  value: unknown,
  status = 200,
  headers?: Readonly<Record<string, string>>,
): ApiReply {
  return jsonReply(status, schema, value, headers);
}

const microvmReply = (record: FleetRecord) => json(Microvm, microvmJson(record));

/** The record of a microVM that ended within the time; `undefined` when it did not. */
async function hasEnded(
  fleet: DoorFleet,
  idOrName: string,
  timeoutMs: number,
  gone: AbortSignal,
): Promise<MicrovmJson | undefined> {
  const ended = new AbortController();
  const end = () => ended.abort();
  const timer = setTimeout(end, timeoutMs);
  gone.addEventListener("abort", end, { once: true });
  if (gone.aborted) end();
  try {
    return microvmJson(await fleet.wait(idOrName, { signal: ended.signal }));
  } catch (error) {
    if (isEstaloError(error) && error.code === "ERR_ESTALO_ABORTED") return undefined;
    throw error;
  } finally {
    clearTimeout(timer);
    gone.removeEventListener("abort", end);
  }
}

function fleetQuery(query: RouteCall["query"]): FleetQuery {
  const { state, name, label, limit, after } = query as {
    readonly [Key in keyof Static<typeof ROUTE_SPECS.listMicrovms.query>]: Static<
      typeof ROUTE_SPECS.listMicrovms.query
    >[Key];
  };
  const states = state?.split(",") as readonly FleetState[] | undefined;
  const labels = label?.map((pair) => {
    const at = pair.indexOf("=");
    return [pair.slice(0, at), pair.slice(at + 1)] as const;
  });
  return {
    ...(states === undefined ? {} : { states }),
    ...(name === undefined ? {} : { name }),
    ...(labels === undefined ? {} : { labels: Object.fromEntries(labels) }),
    ...(limit === undefined ? {} : { limit }),
    ...(after === undefined ? {} : { after }),
  };
}
