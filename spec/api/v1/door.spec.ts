/** The door as a whole: its description, and requests made from that, which it must all answer. */
import { Validator } from "@seriousme/openapi-schema-validator";
import Ajv from "ajv/dist/2020.js";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DoorHost } from "../../support/door-host.js";
import { type GeneratedRequest, requestsOf } from "../../support/openapi-requests.js";
import { exchangeRaw, RawClient } from "../../support/raw-http.js";

// biome-ignore lint/suspicious/noExplicitAny: a document is read by paths of its own
type Json = any;

let host: DoorHost;
let document: Json;
beforeAll(async () => {
  host = await DoorHost.open();
  document = (await host.send("GET", "/openapi.json")).json;
});
afterAll(() => host.close());

describe("the description", () => {
  it("is OpenAPI 3.1 to an independent validator", async () => {
    const result = await new Validator().validate(structuredClone(document));
    expect(result).toEqual({ valid: true });
    expect(document.openapi).toMatch(/^3\.1\./);
  });

  it("has every operation of the door", () => {
    const described = Object.values<Json>(document.paths).flatMap((item) =>
      Object.values<Json>(item).map(({ operationId }) => operationId),
    );
    expect(described.sort()).toEqual(host.door.routes.map((route) => route.operationId).sort());
    expect(new Set(described).size).toBe(described.length);
  });

  it("goes with one of the other door", async () => {
    const { json } = await host.send("GET", "/openapi-firecracker.json");
    expect(await new Validator().validate(structuredClone(json))).toEqual({ valid: true });
    expect(json.paths["/boot-source"].put.operationId).toBe("putGuestBootSource");
  });

  it("has the WebSockets, as AsyncAPI", async () => {
    const { json } = await host.send("GET", "/asyncapi.json");
    const addresses = Object.values<Json>(json.channels).map(({ address }) => address);
    expect(addresses).toContain("/v1/microvms/{id}/console");
    expect(addresses).toContain("/v1/events");
  });

  it("is shown as a page", async () => {
    const page = await host.send("GET", "/docs");
    expect(page.status).toBe(200);
    expect(page.headers["content-type"]).toContain("text/html");
  });
});

describe("requests made from the description", () => {
  const ajv = new Ajv.default({ strict: false, validateFormats: false });
  const replies = () => {
    ajv.addSchema({ $id: "doc", components: document.components });
    const compiled = new Map<string, ReturnType<typeof ajv.compile>>();
    return (schema: Json, value: unknown) => {
      const text = JSON.stringify(schema).replaceAll('"#/components', '"doc#/components');
      const validate = compiled.get(text) ?? ajv.compile(JSON.parse(text));
      compiled.set(text, validate);
      return validate(value) ? undefined : ajv.errorsText(validate.errors);
    };
  };

  /** One request on a connection of its own, as bytes: nothing between us and the server mends it. */
  async function send({ method, target, headers, body }: GeneratedRequest) {
    const lines = [
      `${method} ${target} HTTP/1.1`,
      "Host: localhost",
      "Connection: close",
      ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
      ...(body === undefined ? [] : [`Content-Length: ${body.length}`]),
    ];
    const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
    const client = new RawClient(host.path).send(Buffer.concat([head, body ?? Buffer.alloc(0)]));
    await client.untilClosed();
    client.destroy();
    return {
      status: Number(/^HTTP\/1\.1 (\d+)/.exec(client.text)?.[1]),
      body: Buffer.from(
        client.text.split("\r\n\r\n").slice(1).join("\r\n\r\n"),
        "latin1",
      ).toString(),
    };
  }

  it("are all answered, with nothing from 500 on, as described", async () => {
    for (const name of ["one", "two", "three"]) {
      await host.fleet.create({ name, config: { id: name } });
    }
    const mistakeIn = replies();
    const quick = (request: GeneratedRequest) =>
      // Waiting for what does not end is what it is for.
      !request.target.includes("/wait") || request.target.includes("timeoutMs=0");
    await fc.assert(
      fc.asyncProperty(
        requestsOf(document, ["one", "two", "three", "nobody"]).filter(quick),
        async (request) => {
          const { status, body } = await send(request);
          const what = `${request.method} ${request.target} answered ${status}: ${body.slice(0, 500)}`;
          // 503 is the answer of a server that closes, which this one does not.
          if (!(status >= 200 && status < 500)) throw new Error(what);
          const { operation } = request;
          if (operation === undefined) return;
          // A path with an id that is none may be another path, or none.
          const promised = operation.responses[status];
          const strangers = [404, 405, 431];
          if (promised === undefined && strangers.includes(status)) return;
          if (promised === undefined) throw new Error(`${what}; that is not described`);
          const schema = promised.content?.["application/json"]?.schema;
          const mistake = schema && mistakeIn(schema, JSON.parse(body));
          if (mistake !== undefined) throw new Error(`${what}; ${mistake}`);
        },
      ),
      { numRuns: 1000 },
    );
    expect(host.failures).toEqual([]);
    expect((await host.call("getHealth")).status).toBe(200);
  });

  it.each([
    "GET\r\n\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "GET /v1/info HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /v1/\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "POST /v1/microvms HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "POST /v1/microvms HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "\x16\x03\x01\x02\0\x01\0",
    `GET /${"x".repeat(20_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: localhost\r\n${"a: b\r\n".repeat(5000)}\r\n`,
  ])("%#: what is no request ends its connection alone", async (text) => {
    const before = (await host.send("GET", "/v1/info")).status;
    await exchangeRaw(host.path, `${text}\r\n\r\n`, /^HTTP\/1\.1 [^5]/).catch(() => {});
    expect([before, (await host.send("GET", "/v1/info")).status]).toEqual([200, 200]);
  });
});
