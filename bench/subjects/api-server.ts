/**
 * Subject: a server of the API, or Node's own HTTP server, with the same operations behind it.
 *
 * `node api-server.js estalo|node PATH` listens on a Unix socket, writes a line when it does, and serves until
 * it is killed. Both call one handler: the router with its checks, and the serialisers. What differs is
 * the server: reading HTTP, bodies and connections, and writing replies.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import Type from "typebox";
import type { ApiReply, ApiRequest } from "../../src/api/http.js";
import type { Route } from "../../src/api/route.js";
import { createRouter } from "../../src/api/router.js";
import { jsonReply } from "../../src/api/serialise.js";
import { ApiServer } from "../../src/api/server.js";

const Machine = Type.Object({
  id: Type.String(),
  name: Type.String(),
  labels: Type.Record(Type.String(), Type.String()),
  vcpuCount: Type.Integer({ minimum: 1, maximum: 32 }),
  memoryMib: Type.Integer({ minimum: 32 }),
  state: Type.Enum(["configured", "running"], { type: "string" }),
  exit: Type.Union([Type.Object({ reason: Type.String() }), Type.Null()]),
});

const Params = Type.Object({ id: Type.String({ pattern: "^[A-Za-z0-9-]{1,64}$" }) });

const Change = Type.Object(
  {
    name: Type.Optional(Type.String({ maxLength: 64 })),
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
    vcpuCount: Type.Optional(Type.Integer({ minimum: 1, maximum: 32 })),
  },
  { additionalProperties: false },
);

const machine = {
  id: "vm-1",
  name: "one",
  labels: { app: "bench", tier: "front" },
  vcpuCount: 2,
  memoryMib: 256,
  state: "running" as const,
  exit: null,
};

const base = { path: "/v1/machines/{id}", summary: "", tag: "", params: Params, replies: {} };

const routes: Route[] = [
  {
    ...base,
    operationId: "get",
    method: "GET",
    handle: ({ params }) => jsonReply(200, Machine, { ...machine, id: params.id }),
  },
  {
    ...base,
    operationId: "change",
    method: "PATCH",
    body: Change,
    handle: ({ params, body }) =>
      jsonReply(200, Machine, { ...machine, ...(body as object), id: params.id }),
  },
];

const handler = createRouter(routes);

/** Node's server joined to the handler, as briefly as it can be. */
function serveByNode(path: string, whenListening: () => void): void {
  const answer = async (
    message: IncomingMessage,
    response: ServerResponse,
    body: Uint8Array,
  ): Promise<void> => {
    const [target, query = ""] = (message.url ?? "").split("?", 2);
    const request: ApiRequest = {
      method: message.method ?? "",
      path: target,
      query,
      header: (name) => message.headers[name] as string | undefined,
      body,
      signal: new AbortController().signal,
    };
    const reply: ApiReply = await handler(request);
    const content = Buffer.from(reply.body ?? "");
    response.writeHead(reply.status, {
      "Content-Type": "application/json",
      "Content-Length": content.length,
      ...reply.headers,
    });
    response.end(content);
  };
  createServer((message, response) => {
    const parts: Buffer[] = [];
    message.on("data", (part) => parts.push(part));
    message.on("end", () => void answer(message, response, Buffer.concat(parts)));
  }).listen(path, whenListening);
}

const [kind, path] = process.argv.slice(2);
const tell = () => console.log("listening");
if (kind === "node") serveByNode(path, tell);
else await ApiServer.listen({ address: { path }, handler }).then(tell);
