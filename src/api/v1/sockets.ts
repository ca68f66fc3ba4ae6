/**
 * Door 2's WebSockets by path, with their queries checked before the upgrade: what is wrong with a query is a
 * reply; what is wrong with a microVM is a close code, which browsers can see.
 */
import type { Static, TObject } from "typebox";
import { EstaloError } from "../../errors.js";
import type { SocketSpec } from "../asyncapi.js";
import { checkText } from "../check.js";
import { errorReply } from "../errors-http.js";
import type { ApiRequest, SocketOpener, SocketPeer, SocketSession } from "../http.js";
import { openAgent } from "./agent-socket.js";
import { openConsole } from "./console-socket.js";
import type { EventFilter, EventsHub } from "./events-socket.js";
import { openExits } from "./exits-socket.js";
import type { DoorFleet } from "./fleet.js";
import { openLimits } from "./limits-socket.js";
import {
  AGENT_SOCKET,
  CONSOLE_SOCKET,
  EVENTS_SOCKET,
  EXITS_SOCKET,
  LIMITS_SOCKET,
} from "./socket-specs.js";
import { EVENT_TYPES } from "./stream-schemas.js";

/** The path's `{id}`, where there is one. */
const MICROVM_SOCKET_PATH = /^\/v1\/microvms\/([^/]+)\/[a-z]+$/;

/** A WebSocket with what opens it. */
export interface DoorSocket {
  readonly spec: SocketSpec;
  readonly open: SocketOpener;
}

/** Every WebSocket of door 2. */
export function doorSockets(fleet: DoorFleet, hub: EventsHub): readonly DoorSocket[] {
  return [
    socket(CONSOLE_SOCKET, ({ history = true, write = true }, id) => {
      return (peer) => openConsole(fleet, id, { history, write }, peer);
    }),
    socket(AGENT_SOCKET, (_query, id) => (peer) => openAgent(fleet, id, peer)),
    socket(EXITS_SOCKET, (query, id) => openExits(fleet, id, query)),
    socket(LIMITS_SOCKET, (_query, id) => openLimits(fleet, id)),
    socket(EVENTS_SOCKET, ({ since, microvm, type }) => {
      const filter = eventFilter(fleet, microvm, type);
      return (peer) => hub.open(peer, filter, since);
    }),
  ];
}

/** A socket whose query is checked by its description, and handed on with the path's id. */
export function socket<const Spec extends SocketSpec & { readonly query: TObject }>(
  spec: Spec,
  open: (query: Static<Spec["query"]>, id: string) => (peer: SocketPeer) => SocketSession,
): DoorSocket {
  return {
    spec,
    open: (request) => {
      try {
        return open(readQuery(spec.query, request) as Static<Spec["query"]>, idOf(request));
      } catch (error) {
        return errorReply(error);
      }
    },
  };
}

/** An id that is none is passed on as it is: there is no such microVM. */
function idOf({ path }: ApiRequest): string {
  const id = MICROVM_SOCKET_PATH.exec(path)?.[1] ?? "";
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

function readQuery<Query extends TObject>(schema: Query, { query }: ApiRequest): Static<Query> {
  const given = new URLSearchParams(query);
  const result: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(schema.properties)) {
    if (!given.has(name)) continue;
    const checked = checkText(property, given.getAll(name), name);
    if ("problem" in checked) {
      const { expected, got } = checked.problem;
      throw wrongQuery(`the query's ${name} is to be ${expected}, not ${got.slice(0, 200)}`);
    }
    result[name] = checked.value;
    given.delete(name);
  }
  const [unknown] = given.keys();
  if (unknown === undefined) return result as Static<Query>;
  const known = Object.keys(schema.properties).join(", ");
  throw wrongQuery(`the query has ${JSON.stringify(unknown.slice(0, 100))}; known are ${known}`);
}

function wrongQuery(message: string): EstaloError {
  return new EstaloError("ERR_ESTALO_REQUEST", message);
}

/** A microVM's name stands for the id that has it now; one that is not there is taken for an id. */
function eventFilter(
  fleet: DoorFleet,
  microvms: readonly string[] | undefined,
  typeLists: readonly string[] | undefined,
): EventFilter {
  const types = typeLists?.flatMap((list) => list.split(","));
  const unknown = types?.find((type) => !(EVENT_TYPES as readonly string[]).includes(type));
  if (unknown !== undefined) {
    throw wrongQuery(`there are no events of type ${unknown}; types are ${EVENT_TYPES.join(", ")}`);
  }
  return {
    ...(microvms === undefined ? {} : { microvms: new Set(microvms.map((id) => idIn(fleet, id))) }),
    ...(types === undefined ? {} : { types: new Set(types) }),
  };
}

function idIn(fleet: DoorFleet, idOrName: string): string {
  try {
    return fleet.get(idOrName).id;
  } catch {
    return idOrName;
  }
}
