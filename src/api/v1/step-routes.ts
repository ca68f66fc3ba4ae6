/**
 * Step-by-step configuration: door 1's operations on a microVM of the fleet, below /v1/microvms/{id}.
 *
 * Bodies, moments and effects are door 1's; errors are door 2's. What belongs to a process rather than to a
 * microVM (version, log, metrics), and what this build does not have, is not there.
 */
import Type, { type TProperties } from "typebox";
import { EstaloError } from "../../errors.js";
import { FirecrackerDoor } from "../firecracker/door.js";
import { NOT_AFTER_BOOT, NOT_BEFORE_BOOT } from "../firecracker/faults.js";
import type { Operation } from "../firecracker/operation.js";
import { FIRECRACKER_OPERATIONS } from "../firecracker/operations.js";
import type { ApiReply } from "../http.js";
import type { Route, RouteCall } from "../route.js";
import type { DoorFleet } from "./fleet.js";
import { FleetTarget } from "./fleet-target.js";
import { MicrovmParams, repliesOf } from "./route-specs.js";

/** Tags of door 1 whose operations are about a machine. */
const TAGS = ["Boot", "Machine", "Devices", "Memory"];
/** Of its other operations, those that are. */
const INSTANCE_PATHS = ["/actions", "/vm", "/vm/config"];

/** An id as Firecracker's paths have it. */
const DeviceId = Type.String({
  pattern: "^[\\p{L}\\p{N}_]{1,64}$",
  description: "The device's id, as in the body.",
});

/** Every operation of door 1 that a server's microVM has. */
export function stepRoutes(fleet: DoorFleet): Route[] {
  return FIRECRACKER_OPERATIONS.filter(
    ({ tag, path }) => TAGS.includes(tag) || INSTANCE_PATHS.includes(path),
  ).map((operation) => stepRoute(fleet, operation));
}

function stepRoute(fleet: DoorFleet, operation: Operation): Route {
  const { method, summary, body } = operation;
  const path = below(operation);
  const ids = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  const params: TProperties = Object.fromEntries(ids.map((name) => [name, DeviceId]));
  const good = Object.entries(operation.replies).filter(([status]) => Number(status) < 400);
  return {
    operationId: operation.operationId,
    method,
    path: `/v1/microvms/{id}${path}`,
    summary,
    tag: "step by step",
    params: Type.Object({ ...MicrovmParams.properties, ...params }),
    ...(body === undefined ? {} : { body }),
    ...(operation.isBodyOptional === true ? { isBodyOptional: true } : {}),
    replies: repliesOf(Object.fromEntries(good), [404, 409, 415]),
    handle: (call) => carryOut(fleet, operation, call),
  };
}

/** Door 1's path; `{id}` is the microVM's here. */
function below({ path }: Operation): string {
  return path.replace("{id}", "{device_id}");
}

async function carryOut(
  fleet: DoorFleet,
  operation: Operation,
  { request, params }: RouteCall,
): Promise<ApiReply> {
  const { method } = operation;
  const target = new FleetTarget(fleet, params.id);
  const reply = await new FirecrackerDoor(target).handle({
    method,
    path: below(operation).replaceAll(/\{(\w+)\}/g, (_, name: string) => params[name]),
    query: "",
    body: request.body,
    header: (name) => request.header(name),
    signal: request.signal,
  });
  if (reply.status < 400) return reply;
  throw target.refusal ?? problemOf(reply);
}

/** What door 1 refused by itself: a moment, or a value. */
function problemOf({ status, body }: ApiReply): EstaloError {
  const { fault_message: message } = JSON.parse(String(body)) as { fault_message: string };
  if (status === 413) return new EstaloError("ERR_ESTALO_TOO_LARGE", message);
  if (status >= 500) return new EstaloError("ERR_ESTALO_BUG", message);
  const isMoment = message === NOT_AFTER_BOOT || message === NOT_BEFORE_BOOT;
  return new EstaloError(isMoment ? "ERR_ESTALO_STATE" : "ERR_ESTALO_CONFIG_INVALID", message);
}
