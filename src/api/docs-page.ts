/**
 * The descriptions of a door, served: /openapi.json, /asyncapi.json, and Swagger UI at /docs, whose files come
 * with the package. Nothing is loaded from elsewhere, and the page's policy forbids it.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import Type from "typebox";
import { EstaloError } from "../errors.js";
import type { ApiReply } from "./http.js";
import type { Route } from "./route.js";

/** Files of the page: name to type. `scripts/build.mjs` copies those of Swagger UI. */
const FILES: ReadonlyMap<string, string> = new Map([
  ["swagger-ui.css", "text/css; charset=utf-8"],
  ["swagger-ui-bundle.js", "text/javascript; charset=utf-8"],
  ["LICENSE", "text/plain; charset=utf-8"],
]);

/** Beside the bundle that this is in, or below the sources' root. */
const FOLDERS = ["./swagger-ui/", "../../dist/swagger-ui/"];

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const PAGE_HEADERS = {
  "Content-Security-Policy": POLICY,
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
};

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Estalo API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/page.js"></script>
</body>
</html>
`;

const SCRIPT = `SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
});
`;

/** Makes the descriptions; each is called once, when it is first asked for. */
export interface Descriptions {
  openapi(): object;
  asyncapi(): object;
}

/** The operations that serve the descriptions. */
export function docsRoutes(descriptions: Descriptions): Route[] {
  const openapi = lazily(() => JSON.stringify(descriptions.openapi()));
  const asyncapi = lazily(() => JSON.stringify(descriptions.asyncapi()));
  const get = {
    method: "GET",
    tag: "documents",
    replies: { 200: { description: "It." } },
  } as const;
  const document = Type.Object({}, { additionalProperties: true });
  const json = { 200: { description: "The document.", schema: document } };
  return [
    {
      ...get,
      operationId: "getOpenApi",
      path: "/openapi.json",
      summary: "This API as OpenAPI 3.1.",
      replies: json,
      handle: () => ({ status: 200, body: openapi() }),
    },
    {
      ...get,
      operationId: "getAsyncApi",
      path: "/asyncapi.json",
      summary: "Its WebSockets as AsyncAPI 3.0.",
      replies: json,
      handle: () => ({ status: 200, body: asyncapi() }),
    },
    {
      ...get,
      operationId: "getDocs",
      path: "/docs",
      summary: "This API as a page.",
      replies: {
        200: { description: "The page.", contentType: "text/html", schema: Type.String() },
      },
      handle: () => page("text/html; charset=utf-8", PAGE),
    },
    {
      ...get,
      operationId: "getDocsFile",
      path: "/docs/{file}",
      summary: "A file of that page.",
      params: Type.Object({ file: Type.Enum([...FILES.keys(), "page.js"], { type: "string" }) }),
      handle: ({ params }) => fileReply(params.file),
    },
  ];
}

function fileReply(name: string): ApiReply {
  if (name === "page.js") return page("text/javascript; charset=utf-8", SCRIPT);
  const type = FILES.get(name);
  const content = type === undefined ? undefined : readAsset(name);
  if (type === undefined || content === undefined) {
    throw new EstaloError("ERR_ESTALO_NOT_FOUND", "the page has no such file here", {
      hint: "npm run setup copies Swagger UI's files",
    });
  }
  return page(type, content);
}

function page(type: string, body: string | Uint8Array): ApiReply {
  return { status: 200, headers: { "Content-Type": type, ...PAGE_HEADERS }, body };
}

/** `name` is one of FILES. */
function readAsset(name: string): Uint8Array | undefined {
  for (const folder of FOLDERS) {
    try {
      return readFileSync(fileURLToPath(new URL(folder + name, import.meta.url)));
    } catch {
      // Not there: the other place, or none.
    }
  }
  return undefined;
}

function lazily(make: () => string): () => string {
  let made: string | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
