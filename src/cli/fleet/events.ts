/**
 * `estalo events`: what happens to the server's microVMs, a line each.
 */
import type { FleetEvent, FleetEventType } from "../../api/client/types.js";
import { nearest, usageError } from "../arguments.js";
import {
  type FleetCall,
  filtersOf,
  outputRoom,
  takesNothing,
  wholeNumber,
  withMicrovm,
  writeJson,
} from "./call.js";
import { printable } from "./table.js";

/** The server's names; a wrong one would be waited for in vain. */
const TYPES: Readonly<Record<FleetEventType, true>> = {
  created: true,
  updated: true,
  deleted: true,
  restarting: true,
  lost: true,
  state: true,
  booted: true,
  "command-exited": true,
  panicked: true,
  "drive-changed": true,
  "device-failed": true,
  "device-needs-reset": true,
  exited: true,
};

/** The verb; it ends with `--no-follow`, or when the server is gone. */
export async function events(call: FleetCall): Promise<number> {
  takesNothing(call);
  const { client, parsed, isJson } = call;
  const filters = filtersOf(call, ["type", "microvm"]);
  const types = filters.get("type")?.map(eventType);
  const given = filters.get("microvm");
  const microvms = given && (await Promise.all(given.map((name) => idOf(call, name))));
  const since = sinceOf(call);
  const isOnce = parsed.switches.has("no-follow");
  const stream = client.events({
    ...(since === undefined ? {} : { since }),
    ...(types === undefined ? {} : { types }),
    ...(microvms === undefined ? {} : { microvms }),
    untilNewest: isOnce,
  });
  for await (const event of stream) {
    if (isJson) writeJson(event);
    else process.stdout.write(eventLine(event));
    await outputRoom();
  }
  return 0;
}

function idOf({ client }: FleetCall, given: string): Promise<string> {
  return withMicrovm(client, given, async (found) => (await client.microvms.get(found)).id);
}

function sinceOf({ parsed }: FleetCall): number | undefined {
  const text = parsed.values.get("since")?.[0];
  if (text !== undefined) return wholeNumber("--since", text, Number.MAX_SAFE_INTEGER);
  if (!parsed.switches.has("no-follow")) return undefined;
  throw usageError("--no-follow needs --since", "estalo events --since 0 --no-follow");
}

function eventType(name: string): FleetEventType {
  const names = Object.keys(TYPES);
  if (Object.hasOwn(TYPES, name)) return name as FleetEventType;
  const near = nearest(name, names);
  const hint = near === undefined ? `types are ${names.join(", ")}` : `did you mean ${near}?`;
  throw usageError(`there is no event of type ${name}`, hint);
}

/** When, what, to which microVM, and what else there is to say. */
export function eventLine(event: FleetEvent): string {
  const { sequence, atMs, microvm, name, type, ...rest } = event;
  const at = Number.isFinite(atMs) ? new Date(atMs).toISOString() : String(atMs);
  const more = Object.entries(rest).map(([key, value]) => ` ${key}=${detail(value)}`);
  return `${printable(`${at} ${sequence} ${name} (${microvm}) ${type}${more.join("")}`)}\n`;
}

function detail(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  // An exit by its reason and code, an error by its code and text.
  const { reason, exitCode, code, message } = value as Record<string, unknown>;
  if (reason !== undefined) return `${reason}(${exitCode})`;
  return code === undefined ? JSON.stringify(value) : `${code}: ${message}`;
}
