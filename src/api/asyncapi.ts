/**
 * The AsyncAPI 3.0 document of the WebSockets, from a table of them: what each carries in either direction.
 */
import type { TObject, TSchema } from "typebox";
import { SchemaComponents } from "./schema-components.js";

type Json = Readonly<Record<string, unknown>>;

/** A kind of message on a WebSocket. */
export interface SocketMessage {
  /** Unique on its socket: "event". */
  readonly name: string;
  readonly summary: string;
  /** Of a text message, which is JSON; absent: a binary message, whose bytes `summary` tells of. */
  readonly schema?: TSchema;
}

/** A WebSocket of a door. */
export interface SocketSpec {
  /** Unique in the document: "console". */
  readonly name: string;
  /** With `{name}` for parameters, as a route's. */
  readonly path: string;
  readonly summary: string;
  readonly description?: string;
  /** Properties are the path's parameters, and the query's. */
  readonly params?: TObject;
  readonly query?: TObject;
  /** What the server sends. */
  readonly serverSends: readonly SocketMessage[];
  /** What clients send. */
  readonly clientSends: readonly SocketMessage[];
  /** Close codes that mean something here: code to meaning. */
  readonly closeCodes: Readonly<Record<number, string>>;
}

/** What a document says of the whole. */
export interface AsyncApiInfo {
  readonly title: string;
  readonly version: string;
  readonly description: string;
}

const ASYNCAPI_VERSION = "3.0.0";

/** A document of `sockets`, as plain data. The application it describes is the server. */
export function asyncApiDocument(info: AsyncApiInfo, sockets: readonly SocketSpec[]): Json {
  const components = new SchemaComponents();
  const channels: Record<string, unknown> = {};
  const operations: Record<string, unknown> = {};
  for (const socket of sockets) {
    channels[socket.name] = channel(socket, components);
    addOperation(operations, socket, "send", socket.serverSends);
    addOperation(operations, socket, "receive", socket.clientSends);
  }
  return {
    asyncapi: ASYNCAPI_VERSION,
    info: { ...info, license: { name: "Apache-2.0" } },
    defaultContentType: "application/json",
    channels,
    operations,
    components: { schemas: components.toJson() },
  };
}

function channel(socket: SocketSpec, components: SchemaComponents): Json {
  const names = [...socket.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
  const parameters = names.map((name) => {
    const schema = socket.params?.properties[name] as { description?: string } | undefined;
    return [name, { description: schema?.description ?? name }];
  });
  const messages = [...socket.serverSends, ...socket.clientSends].map((message) => [
    message.name,
    messageOf(message, components),
  ]);
  const codes = Object.entries(socket.closeCodes).map(([code, text]) => `- ${code}: ${text}`);
  const description = [socket.description, ["Closed with:", ...codes].join("\n")];
  return {
    address: socket.path,
    title: socket.summary,
    description: description.filter((part) => part !== undefined).join("\n\n"),
    ...(names.length === 0 ? {} : { parameters: Object.fromEntries(parameters) }),
    messages: Object.fromEntries(messages),
    bindings: {
      ws: {
        method: "GET",
        ...(socket.query === undefined ? {} : { query: components.ref(socket.query) }),
        bindingVersion: "0.1.0",
      },
    },
  };
}

function messageOf({ name, summary, schema }: SocketMessage, components: SchemaComponents): Json {
  return {
    name,
    summary,
    contentType: schema === undefined ? "application/octet-stream" : "application/json",
    payload: schema === undefined ? { type: "string", format: "binary" } : components.ref(schema),
  };
}

function addOperation(
  operations: Record<string, unknown>,
  { name, summary }: SocketSpec,
  action: "send" | "receive",
  messages: readonly SocketMessage[],
): void {
  if (messages.length === 0) return;
  operations[`${name}.${action}`] = {
    action,
    channel: { $ref: `#/channels/${name}` },
    summary,
    messages: messages.map((message) => ({ $ref: `#/channels/${name}/messages/${message.name}` })),
  };
}
