import Type from "typebox";
import { describe, expect, it } from "vitest";
import type { ApiReply, ApiRequest } from "../../src/api/http.js";
import type { Route, RouteCall } from "../../src/api/route.js";
import { createRouter } from "../../src/api/router.js";
import { EstaloError } from "../../src/errors.js";

function request(method: string, target: string, options: Partial<ApiRequest> & Json = {}) {
  const [path, query = ""] = target.split("?");
  const { headers = {}, text, ...rest } = options;
  return {
    method,
    path,
    query,
    header: (name: string) => headers[name],
    body: Buffer.from(text ?? ""),
    signal: new AbortController().signal,
    ...rest,
  } as ApiRequest;
}

interface Json {
  readonly headers?: Readonly<Record<string, string>>;
  readonly text?: string;
}

const echo = ({ params, query, body }: RouteCall): ApiReply => ({
  status: 200,
  body: JSON.stringify({ params, query, body }),
});

const base = { summary: "", tag: "", replies: {}, handle: echo };

const routes: Route[] = [
  {
    ...base,
    operationId: "list",
    method: "GET",
    path: "/v1/things",
    query: Type.Object({
      limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 10, default: 5 })),
      label: Type.Optional(Type.Array(Type.String({ pattern: "^\\w+=" }), { maxItems: 2 })),
      force: Type.Optional(Type.Boolean()),
    }),
  },
  {
    ...base,
    operationId: "create",
    method: "POST",
    path: "/v1/things",
    headers: Type.Object({ "idempotency-key": Type.Optional(Type.String({ maxLength: 4 })) }),
    body: Type.Object({ name: Type.Optional(Type.String()) }, { additionalProperties: false }),
    isBodyOptional: true,
  },
  {
    ...base,
    operationId: "get",
    method: "GET",
    path: "/v1/things/{id}",
    params: Type.Object({ id: Type.String({ pattern: "^[a-z ]{1,8}$" }) }),
  },
  { ...base, operationId: "special", method: "PUT", path: "/v1/things/special/{part}" },
  {
    ...base,
    operationId: "put",
    method: "PUT",
    path: "/v1/things/{id}",
    body: Type.Object({ size: Type.Integer() }, { additionalProperties: false }),
  },
  {
    ...base,
    operationId: "raw",
    method: "PUT",
    path: "/v1/raw",
    body: Type.String(),
    bodyContentType: "text/plain",
    handle: ({ body }) => ({ status: 200, body: body as Uint8Array }),
  },
  {
    ...base,
    operationId: "fails",
    method: "POST",
    path: "/fails",
    handle: () => Promise.reject(new EstaloError("ERR_ESTALO_STATE", "not now")),
  },
  {
    ...base,
    operationId: "breaks",
    method: "POST",
    path: "/breaks",
    handle: () => {
      throw new TypeError("secret");
    },
  },
];

const router = createRouter(routes);
const ask = async (...args: Parameters<typeof request>) => {
  const reply = await router(request(...args));
  return { ...reply, json: JSON.parse(String(reply.body)) };
};

describe("a path", () => {
  it("finds its operation, and what it names, decoded", async () => {
    expect((await ask("GET", "/v1/things/a%20b")).json.params).toEqual({ id: "a b" });
  });

  it("is tried literally first, and as a parameter when that leads nowhere", async () => {
    expect((await ask("PUT", "/v1/things/special/x")).json.params).toEqual({ part: "x" });
    expect((await ask("GET", "/v1/things/special")).json.params).toEqual({ id: "special" });
  });

  it.each(["/", "/v1", "/v1/things/", "/v1/things/a/b", "/V1/things", "//v1/things", ""])(
    "%j is not found",
    async (path) => {
      const reply = await ask("GET", path);
      expect(reply.status).toBe(404);
      expect(reply.json.error.code).toBe("ERR_ESTALO_NOT_FOUND");
    },
  );

  it.each([
    "/v1/things/%",
    "/v1/things/%ff",
    "/v1/things/..",
    "/v1/things/a%2fb",
    "/v1/things/%00",
  ])("%s is refused", async (path) => {
    expect((await ask("GET", path)).status).toBe(400);
  });

  it("is answered 405 with what it takes, whatever the method is called", async () => {
    for (const method of ["DELETE", "OPTIONS", "get", "__proto__"]) {
      const reply = await ask(method, "/v1/things");
      expect(reply.status).toBe(405);
      expect(reply.headers?.Allow).toBe("GET, HEAD, POST");
    }
  });

  it("takes HEAD for GET", async () => {
    expect((await ask("HEAD", "/v1/things")).status).toBe(200);
  });
});

describe("a query", () => {
  it("is converted, with its defaults", async () => {
    const { json } = await ask("GET", "/v1/things?label=a=1&label=b%3D+2&force=true");
    expect(json.query).toEqual({ limit: 5, label: ["a=1", "b= 2"], force: true });
  });

  it.each([
    "limit=0",
    "limit=11",
    "limit=1.5",
    "limit=1e1",
    "limit=",
    "limit=1&limit=2",
    "force=1",
    "label=x",
    "label=a=&label=a=&label=a=",
    "other=1",
    "%",
    "__proto__=1",
  ])("%s is refused", async (query) => {
    const reply = await ask("GET", `/v1/things?${query}`);
    expect(reply.status).toBe(400);
    expect(reply.json.error.code).toBe("ERR_ESTALO_REQUEST");
  });
});

describe("a header", () => {
  it("is checked when it is there", async () => {
    expect(
      (await ask("POST", "/v1/things", { headers: { "idempotency-key": "1234" } })).status,
    ).toBe(200);
    expect(
      (await ask("POST", "/v1/things", { headers: { "idempotency-key": "12345" } })).status,
    ).toBe(400);
  });
});

describe("a body", () => {
  it("is parsed and checked", async () => {
    expect((await ask("PUT", "/v1/things/a", { text: '{"size":3}' })).json.body).toEqual({
      size: 3,
    });
    const reply = await ask("PUT", "/v1/things/a", { text: '{"size":"3"}' });
    expect(reply.status).toBe(400);
    expect(reply.json.error.message).toBe(
      '/size: expected an integer, got string "3" (line 1, column 11)',
    );
    expect(reply.json.error.data.pointer).toBe("/size");
  });

  it("may be missing where the operation says so", async () => {
    expect((await ask("POST", "/v1/things")).json.body).toEqual({});
    expect((await ask("PUT", "/v1/things/a")).status).toBe(400);
  });

  it("is JSON, or of the type the operation takes", async () => {
    const form = { "content-type": "application/x-www-form-urlencoded" };
    expect((await ask("PUT", "/v1/things/a", { text: "{}", headers: form })).status).toBe(415);
    const json = { "content-type": "Application/JSON; charset=utf-8" };
    expect((await ask("PUT", "/v1/things/a", { text: '{"size":1}', headers: json })).status).toBe(
      200,
    );
    const reply = await router(request("PUT", "/v1/raw", { text: "abc" }));
    expect(String(reply.body)).toBe("abc");
  });

  it("is refused where none is taken", async () => {
    expect((await ask("GET", "/v1/things", { text: "{}" })).status).toBe(400);
  });
});

describe("what an operation throws", () => {
  it("is the reply, also later", async () => {
    const reply = await ask("POST", "/fails");
    expect(reply.status).toBe(409);
    expect(reply.json.error).toEqual({ code: "ERR_ESTALO_STATE", message: "not now" });
  });

  it("keeps a foreign error's text to itself", async () => {
    const reply = await ask("POST", "/breaks");
    expect(reply.status).toBe(500);
    expect(reply.body).not.toContain("secret");
  });
});

it("two operations for one method and path are a mistake", () => {
  const twice = { ...routes[2], path: "/v1/things/{name}" };
  expect(() => createRouter([...routes, twice])).toThrow(/two operations/);
});
