import { describe, expect, it } from "vitest";
import { HostTokenSealer } from "../../../src/actors/backends/token-sealer.js";
import { JsonStore } from "../../../src/devices/mmds/json-store.js";
import { MetadataService, type MmdsVersion } from "../../../src/devices/mmds/metadata.js";
import { createMmdsMetrics } from "../../../src/devices/mmds/mmds.state.js";
import { TokenAuthority } from "../../../src/devices/mmds/tokens.js";

const DATA = {
  latest: {
    "meta-data": {
      "ami-id": "ami-1",
      list: ["first", { x: 1 }],
      empty: "",
      object: { key: "value" },
    },
    limits: { cpu: 512, share: 12.12, isOn: true, none: null },
  },
};

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

function service(version: MmdsVersion, { imdsCompat = false, hasData = true } = {}) {
  const clock = { us: 1e6 };
  const metrics = createMmdsMetrics();
  const store = new JsonStore(51_200);
  if (hasData) expect(store.replace(DATA)).toBeUndefined();
  const tokens = new TokenAuthority(new HostTokenSealer(), () => clock.us, "vm-1");
  const metadata = new MetadataService({ version, imdsCompat, store, tokens, metrics });
  const send = (line: string, headers: Record<string, string> = {}): Answer => {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const request = new TextEncoder().encode(`${line} HTTP/1.1\r\n${lines.join("")}\r\n`);
    const [head, body] = new TextDecoder().decode(metadata.answer(request)).split("\r\n\r\n");
    const [status, ...fields] = head.split("\r\n");
    return {
      status: Number(status.split(" ")[1]),
      headers: Object.fromEntries(fields.map((field) => field.split(": "))),
      body,
    };
  };
  const token = (seconds = 60) =>
    send("PUT /latest/api/token", { "X-metadata-token-ttl-seconds": String(seconds) }).body;
  return { clock, metrics, send, token };
}

const NO_TOKEN =
  "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the " +
  "session token.";
const NO_TTL =
  "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or " +
  "`X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.";
const UNSUPPORTED = "Cannot retrieve value. The value has an unsupported type.";
const JSON_TYPE = { Accept: "application/json" };

describe.each(["V1", "V2"] as const)("MetadataService %s", (version) => {
  const withToken = (one: ReturnType<typeof service>, headers = {}) => ({
    "X-metadata-token": one.token(),
    ...headers,
  });

  it.each([
    ["/latest", "limits/\nmeta-data/"],
    ["/latest/meta-data/", "ami-id\nempty\nlist\nobject/"],
    ["//latest///meta-data/ami-id/", "ami-1"],
    ["/latest/meta-data/list/0", "first"],
    ["/latest/meta-data/empty", ""],
    ["http://169.254.169.254/latest/meta-data/ami-id", "ami-1"],
  ])("answers GET %s in the IMDS form", (path, body) => {
    const one = service(version);
    const reply = one.send(`GET ${path}`, withToken(one, { Accept: "*/*" }));
    expect(reply).toMatchObject({ status: 200, body, headers: { "Content-Type": "text/plain" } });
  });

  it.each([
    ["/latest/limits", '{"cpu":512,"isOn":true,"none":null,"share":12.12}'],
    ["/latest/meta-data/list", '["first",{"x":1}]'],
    ["/latest/meta-data/ami-id", '"ami-1"'],
    ["/latest/limits/cpu", "512"],
    ["/latest/limits/none", "null"],
  ])("answers GET %s in JSON where it is accepted", (path, body) => {
    const one = service(version);
    const reply = one.send(`GET ${path}`, withToken(one, JSON_TYPE));
    expect(reply).toMatchObject({
      status: 200,
      body,
      headers: { "Content-Type": "application/json", "Content-Length": String(body.length) },
    });
  });

  it("answers as EC2 with imdsCompat, under the type that was asked for", () => {
    const one = service(version, { imdsCompat: true });
    const get = (path: string) => one.send(`GET ${path}`, withToken(one, JSON_TYPE));
    expect(get("/latest")).toMatchObject({
      status: 200,
      body: "limits/\nmeta-data/",
      headers: { "Content-Type": "application/json" },
    });
    expect(get("/latest/limits/cpu")).toMatchObject({ status: 501, body: UNSUPPORTED });
  });

  it.each(["cpu", "share", "isOn", "none"])("has no IMDS form of limits/%s", (key) => {
    const one = service(version);
    const reply = one.send(`GET /latest/limits/${key}`, withToken(one));
    expect(reply).toMatchObject({
      status: 501,
      body: UNSUPPORTED,
      headers: { "Content-Type": "text/plain" },
    });
  });

  it("has nothing where nothing is", () => {
    const one = service(version);
    for (const path of ["/nowhere", "/latest/meta-data/list/9", "/latest?x=1", "/__proto__"]) {
      expect(one.send(`GET ${path}`, withToken(one, JSON_TYPE))).toMatchObject({
        status: 404,
        body: `Resource not found: ${path}.`,
        headers: { "Content-Type": "text/plain" },
      });
    }
    const empty = service(version, { hasData: false });
    expect(empty.send("GET /", withToken(empty)).status).toBe(501);
    expect(empty.send("GET /", withToken(empty, JSON_TYPE)).body).toBe("null");
    expect(empty.send("GET /x", withToken(empty)).status).toBe(404);
  });

  it.each(["PATCH", "DELETE"])("does no %s", (method) => {
    expect(service(version).send(`${method} /latest`)).toMatchObject({
      status: 405,
      body: "Not allowed HTTP method.",
      headers: { Allow: "GET, PUT" },
    });
  });

  it("wants a path", () => {
    expect(service(version).send("GET http://169.254.169.254")).toMatchObject({
      status: 400,
      body: "Invalid URI.",
    });
  });

  it("says what it cannot read, and goes on", () => {
    const one = service(version);
    expect(one.send("POST /latest")).toMatchObject({
      status: 501,
      body: "Unsupported HTTP method.",
    });
    expect(one.send("GET /latest", { "Content-Length": "100" })).toMatchObject({
      status: 400,
      body: "Invalid request.",
    });
    expect(one.send("GET /latest", withToken(one)).status).toBe(200);
  });

  it.each(["X-metadata-token-ttl-seconds", "x-AWS-ec2-metadata-token-ttl-seconds"])(
    "gives a token for %s, which it tells again",
    (name) => {
      const reply = service(version).send("PUT /latest//api/token", { [name]: "21600" });
      expect(reply).toMatchObject({ status: 200, headers: { [name]: "21600" } });
      expect(reply.headers["Content-Type"]).toBe("text/plain");
      expect(reply.body).toMatch(/^[A-Za-z0-9+/]{48}$/);
    },
  );

  it.each([
    [{}, NO_TTL],
    [
      { "X-metadata-token-ttl-seconds": "0" },
      "Invalid time to live value provided for token: 0. Please provide a value between 1 and 21600.",
    ],
    [
      { "X-metadata-token-ttl-seconds": "21601" },
      "Invalid time to live value provided for token: 21601. Please provide a value between 1 and 21600.",
    ],
    [
      { "X-metadata-token-ttl-seconds": "soon" },
      "Invalid header. Reason: Invalid value. Key:X-metadata-token-ttl-seconds; Value:soon",
    ],
    [
      { "X-metadata-token-ttl-seconds": "60", "x-forwarded-for": "10.0.0.1" },
      "Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For",
    ],
  ])("gives none with %j", (headers: Record<string, string>, body) => {
    expect(service(version).send("PUT /latest/api/token", headers)).toMatchObject({
      status: 400,
      body,
    });
  });

  it("is put nothing else", () => {
    expect(service(version).send("PUT /latest/meta-data")).toMatchObject({
      status: 404,
      body: "Resource not found: /latest/meta-data.",
    });
  });
});

describe("tokens", () => {
  it("are counted but not wanted in V1", () => {
    const one = service("V1");
    expect(one.send("GET /latest").status).toBe(200);
    expect(one.metrics).toMatchObject({ rx_no_token: 1, rx_invalid_token: 0 });
    expect(one.send("GET /latest", { "X-metadata-token": "bad" }).status).toBe(200);
    expect(one.metrics).toMatchObject({ rx_no_token: 1, rx_invalid_token: 1 });
  });

  it.each(["X-metadata-token", "X-AWS-EC2-Metadata-Token"])("are wanted in V2, as %s", (name) => {
    const one = service("V2");
    expect(one.send("GET /latest")).toMatchObject({ status: 401, body: NO_TOKEN });
    expect(one.send("GET /latest", { [name]: "bad" })).toMatchObject({
      status: 401,
      body: "MMDS token not valid.",
    });
    expect(one.metrics).toMatchObject({ rx_no_token: 1, rx_invalid_token: 1 });
    const token = one.token(1);
    expect(one.send("GET /latest", { [name]: token }).status).toBe(200);
    one.clock.us += 1e6;
    expect(one.send("GET /latest", { [name]: token }).status).toBe(401);
    expect(one.metrics).toMatchObject({ rx_no_token: 1, rx_invalid_token: 2 });
  });

  it("are of one service", () => {
    const token = service("V2").token();
    expect(service("V2").send("GET /latest", { "X-metadata-token": token }).status).toBe(401);
  });
});
