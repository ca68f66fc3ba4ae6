import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { describe, expect, it } from "vitest";
import { docsRoutes } from "../../src/api/docs-page.js";
import type { ApiReply, ApiRequest } from "../../src/api/http.js";
import { createRouter } from "../../src/api/router.js";

let made = 0;
const router = createRouter(
  docsRoutes({
    openapi: () => ({ openapi: "3.1.1", made: ++made }),
    asyncapi: () => ({ asyncapi: "3.0.0" }),
  }),
);

const get = (path: string) =>
  router({
    method: "GET",
    path,
    query: "",
    header: () => undefined,
    body: new Uint8Array(0),
    signal: new AbortController().signal,
  } satisfies ApiRequest) as ApiReply;

/** What the page loads. */
const loads = [...String(get("/docs").body).matchAll(/(?:href|src)="(\/[^"]*)"/g)].map(
  ([, to]) => to,
);

describe("the page at /docs", () => {
  it("loads files that are there, and nothing from elsewhere", () => {
    expect(loads).toHaveLength(3);
    expect(String(get("/docs").body)).not.toMatch(/https?:/);
    for (const path of loads) expect(get(path).status).toBe(200);
  });

  it("has Swagger UI as its package has it", () => {
    const source = createRequire(import.meta.url).resolve("swagger-ui-dist/swagger-ui-bundle.js");
    const served = get("/docs/swagger-ui-bundle.js").body as Uint8Array;
    expect(Buffer.from(served).equals(readFileSync(source))).toBe(true);
    expect(Buffer.from(get("/docs/LICENSE").body ?? "").toString()).toMatch(/Apache License/);
  });

  it("forbids everything from elsewhere", () => {
    for (const path of ["/docs", ...loads]) {
      const policy = get(path).headers?.["Content-Security-Policy"] ?? "";
      expect(policy).toMatch(/^default-src 'none'; script-src 'self';/);
      expect(policy).not.toMatch(/unsafe|https?:|\*/);
    }
  });

  it.each(["/docs/../package.json", "/docs/%2e%2e%2fpackage.json", "/docs/x"])(
    "does not serve %s",
    (path) => {
      expect(get(path).status).toBeGreaterThanOrEqual(400);
    },
  );
});

describe("the documents", () => {
  it("are made once", () => {
    expect(get("/openapi.json")).toEqual(get("/openapi.json"));
    expect(made).toBe(1);
    expect(JSON.parse(String(get("/asyncapi.json").body))).toEqual({ asyncapi: "3.0.0" });
  });
});
