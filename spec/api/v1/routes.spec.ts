/** Every operation of door 2, good and bad, over HTTP; each reply is held against its description. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { DoorHost } from "../../support/door-host.js";

let host: DoorHost;
beforeAll(async () => {
  host = await DoorHost.open();
});
afterAll(() => host.close());

let count = 0;
/** A microVM of its own for each spec. */
async function create(spec: object = {}): Promise<string> {
  count += 1;
  const { json } = await host.call("createMicrovm", { body: { name: `vm${count}`, ...spec } });
  return json.id;
}

describe("createMicrovm", () => {
  it("answers 201 with the microVM and its place", async () => {
    const reply = await host.call("createMicrovm", {
      body: {
        name: "first",
        labels: { tier: "web" },
        config: { vcpuCount: 2, drives: [{ path: "/srv/a" }] },
        restart: { policy: "on-failure", maxRetries: 3 },
      },
    });
    expect(reply.status).toBe(201);
    expect(reply.headers.location).toBe(`/v1/microvms/${reply.json.id}`);
    expect(reply.json).toMatchObject({
      name: "first",
      labels: { tier: "web" },
      state: "running",
      exit: null,
      endedAtMs: null,
      restart: { policy: "on-failure", maxRetries: 3 },
    });
  });

  it("takes an empty body for all defaults", async () => {
    expect((await host.call("createMicrovm", { body: {} })).status).toBe(201);
    expect((await host.call("createMicrovm")).status).toBe(201);
  });

  it("makes one microVM for one idempotency key", async () => {
    const body = { name: "once" };
    const headers = { "idempotency-key": "key 1" };
    const first = await host.call("createMicrovm", { body, headers });
    const second = await host.call("createMicrovm", { body, headers });
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(second.json.id).toBe(first.json.id);
    expect(second.headers.location).toBeUndefined();
    const other = await host.call("createMicrovm", { body: { name: "other" }, headers });
    expect(other).toMatchObject({
      status: 409,
      json: { error: { code: "ERR_ESTALO_IDEMPOTENCY" } },
    });
  });

  it("refuses a name that is taken", async () => {
    await create({ name: "taken" });
    const reply = await host.call("createMicrovm", { body: { name: "taken" } });
    expect(reply).toMatchObject({
      status: 409,
      json: { error: { code: "ERR_ESTALO_NAME_TAKEN" } },
    });
  });

  it.each([
    [{ name: "a/b" }, "/name"],
    [{ name: ".." }, "/name"],
    [{ labels: { a: 1 } }, "/labels/a"],
    [{ config: { vcpuCount: 33 } }, "/config/vcpuCount"],
    [{ config: { memoryMib: "128" } }, "/config/memoryMib"],
    [{ config: { drives: [{ path: "/a" }, { path: "" }] } }, "/config/drives/1/path"],
    [{ restart: { policy: "sometimes" } }, "/restart/policy"],
    [{ unknown: 1 }, "/unknown"],
  ])("says where %j is wrong", async (body, pointer) => {
    const reply = await host.call("createMicrovm", { body });
    expect(reply).toMatchObject({
      status: 400,
      json: { error: { code: "ERR_ESTALO_REQUEST", data: { where: "body", pointer } } },
    });
  });

  it.each(["", "é", "x".repeat(129)])("refuses the idempotency key %j", async (key) => {
    const headers = { "idempotency-key": Buffer.from(key).toString("latin1") };
    const reply = await host.call("createMicrovm", { body: { start: false }, headers });
    expect(reply.status).toBe(400);
  });

  it.each([
    ["{", 400, "ERR_ESTALO_REQUEST"],
    ["\0\xff", 400, "ERR_ESTALO_REQUEST"],
    ["[]", 400, "ERR_ESTALO_REQUEST"],
    [`{"labels":{"a":"${"x".repeat(2 ** 20)}"}}`, 413, "ERR_ESTALO_TOO_LARGE"],
  ])("answers the body %.12s with %i", async (body, status, code) => {
    const reply = await host.call("createMicrovm", { body });
    expect(reply).toMatchObject({ status, json: { error: { code } } });
  });

  it("answers 415 to what says that it is no JSON", async () => {
    const headers = { "content-type": "text/plain" };
    expect((await host.call("createMicrovm", { body: "{}", headers })).status).toBe(415);
  });
});

describe("listMicrovms", () => {
  beforeEach(async () => {
    for (const { id } of host.fleet.list({ limit: 1000 }).items) {
      await host.fleet.remove(id, { force: true });
    }
  });

  const names = async (query: string) => {
    const { json } = await host.call("listMicrovms", { query });
    return json.items.map(({ name }: { name: string }) => name);
  };

  it("gives pages that lead to each other", async () => {
    for (const name of ["a", "b", "c", "d", "e"]) await create({ name });
    const found: string[] = [];
    let query = "limit=2";
    for (let pages = 0; pages < 3; pages++) {
      const { json } = await host.call("listMicrovms", { query });
      found.push(...json.items.map(({ name }: { name: string }) => name));
      query = `limit=2&after=${json.next}`;
      if (json.next === null) expect(pages).toBe(2);
    }
    expect(found).toEqual(["a", "b", "c", "d", "e"]);
  });

  it("filters by state, name and labels", async () => {
    await create({ name: "x", labels: { app: "web", tier: "a=b" } });
    await create({ name: "y", labels: { app: "web" }, start: false });
    await create({ name: "z" });
    expect(await names("")).toEqual(["x", "y", "z"]);
    expect(await names("state=configured")).toEqual(["y"]);
    expect(await names("state=running,configured")).toEqual(["x", "y", "z"]);
    expect(await names("name=z")).toEqual(["z"]);
    expect(await names("label=app%3Dweb")).toEqual(["x", "y"]);
    expect(await names("label=app=web&label=tier=a=b")).toEqual(["x"]);
  });

  it.each([
    "limit=0",
    "limit=1001",
    "limit=x",
    "limit=1&limit=2",
    "state=",
    "label=novalue",
    "other=1",
    "name=%zz",
  ])("refuses ?%s", async (query) => {
    expect((await host.call("listMicrovms", { query })).status).toBe(400);
  });
});

describe("one microVM", () => {
  it("is found by id and by name", async () => {
    const id = await create({ name: "findme" });
    const byId = await host.call("getMicrovm", { id });
    expect(byId).toMatchObject({ status: 200, json: { id, name: "findme" } });
    expect((await host.call("getMicrovm", { id: "findme" })).json.id).toBe(id);
  });

  it("can be renamed and labelled anew", async () => {
    const id = await create({ labels: { a: "1" } });
    const body = { name: "renamed", labels: { b: "2" }, restart: { policy: "always" } };
    expect(await host.call("updateMicrovm", { id, body })).toMatchObject({
      status: 200,
      json: body,
    });
    const other = await create();
    const taken = await host.call("updateMicrovm", { id: other, body: { name: "renamed" } });
    expect(taken.status).toBe(409);
    const state = await host.call("updateMicrovm", { id, body: { state: "running" } });
    expect(state.status).toBe(400);
  });

  it("is deleted when it does not run, or by force", async () => {
    const id = await create();
    expect((await host.call("deleteMicrovm", { id })).status).toBe(409);
    expect((await host.call("deleteMicrovm", { id, query: "force=yes" })).status).toBe(400);
    expect((await host.call("deleteMicrovm", { id, query: "force=true" })).status).toBe(204);
    expect((await host.call("deleteMicrovm", { id })).status).toBe(404);
  });

  it("goes from state to state", async () => {
    const id = await create({ start: false });
    const state = async (operation: Parameters<typeof host.call>[0]) =>
      (await host.call(operation, { id })).json.state;
    expect(await state("startMicrovm")).toBe("running");
    expect(await state("pauseMicrovm")).toBe("paused");
    expect(await state("resumeMicrovm")).toBe("running");
    expect((await host.call("resumeMicrovm", { id })).status).toBe(409);
    expect(await state("stopMicrovm")).toBe("stopped");
    expect(await state("killMicrovm")).toBe("stopped");
    expect(await state("startMicrovm")).toBe("running");
    const killed = await host.call("killMicrovm", { id });
    expect(killed.json).toMatchObject({
      state: "stopped",
      exit: { reason: "killed", guestStatus: null, error: null, exitCode: 137 },
      endedAtMs: expect.any(Number),
    });
  });

  it("is stopped within a time", async () => {
    const id = await create();
    const wrong = await host.call("stopMicrovm", { id, body: { timeoutMs: -1 } });
    expect(wrong.status).toBe(400);
    const stopped = await host.call("stopMicrovm", { id, body: { timeoutMs: 0 } });
    expect(stopped).toMatchObject({ status: 200, json: { state: "stopped" } });
  });

  it("changes devices while it runs, keeps what they became, and ends at what is refused", async () => {
    const bucket = { size: 1000, refillTimeMs: 10 };
    const id = await create({ config: { drives: [{ id: "d", path: "/disk" }] } });
    const forwards = [{ hostPort: 8080, guestPort: 80 }];
    const changed = await host.call("changeDevices", {
      id,
      body: {
        drives: { d: { rateLimiter: { ops: bucket } } },
        networkInterfaces: { net0: { isLinkUp: false, forwards } },
        entropy: { rateLimiter: { bandwidth: bucket } },
        serial: { rateLimiter: bucket },
      },
    });
    expect(changed).toMatchObject({
      status: 200,
      json: {
        config: {
          drives: [{ id: "d", path: "/disk", rateLimiter: { ops: bucket } }],
          entropy: { rateLimiter: { bandwidth: bucket } },
          serial: { rateLimiter: bucket },
        },
      },
    });
    expect(host.fleet.machine(id).changes).toEqual([
      ["drive", "d", { rateLimiter: { ops: bucket } }],
      ["interface", "net0", { isLinkUp: false, forwards }],
      ["entropy", { bandwidth: bucket }],
      ["serial", bucket],
    ]);
    const lifted = { rateLimiter: { ops: { size: 0, refillTimeMs: 0 } } };
    const half = await host.call("changeDevices", {
      id,
      body: { drives: { d: lifted }, balloon: { amountMib: 1 } },
    });
    expect(half).toMatchObject({ status: 409, json: { error: { code: "ERR_ESTALO_STATE" } } });
    expect(host.fleet.get(id).config.drives).toMatchObject([lifted]);
    const wrong = await host.call("changeDevices", { id, body: { drives: { d: { size: 1 } } } });
    expect(wrong.status).toBe(400);
    await host.fleet.kill(id);
    expect((await host.call("changeDevices", { id, body: {} })).status).toBe(409);
  });

  it("hears Ctrl-Alt-Delete while it runs and reads it", async () => {
    const id = await create();
    expect((await host.call("sendCtrlAltDelete", { id })).status).toBe(204);
    host.fleet.machine(id).appetiteBytes = 0;
    expect((await host.call("sendCtrlAltDelete", { id })).status).toBe(409);
    await host.fleet.kill(id);
    expect((await host.call("sendCtrlAltDelete", { id })).status).toBe(409);
  });

  it("shows the end of its console", async () => {
    const id = await create();
    host.fleet.machine(id).say("one two\0\xff");
    const whole = await host.call("getMicrovmLogs", { id });
    expect(whole.bytes).toEqual(Buffer.from("one two\0\xff"));
    const tail = async (bytes: number) =>
      (await host.call("getMicrovmLogs", { id, query: `tailBytes=${bytes}` })).bytes.length;
    expect(await Promise.all([tail(0), tail(3), tail(1000)])).toEqual([0, 3, 10]);
    await host.fleet.kill(id);
    expect((await host.call("getMicrovmLogs", { id })).bytes.length).toBe(10);
  });

  it("has counters, and none before it was started", async () => {
    const id = await create();
    expect(await host.call("getMicrovmMetrics", { id })).toMatchObject({
      status: 200,
      json: {
        id,
        state: "running",
        vcpus: [{ exitIoIn: 1, cpuMs: expect.any(Number) }],
        drives: { data: { read_bytes: 512, execute_fails: 0, read_agg: { min_us: 0 } } },
        networkInterfaces: { eth0: { tx_bytes_count: 99, rx_fails: 0 } },
      },
    });
    const idle = await create({ start: false });
    expect(await host.call("getMicrovmMetrics", { id: idle })).toMatchObject({
      status: 200,
      json: { vcpus: [], drives: {}, entropy: null, serial: { transmittedBytes: 0 } },
    });
  });

  it.each([
    "getMicrovm",
    "deleteMicrovm",
    "startMicrovm",
    "pauseMicrovm",
    "resumeMicrovm",
    "killMicrovm",
    "stopMicrovm",
    "sendCtrlAltDelete",
    "waitMicrovm",
    "getMicrovmLogs",
    "getMicrovmMetrics",
  ] as const)("that is not there: %s answers 404", async (operation) => {
    const reply = await host.call(operation, { id: "nobody" });
    expect(reply).toMatchObject({ status: 404, json: { error: { code: "ERR_ESTALO_NOT_FOUND" } } });
  });

  it.each(["a b", "..%2f", "é", "x".repeat(65), "\0"])("cannot be called %j", async (id) => {
    expect((await host.call("getMicrovm", { id })).status).toBe(400);
  });
});

describe("waitMicrovm", () => {
  it("answers when the microVM ends", async () => {
    const id = await create();
    const waiting = host.call("waitMicrovm", { id });
    await host.fleet.kill(id);
    expect(await waiting).toMatchObject({
      status: 200,
      json: { ended: true, microvm: { id, exit: { reason: "killed" } } },
    });
  });

  it("answers when the time is over, as it is then", async () => {
    const id = await create();
    const reply = await host.call("waitMicrovm", { id, query: "timeoutMs=20" });
    expect(reply).toMatchObject({
      status: 200,
      json: { ended: false, microvm: { state: "running" } },
    });
  });

  it("answers at once for what has ended", async () => {
    const id = await create();
    await host.fleet.kill(id);
    expect((await host.call("waitMicrovm", { id })).json.ended).toBe(true);
  });

  it("lets go when its client does", async () => {
    const id = await create();
    const before = host.fleet.waiting;
    const leaving = new AbortController();
    const reply = host.send("GET", `/v1/microvms/${id}/wait`, { signal: leaving.signal });
    const left = expect(reply).rejects.toThrow();
    await expect.poll(() => host.fleet.waiting).toBe(before + 1);
    leaving.abort();
    await left;
    await expect.poll(() => host.fleet.waiting).toBe(before);
  });
});

describe("the server", () => {
  it("says what it is", async () => {
    const { json } = await host.call("getInfo");
    expect(json).toMatchObject({ version: "0.0.0", apiVersion: "v1", node: process.version });
    expect(json.microvms.running).toBe(host.fleet.counts().running);
    expect(json.guest).toEqual({
      version: expect.any(String),
      bootArgs: expect.stringContaining("root="),
    });
  });

  it("is alive, and ready unless it opens or closes", async () => {
    expect((await host.call("getHealth")).json).toEqual({ status: "ok" });
    expect((await host.call("getReadiness")).json).toEqual({ status: "ok" });
    for (const status of ["opening", "closing"] as const) {
      host.door.status = status;
      const reply = await host.call("getReadiness");
      expect(reply).toMatchObject({ status: 503, json: { status } });
    }
    host.door.status = "ok";
  });

  it("has metrics for Prometheus", async () => {
    const { bytes } = await host.call("getMetrics");
    expect(bytes.toString()).toContain("estalo_api_requests_total ");
  });

  it.each([
    ["GET", "/"],
    ["GET", "/v2/info"],
    ["GET", "/v1/microvms/"],
    ["GET", "/v1/microvms/a/b/c"],
    ["POST", "/v1/microvms/a/explode"],
    ["GET", "/v1//info"],
    ["GET", "/v1/microvms/%00"],
  ])("knows no %s %s", async (method, path) => {
    const { status, json } = await host.send(method, path);
    expect([400, 404]).toContain(status);
    expect(json.error.code).toMatch(/^ERR_ESTALO_/);
  });

  it.each([
    ["DELETE", "/v1/microvms", "GET, HEAD, POST"],
    ["PUT", "/v1/info", "GET, HEAD"],
    ["GET", "/v1/microvms/a/start", "POST"],
  ])("does not take %s %s", async (method, path, allowed) => {
    const { status, headers } = await host.send(method, path);
    expect(status).toBe(405);
    expect(headers.allow?.split(", ").sort()).toEqual(allowed.split(", ").sort());
  });

  it("had no failures of its own", () => {
    expect(host.failures).toEqual([]);
  });
});
