/**
 * Door 2's documents: OpenAPI of its operations, AsyncAPI of its WebSockets.
 */
import { asyncApiDocument, type SocketSpec } from "../asyncapi.js";
import type { Descriptions } from "../docs-page.js";
import { openApiDocument } from "../openapi.js";
import type { RouteSpec } from "../route.js";

const TITLE = "Estalo";

const TAGS = [
  { name: "microvms", description: "MicroVMs of the fleet, by id or by name." },
  {
    name: "step by step",
    description: "A microVM described and driven by Firecracker's requests, one part at a time.",
  },
  { name: "server", description: "The server itself." },
  { name: "documents", description: "This description." },
];

/** The documents of these operations and sockets. */
export function doorDescriptions(
  version: string,
  routes: () => readonly RouteSpec[],
  sockets: readonly SocketSpec[],
): Descriptions {
  return {
    openapi: () =>
      openApiDocument(
        {
          title: TITLE,
          version,
          description:
            "Many microVMs in one server. Errors are `{error: {code, message, hint?, data?}}`; codes are stable.",
          tags: TAGS,
          hasToken: true,
        },
        routes(),
      ),
    asyncapi: () =>
      asyncApiDocument(
        {
          title: TITLE,
          version,
          description:
            "Streams of microVMs. A token goes into the header Authorization or, from browsers, into the subprotocols: `estalo`, `estalo.bearer.TOKEN`.",
        },
        sockets,
      ),
  };
}
