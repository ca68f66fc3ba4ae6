/** Calls over connections that break, hang and lie. */
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EstaloClient } from "../../../src/api/client/client.js";
import { Connection } from "../../../src/api/client/connection.js";
import { PlayedServer, playedMicrovm, problem } from "../../support/played-server.js";

let server: PlayedServer;
let client: EstaloClient;

beforeEach(async () => {
  server = await PlayedServer.open();
  client = new EstaloClient({ host: server.host, timeoutMs: 10_000, replyBytesMax: 100_000 });
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const html = { "content-type": "text/html" };

describe("a refusal", () => {
  it("is the server's error, with code, message, hint, data and cause", async () => {
    server.play = () => ({
      status: 409,
      body: problem("ERR_ESTALO_STATE", "it runs", {
        hint: "stop it",
        data: { state: "running" },
        cause: { code: "ERR_ESTALO_HOST", message: "below" },
      }),
    });
    await expect(client.microvms.get("a")).rejects.toMatchObject({
      name: "EstaloError",
      code: "ERR_ESTALO_STATE",
      family: "state",
      message: "it runs",
      hint: "stop it",
      data: { state: "running" },
      cause: { code: "ERR_ESTALO_HOST", message: "below" },
    });
  });

  it.each([
    [400, "config"],
    [409, "state"],
    [500, "bug"],
    [503, "host"],
  ])(
    "with status %i keeps a code that is not known here, of the family %s",
    async (status, family) => {
      server.play = () => ({ status, body: problem("ERR_ESTALO_OF_TOMORROW", "new") });
      await expect(client.info()).rejects.toMatchObject({ code: "ERR_ESTALO_OF_TOMORROW", family });
    },
  );

  it("may be deep, and is not followed for ever", async () => {
    let cause: object = { code: "ERR_ESTALO_HOST", message: "bottom" };
    for (let depth = 0; depth < 100; depth++)
      cause = { code: "ERR_ESTALO_HOST", message: "x", cause };
    server.play = () => ({ status: 500, body: { error: cause } });
    let error = await client.info().catch((thrown) => thrown);
    let depth = 0;
    for (; error !== undefined; depth++) error = error.cause;
    expect(depth).toBeLessThan(20);
  });
});

describe("a server that lies", () => {
  it.each<[string, object, RegExp]>([
    [
      "500 as HTML",
      { status: 500, headers: html, body: "<h1>oh</h1>" },
      /answered 500 with text\/html/,
    ],
    [
      "500 as nothing",
      { status: 500, headers: { "content-type": "text/plain" }, body: "" },
      /answered 500/,
    ],
    ["502 as JSON of others", { status: 502, body: { detail: "gateway" } }, /answered 502/],
    ["an error whose code is none", { status: 400, body: problem("<b>", "x") }, /answered 400/],
    [
      "an error whose message is none",
      { status: 400, body: { error: { code: "ERR_ESTALO_STATE", message: 7 } } },
      /answered 400/,
    ],
    [
      "a redirection",
      { status: 302, headers: { location: "http://evil/", ...html }, body: "x" },
      /answered 302/,
    ],
    ["200 as HTML", { headers: html, body: "<h1>hi</h1>" }, /answered text\/html, not JSON/],
    [
      "JSON that breaks off",
      { headers: { "content-type": "application/json" }, body: '{"id":' },
      /JSON that is broken/,
    ],
    ["JSON of something else", { body: { hello: 1 } }, /something else than what was asked for/],
    ["a list", { body: [] }, /something else/],
    ["null", { body: "null", headers: { "content-type": "application/json" } }, /something else/],
    ["nothing", { status: 204, body: "" }, /answered nothing, not JSON/],
    ["more than anybody wants", { body: { x: "y".repeat(200_000) } }, /more than 100000 bytes/],
  ])("with %s is told apart", async (_, reply, message) => {
    server.play = () => reply;
    const error = await client.microvms.get("a").catch((thrown) => thrown);
    expect(error).toMatchObject({
      code: "ERR_ESTALO_REPLY",
      message: expect.stringMatching(message),
      hint: expect.stringContaining("ESTALO_HOST"),
      data: { host: server.host },
    });
  });

  it("shows the beginning of what it said, without what a terminal obeys", async () => {
    server.play = () => ({
      status: 500,
      headers: html,
      body: `\x1b[2Jboom\u0007${"x".repeat(5000)}`,
    });
    const { data } = await client.info().catch((thrown) => thrown);
    expect(data.start).toMatch(/^ \[2Jboom x+$/);
    expect(data.start.length).toBe(200);
  });

  it("by breaking off its reply is an error", async () => {
    server.play = ({ response }) => {
      response.writeHead(200, { "content-type": "application/json", "content-length": 100 });
      response.write("{");
      setTimeout(() => response.destroy(), 10);
      return undefined;
    };
    await expect(client.microvms.start("a")).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    expect(server.asked.length).toBe(1);
  });

  it("by not speaking HTTP is an error", async () => {
    await server.down();
    const liar = createServer((socket) => {
      socket.on("error", () => {}).resume();
      socket.end("220 mail ready\r\n");
    });
    await new Promise<void>((resolve) => liar.listen(server.path, resolve));
    await expect(client.info()).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    await new Promise((resolve) => liar.close(resolve));
  });

  it("by saying nothing is given up", async () => {
    const hasty = new EstaloClient({ host: server.host, timeoutMs: 50 });
    server.play = () => undefined;
    await expect(hasty.info()).rejects.toMatchObject({
      code: "ERR_ESTALO_CONNECT",
      message: `GET /v1/info: ${server.host} has said nothing for 0.05 s`,
    });
  });
});

describe("a connection", () => {
  it("that is not there is told, with what to do", async () => {
    const nowhere = new EstaloClient({ host: `unix://${join(server.path, "..", "none.sock")}` });
    await expect(nowhere.info()).rejects.toMatchObject({
      code: "ERR_ESTALO_CONNECT",
      family: "host",
      message: expect.stringMatching(/^connect to unix:.*none\.sock: ENOENT$/),
      hint: "is estalo serve running? ESTALO_HOST or --host names another server",
      data: { errno: "ENOENT" },
    });
    const refused = new EstaloClient({ host: "http://127.0.0.1:1" });
    await expect(refused.info()).rejects.toMatchObject({ data: { errno: "ECONNREFUSED" } });
    const folder = new EstaloClient({ host: `unix://${join(server.path, "..")}` });
    await expect(folder.info()).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
  });

  it("is kept for the next call, and carries the token", async () => {
    const sockets = new Set<unknown>();
    server.play = ({ socket, headers }) => {
      sockets.add(socket);
      expect(headers.authorization).toBe("Bearer secret");
      return { body: playedMicrovm() };
    };
    await using known = new EstaloClient({ host: server.host, token: "secret" });
    for (let call = 0; call < 5; call++) await known.microvms.get("a");
    expect(sockets.size).toBe(1);
  });

  it("that breaks is made again for what may be repeated, and only for that", async () => {
    let breaks = 2;
    server.play = ({ socket }) => {
      if (breaks-- > 0) {
        socket.destroy();
        return undefined;
      }
      return { body: playedMicrovm() };
    };
    expect((await client.microvms.get("a")).name).toBe("web");
    expect(server.asked.length).toBe(3);
    breaks = 1;
    await expect(client.microvms.start("a")).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    expect(server.asked.length).toBe(4);
    breaks = 100;
    await expect(client.microvms.get("a")).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    expect(server.asked.length).toBe(8);
  });

  it("that broke after a deletion leaves it deleted", async () => {
    server.play = ({ socket }) => {
      if (server.asked.length > 1)
        return { status: 404, body: problem("ERR_ESTALO_NOT_FOUND", "x") };
      socket.destroy();
      return undefined;
    };
    await client.microvms.delete("a");
    await expect(client.microvms.delete("a")).rejects.toMatchObject({
      code: "ERR_ESTALO_NOT_FOUND",
    });
  });

  it("ends with its client", async () => {
    server.play = () => ({ body: playedMicrovm() });
    await client.microvms.get("a");
    expect(server.connections).toBe(1);
    await client[Symbol.asyncDispose]();
    await until(() => server.connections === 0);
  });
});

describe("a client that is closed", () => {
  it("ends calls that wait, also those that would be repeated, and makes none any more", async () => {
    server.play = () => undefined;
    const calls = Promise.allSettled([client.microvms.wait("a"), client.microvms.start("a")]);
    await until(() => server.asked.length === 2);
    await client[Symbol.asyncDispose]();
    const ended = { status: "rejected", reason: { code: "ERR_ESTALO_ABORTED" } };
    expect(await calls).toMatchObject([ended, ended]);
    await expect(client.info()).rejects.toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    await until(() => server.connections === 0);
    expect(server.asked.length).toBe(2);
  });
});

describe("an aborted signal", () => {
  it("ends a call at once, and its connection", async () => {
    server.play = () => undefined;
    const aborting = new AbortController();
    const call = client.microvms.wait("a", { signal: aborting.signal });
    await until(() => server.asked.length === 1);
    aborting.abort(new Error("enough"));
    await expect(call).rejects.toMatchObject({
      code: "ERR_ESTALO_ABORTED",
      cause: { message: "enough" },
    });
    await until(() => server.connections === 0);
  });

  it("keeps a call from being made", async () => {
    await expect(client.info({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ERR_ESTALO_ABORTED",
    });
    expect(server.asked).toEqual([]);
  });

  it("is let go by calls that are done", async () => {
    server.play = () => ({ body: playedMicrovm() });
    let listeners = 0;
    const { signal } = new AbortController();
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...words: Parameters<typeof addEventListener>) => {
      listeners++;
      addEventListener.apply(signal, words);
    };
    signal.removeEventListener = (...words: Parameters<typeof removeEventListener>) => {
      listeners--;
      removeEventListener.apply(signal, words);
    };
    for (let call = 0; call < 3; call++) await client.microvms.get("a", { signal });
    expect(listeners).toBe(0);
  });
});

describe("Connection", () => {
  it("sends bodies, headers and queries as they are", async () => {
    const seen: object[] = [];
    server.play = ({ method, url, body, headers }) => {
      const { "content-type": type, "content-length": length, "x-a": own } = headers;
      seen.push({ method, url, body, type, length, own });
      return { body: { ok: true } };
    };
    const { address } = new Connection(
      { ...LOCAL, socketPath: server.path },
      { timeoutMs: 1000, replyBytesMax: 1000 },
    );
    const connection = new Connection(address, { timeoutMs: 1000, replyBytesMax: 1000 });
    await connection.send({
      method: "PUT",
      path: "/a",
      query: { a: "ü&=", list: ["1", "2"], none: undefined, yes: true },
      headers: { "x-a": "1" },
      body: { x: "ü" },
    });
    await connection.send({ method: "POST", path: "/b" });
    await connection.send({ method: "GET", path: "/c" });
    connection.close();
    expect(seen).toEqual([
      {
        method: "PUT",
        url: "/a?a=%C3%BC%26%3D&list=1&list=2&yes=true",
        body: '{"x":"ü"}',
        type: "application/json",
        length: "10",
        own: "1",
      },
      { method: "POST", url: "/b", body: "", length: "0" },
      { method: "GET", url: "/c", body: "" },
    ]);
  });
});

const LOCAL = {
  name: "local",
  hostname: "localhost",
  port: 0,
  isSecure: false,
  token: undefined,
  tls: {},
};

/** Waits for a condition. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
