/** Each operation: what is asked of the server, and what comes of its answer. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EstaloClient } from "../../../src/api/client/client.js";
import type { Microvms } from "../../../src/api/client/microvms.js";
import { type PlayedRequest, PlayedServer, playedMicrovm } from "../../support/played-server.js";

let server: PlayedServer;
let client: EstaloClient;
let requests: PlayedRequest[];

beforeEach(async () => {
  server = await PlayedServer.open();
  client = new EstaloClient({ host: server.host });
  requests = [];
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** Answers everything with `body`, and keeps what was asked. */
function answer(body: unknown, status = 200): void {
  server.play = (request) => {
    requests.push(request);
    return status === 204 ? { status, body: "" } : { status, body };
  };
}

describe("an operation", () => {
  it.each<[string, (microvms: Microvms) => Promise<unknown>, string, string]>([
    ["get", (vms) => vms.get("web"), "GET /v1/microvms/web", ""],
    [
      "get, with a name that has to be encoded",
      (vms) => vms.get("a/../b?c"),
      "GET /v1/microvms/a%2F..%2Fb%3Fc",
      "",
    ],
    [
      "change devices",
      (vms) => vms.changeDevices("a", { balloon: { amountMib: 8 } }),
      "PATCH /v1/microvms/a/devices",
      '{"balloon":{"amountMib":8}}',
    ],
    ["update", (vms) => vms.update("a", { name: "b" }), "PATCH /v1/microvms/a", '{"name":"b"}'],
    ["start", (vms) => vms.start("a"), "POST /v1/microvms/a/start", ""],
    ["pause", (vms) => vms.pause("a"), "POST /v1/microvms/a/pause", ""],
    ["resume", (vms) => vms.resume("a"), "POST /v1/microvms/a/resume", ""],
    ["kill", (vms) => vms.kill("a"), "POST /v1/microvms/a/kill", ""],
    ["stop", (vms) => vms.stop("a"), "POST /v1/microvms/a/stop", ""],
    [
      "stop with a time",
      (vms) => vms.stop("a", { timeoutMs: 0 }),
      "POST /v1/microvms/a/stop",
      '{"timeoutMs":0}',
    ],
  ])("asks for %s", async (_, work, asked, body) => {
    answer(playedMicrovm());
    expect(await work(client.microvms)).toEqual(playedMicrovm());
    expect(server.asked).toEqual([asked]);
    expect(requests[0].body).toBe(body);
  });

  it.each<[string, (microvms: Microvms) => Promise<unknown>, string]>([
    ["delete", (vms) => vms.delete("a"), "DELETE /v1/microvms/a"],
    [
      "delete by force",
      (vms) => vms.delete("a", { force: true }),
      "DELETE /v1/microvms/a?force=true",
    ],
    ["Ctrl-Alt-Delete", (vms) => vms.ctrlAltDelete("a"), "POST /v1/microvms/a/ctrl-alt-delete"],
  ])("without a reply asks for %s", async (_, work, asked) => {
    answer("", 204);
    expect(await work(client.microvms)).toBeUndefined();
    expect(server.asked).toEqual([asked]);
  });

  it.each(["", ".", ".."])("refuses the id %j, which would be another path", async (id) => {
    expect(() => client.microvms.get(id)).toThrow(/^id: expected/);
    expect(server.asked).toEqual([]);
  });
});

describe("create", () => {
  it("has a key of its own, so that a connection that breaks makes no second one", async () => {
    server.play = (request) => {
      requests.push(request);
      if (requests.length > 1) return { status: 200, body: playedMicrovm() };
      request.socket.destroy();
      return undefined;
    };
    await client.microvms.create({ name: "web" });
    const keys = requests.map(({ headers }) => headers["idempotency-key"]);
    expect(keys.length).toBe(2);
    expect(keys[0]).toBe(keys[1]);
    await client.microvms.create({ name: "web" });
    expect(requests[2].headers["idempotency-key"]).not.toBe(keys[0]);
  });

  it("takes a key, and refuses one that cannot be a header", async () => {
    answer(playedMicrovm(), 201);
    await client.microvms.create({}, { idempotencyKey: "once" });
    expect(requests[0].headers["idempotency-key"]).toBe("once");
    for (const idempotencyKey of ["", "a b", "a\r\nb: c", "x".repeat(129)]) {
      expect(() => client.microvms.create({}, { idempotencyKey })).toThrow(/^idempotencyKey/);
    }
  });
});

describe("list", () => {
  it("says what it wants", async () => {
    answer({ items: [], next: null });
    await client.microvms.list({
      states: ["running", "paused"],
      name: "web",
      labels: { team: "blue=x", empty: "" },
      limit: 5,
      after: "cursor",
    });
    expect(server.asked).toEqual([
      "GET /v1/microvms?state=running%2Cpaused&name=web&label=team%3Dblue%3Dx&label=empty%3D&limit=5&after=cursor",
    ]);
  });

  it("goes through all pages, huge ones too", async () => {
    const pages = 3;
    server.play = ({ url }) => {
      const after = Number(new URL(url, "http://x").searchParams.get("after") ?? 0);
      const items = Array.from({ length: 1000 }, (_, index) =>
        playedMicrovm({ id: `vm-${after * 1000 + index}`, labels: { long: "x".repeat(256) } }),
      );
      return { body: { items, next: after + 1 < pages ? String(after + 1) : null } };
    };
    const ids: string[] = [];
    for await (const { id } of client.microvms.all()) ids.push(id);
    expect(ids.length).toBe(3000);
    expect(new Set(ids).size).toBe(3000);
    expect(server.asked[1]).toBe("GET /v1/microvms?limit=1000&after=1");
  });

  it("reads no page that nobody wants", async () => {
    answer({ items: [playedMicrovm()], next: "1" });
    for await (const { id } of client.microvms.all()) {
      expect(id).toBe("vm-1");
      break;
    }
    expect(server.asked.length).toBe(1);
  });

  it("ends with an error when a page leads to itself", async () => {
    answer({ items: [playedMicrovm()], next: "1" });
    const read = async () => {
      for await (const _ of client.microvms.all()) if (requests.length > 10) return;
    };
    await expect(read()).rejects.toMatchObject({ code: "ERR_ESTALO_REPLY" });
  });
});

describe("wait", () => {
  it("asks again until it has ended", async () => {
    server.play = () => {
      const ended = server.asked.length === 3;
      const state = ended ? "stopped" : "running";
      return { body: { ended, microvm: playedMicrovm({ state }) } };
    };
    expect((await client.microvms.wait("a")).state).toBe("stopped");
    expect(server.asked.length).toBe(3);
    expect(server.asked[0]).toMatch(/^GET \/v1\/microvms\/a\/wait\?timeoutMs=\d+$/);
  });
});

describe("logs, metrics and what the server tells of itself", () => {
  it("are bytes, counters, and texts", async () => {
    server.play = ({ url }) => {
      const bytes = { headers: { "content-type": "application/octet-stream" } };
      if (url.includes("/logs")) return { ...bytes, body: Buffer.from([0xff, 0, 10]) };
      if (url === "/metrics") return { headers: { "content-type": "text/plain" }, body: "a 1\n" };
      if (url === "/healthz") return { body: { status: "ok" } };
      if (url === "/v1/info") return { body: { version: "1", apiVersion: "v1" } };
      return { body: { id: "a", vcpus: [], drives: {}, serial: {} } };
    };
    expect([...(await client.microvms.logs("a", { tailBytes: 3 }))]).toEqual([0xff, 0, 10]);
    expect(server.asked).toEqual(["GET /v1/microvms/a/logs?tailBytes=3"]);
    expect((await client.microvms.metrics("a")).vcpus).toEqual([]);
    expect(await client.prometheus()).toBe("a 1\n");
    expect(await client.health()).toEqual({ status: "ok" });
    expect((await client.info()).apiVersion).toBe("v1");
  });
});
