import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { KeptBytes } from "../../src/actors/kept-bytes.js";
import type { ApiReply, ApiRequest } from "../../src/api/http.js";
import type { EstaloError } from "../../src/errors.js";
import { eventually, SpecServers } from "../support/api-server.js";
import { exchangeRaw, RawClient } from "../support/raw-http.js";

const servers = new SpecServers();
afterEach(() => servers.closeAll());
afterAll(() => servers.drop());

const BODY_MAX = 100;
const END = /\r\n\r\n[\s\S]*\}$/;

/** A request in bytes. */
function http(method: string, target: string, body = "", headers = ""): string {
  const length = body === "" ? "" : `Content-Length: ${Buffer.byteLength(body, "latin1")}\r\n`;
  return `${method} ${target} HTTP/1.1\r\nHost: x\r\n${headers}${length}\r\n${body}`;
}

/** Tells what came in. */
const echo = (request: ApiRequest): ApiReply => ({
  status: 200,
  body: JSON.stringify({
    method: request.method,
    path: request.path,
    query: request.query,
    test: request.header("x-test"),
    body: Buffer.from(request.body).toString("latin1"),
  }),
});

const listenEcho = () => servers.listen({ handler: echo, limits: { bodyBytes: BODY_MAX } });

const ask = async (path: string, text: string) => {
  const reply = await exchangeRaw(path, text, END);
  return JSON.parse(reply.slice(reply.indexOf("\r\n\r\n") + 4));
};

describe("a request", () => {
  it("comes as it was sent, with a GET's body too", async () => {
    const { path } = await listenEcho();
    expect(
      await ask(path, http("GET", "/a%2f?b=%20&c", "{}", "X-Test: 1\r\nx-test: 2\r\n")),
    ).toEqual({
      method: "GET",
      path: "/a%2f",
      query: "b=%20&c",
      test: "1, 2",
      body: "{}",
    });
  });

  it.each(["PUT", "PATCH", "DELETE", "POST", "OPTIONS", "BREW", "get"])(
    "may be %s",
    async (method) => {
      const { path } = await listenEcho();
      expect((await ask(path, http(method, "/"))).method).toBe(method);
    },
  );

  it("may come in pieces, chunked, after Expect, and with bytes that are no text", async () => {
    const { path } = await listenEcho();
    const whole = http("PUT", "/x", "\0\xff{", "Expect: 100-continue\r\n");
    const client = new RawClient(path);
    for (const byte of whole) client.send(byte);
    expect(await client.until(END)).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK\r\n/);
    expect(Buffer.from(client.text, "latin1").toString()).toContain(JSON.stringify("\0\xff{"));
    client.destroy();
    const chunked = "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n";
    expect((await ask(path, `PUT / HTTP/1.1\r\nHost: x\r\n${chunked}`)).body).toBe("{}");
  });

  it("may follow another on its connection, and on its heels", async () => {
    const { server, path } = await listenEcho();
    const client = new RawClient(path);
    client.send(http("GET", "/1") + http("PUT", "/2", "{}") + http("GET", "/3"));
    await client.until(/\/3/);
    expect([...client.text.matchAll(/"path":"(\/\d)"/g)].map(([, one]) => one)).toEqual([
      "/1",
      "/2",
      "/3",
    ]);
    client.send(http("GET", "/4"));
    await client.until(/\/4/);
    client.destroy();
    expect(server.counters).toMatchObject({ connections: 1, requests: 4, receivedBytes: 2 });
  });
});

describe("a request behind one that is not answered yet", () => {
  const both = http("GET", "/1") + http("GET", "/2");

  it("is answered in its turn when promises alone were waited for", async () => {
    const { path } = await servers.listen({
      handler: async (request) => {
        for (let i = 0; i < 10; i++) await Promise.resolve();
        return { status: 200, body: JSON.stringify({ path: request.path }) };
      },
    });
    expect(await exchangeRaw(path, both, /\/2/)).toMatch(/\/1[\s\S]*\/2/);
  });

  it("closes the connection when time was", async () => {
    const asked: ApiRequest[] = [];
    const { path } = await servers.listen({
      handler: (request) => {
        asked.push(request);
        return new Promise((resolve) => setTimeout(resolve, 50, { status: 200 }));
      },
    });
    expect(await exchangeRaw(path, both)).toBe("");
    expect(asked.map((request) => [request.path, request.signal.aborted])).toEqual([["/1", true]]);
  });
});

describe("a reply", () => {
  it("says once whether the connection stays", async () => {
    const { path } = await servers.listen({
      headers: { Connection: "keep-alive" },
      limits: { bodyBytes: 1 },
    });
    const stays = await exchangeRaw(path, http("GET", "/"), END);
    const goes = await exchangeRaw(path, http("PUT", "/", "{}"));
    expect(stays.match(/connection: .*/gi)).toEqual(["Connection: keep-alive"]);
    expect(goes.match(/connection: .*/gi)).toEqual(["Connection: close"]);
  });

  it("has neither body nor length with 204, and length 0 elsewhere", async () => {
    const { path } = await servers.listen({
      handler: ({ path }) => ({ status: Number(path.slice(1)) }),
      headers: { Server: "S" },
    });
    const client = new RawClient(path).send(http("GET", "/204") + http("GET", "/404"));
    const [none, empty] = (await client.until(/404[\s\S]*\r\n\r\n/)).split(/(?<=\r\n\r\n)/);
    expect(none).toMatch(/^HTTP\/1.1 204 No Content\r\nServer: S\r\nDate: .*\r\n\r\n$/);
    expect(empty).toMatch(/^HTTP\/1.1 404 Not Found\r\n[\s\S]*Content-Length: 0\r\n\r\n$/);
    client.destroy();
  });

  it("leaves HEAD's body out, keeps its length, and the connection", async () => {
    const { path } = await listenEcho();
    const client = new RawClient(path).send(http("HEAD", "/") + http("GET", "/after"));
    expect(await client.until(/after/)).toMatch(
      /^HTTP\/1.1 200 OK\r\n[\s\S]*Content-Length: \d\d\r\n/,
    );
    client.destroy();
  });

  it("can have no reason, and a type of its own", async () => {
    const { path } = await servers.listen({
      handler: () => ({ status: 200, headers: { "content-type": "text/plain" }, body: "}" }),
      reasonPhrases: false,
    });
    const text = await exchangeRaw(path, http("GET", "/"), END);
    expect(text).toMatch(/^HTTP\/1.1 200 \r\n/);
    expect(text.match(/content-type/gi)).toHaveLength(1);
  });

  it.each<[string, () => ApiReply | Promise<ApiReply>]>([
    [
      "an exception",
      () => {
        throw new TypeError("secret");
      },
    ],
    ["a rejection", () => Promise.reject(new TypeError("secret"))],
    ["a line break in a header", () => ({ status: 200, headers: { A: "b\r\nC: d" } })],
    ["a status that is none", () => ({ status: 20 })],
  ])("is 500 for %s, which is counted and told", async (_, handler) => {
    const told: EstaloError[] = [];
    const { server, path } = await servers.listen({
      handler,
      onFailure: (error) => told.push(error),
    });
    const text = await exchangeRaw(path, http("GET", "/"), END);
    expect(text).toMatch(/^HTTP\/1.1 500 Internal Server Error\r\n/);
    expect(text).toContain("ERR_ESTALO_INTERNAL");
    expect(text).not.toMatch(/secret|C: d/);
    expect(server.counters.failures).toBe(1);
    expect(told).toHaveLength(1);
  });

  it("is dropped when its client has gone, and the signal says so", async () => {
    const asked: ApiRequest[] = [];
    let answer: (reply: ApiReply) => void = () => {};
    const { server, path } = await servers.listen({
      handler: (request) => {
        asked.push(request);
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
    });
    const client = new RawClient(path).send(http("PUT", "/", "{}"));
    await eventually(() => asked.length === 1);
    expect(asked[0].signal.aborted).toBe(false);
    client.destroy();
    await eventually(() => asked[0].signal.aborted);
    answer({ status: 200, body: "{}" });
    await eventually(() => server.counters.droppedReplies === 1);
  });

  it("of 8 MiB whose client goes in the middle of it harms nobody", async () => {
    const { server, path } = await servers.listen({
      handler: () => ({ status: 200, body: new Uint8Array(2 ** 23) }),
    });
    const client = new RawClient(path).send(http("GET", "/"));
    await client.until(/\r\n\r\n/);
    client.destroy();
    await eventually(() => server.counters.openConnections === 0);
    const other = new RawClient(path).send(http("GET", "/"));
    await eventually(() => other.text.length > 2 ** 23);
    other.destroy();
  });
});

describe("a body", () => {
  const CHUNKED = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

  it("is kept in a few blocks, however small its chunks", async () => {
    const { path } = await servers.listen({
      handler: ({ body }) => ({ status: 200, body: JSON.stringify({ bytes: body.length }) }),
    });
    const concat = vi.spyOn(Buffer, "concat");
    try {
      const reply = await exchangeRaw(
        path,
        `${CHUNKED}${"1\r\nx\r\n".repeat(100_000)}0\r\n\r\n`,
        END,
      );
      expect(reply).toContain('{"bytes":100000}');
      const pieces = concat.mock.calls.map(([list]) => list.length);
      expect(Math.max(0, ...pieces)).toBeLessThan(20);
    } finally {
      concat.mockRestore();
    }
  });

  it("of a request that is refused by its head is not kept, and the connection goes on", async () => {
    const refused: ApiRequest[] = [];
    const handled: string[] = [];
    const append = vi.spyOn(KeptBytes.prototype, "append");
    const { path } = await servers.listen({
      limits: { bodyBytes: BODY_MAX },
      admit: (request) => {
        if (request.header("authorization") !== undefined) return undefined;
        refused.push(request);
        return { status: 401, body: "{}" };
      },
      handler: (request) => {
        handled.push(request.path);
        return { status: 200, body: "{}" };
      },
    });
    try {
      const client = new RawClient(path).send(http("PUT", "/no", "secret").slice(0, -1));
      await eventually(() => refused.length === 1);
      client.send("t");
      await client.until(/ 401 [\s\S]*\{\}$/);
      expect(append).not.toHaveBeenCalled();
      client.send(http("GET", "/neither"));
      await eventually(() => refused.length === 2);
      client.send(http("PUT", "/yes", "{}", "Authorization: x\r\n"));
      await client.until(/ 200 /);
      expect(handled).toEqual(["/yes"]);
      expect(refused.map(({ body }) => body.length)).toEqual([0, 0]);
      client.send(http("PUT", "/no", "x".repeat(BODY_MAX + 1)));
      await client.until(/ 413 /);
      client.destroy();
    } finally {
      append.mockRestore();
    }
  });
});

describe("a body over the limit", () => {
  const long = "x".repeat(BODY_MAX + 1);

  it("is refused by its length, before it comes", async () => {
    const { server, path } = await listenEcho();
    const text = await exchangeRaw(path, http("PUT", "/", long).slice(0, -BODY_MAX));
    expect(text).toMatch(/^HTTP\/1.1 413 Content Too Large\r\n[\s\S]*ERR_ESTALO_TOO_LARGE/);
    expect(server.counters.receivedBytes).toBe(0);
  });

  it("is refused while it comes without a length", async () => {
    const { path } = await listenEcho();
    const head = "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    const text = await exchangeRaw(path, `${head}65\r\n${long}\r\n0\r\n\r\n`);
    expect(text).toMatch(/^HTTP\/1.1 413 /);
  });

  it("gets the door's own words, and one at the limit passes", async () => {
    const { path } = await servers.listen({
      handler: echo,
      limits: { bodyBytes: BODY_MAX },
      replies: {
        bodyTooLarge: (bytes, max) => ({ status: 400, body: `{"n":${bytes},"m":${max}}` }),
      },
    });
    expect(await ask(path, http("PUT", "/", long))).toEqual({ n: BODY_MAX + 1, m: BODY_MAX });
    expect((await ask(path, http("PUT", "/", "x".repeat(BODY_MAX)))).body).toHaveLength(BODY_MAX);
  });
});

describe("what is no request", () => {
  it.each([
    ["garbage", "\x00\x01\x02 garbage\r\n\r\n", 505],
    ["a NUL in the path", "GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", 505],
    ["line feeds alone", "GET / HTTP/1.1\nHost: x\n\n", 505],
    ["HTTP/1.0", "GET / HTTP/1.0\r\nHost: x\r\n\r\n", 505],
    ["HTTP/2.0", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505],
    ["no version", "GET /a\r\nHost: x\r\n\r\n", 505],
    ["a path without a slash", "GET a HTTP/1.1\r\nHost: x\r\n\r\n", 505],
    ["no Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", 400],
    ["a length that is none", http("PUT", "/", "", "Content-Length: abc\r\n"), 400],
    ["a negative length", http("PUT", "/", "", "Content-Length: -1\r\n"), 400],
    ["a length without end", http("PUT", "/", "", `Content-Length: ${"9".repeat(30)}\r\n`), 400],
    ["two lengths", http("PUT", "/", "{}", "Content-Length: 3\r\n"), 400],
    ["two hosts", http("GET", "/", "", "Host: y\r\n"), 400],
    ["a length and chunks", http("PUT", "/", "{}", "Transfer-Encoding: chunked\r\n"), 400],
    ["a head of 20 KB", http("GET", "/", "", `A: ${"a".repeat(20_000)}\r\n`), 431],
  ])("%s is refused with a status, and closed", async (_, text, status) => {
    const { server, path } = await listenEcho();
    expect(await exchangeRaw(path, text)).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect((await ask(path, http("GET", "/"))).path).toBe("/");
    expect(server.counters.failures).toBe(0);
  });

  it("ends the connection when it follows a request", async () => {
    const { path } = await listenEcho();
    const text = await exchangeRaw(path, `${http("PUT", "/", "{}")}{}\r\n\r\n`);
    expect(text).toMatch(/HTTP\/1.1 505 /);
  });

  it("costs its connection in time: a head, or a body, that never ends", async () => {
    const { server, path } = await listenEcho();
    const slow = [
      "GET / HT",
      "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
      http("PUT", "/", "12345", "").slice(0, -1),
      "",
    ].map((text) => new RawClient(path).send(text));
    const drips = setInterval(() => slow[0].send("T"), 500);
    const texts = await Promise.all(slow.map((client) => client.untilClosed()));
    clearInterval(drips);
    expect(texts.slice(1)).toEqual(["", "", ""]);
    await eventually(() => server.counters.openConnections === 0);
  });
});

describe("connections over the limit", () => {
  it("are told so and closed, and room made is room", async () => {
    const { server, path } = await servers.listen({
      limits: { connections: 3 },
      replies: {
        tooManyConnections: () => ({
          status: 503,
          body: '{ "error": "Too many open connections" }',
        }),
      },
    });
    const clients = [1, 2, 3].map(() => new RawClient(path));
    for (const client of clients) await client.untilConnected();
    await eventually(() => server.counters.openConnections === 3);
    for (let i = 0; i < 50; i++) {
      const text = await new RawClient(path).untilClosed();
      expect(text).toMatch(/^HTTP\/1.1 503 [\s\S]*\{ "error": "Too many open connections" \}$/);
    }
    expect(server.counters).toMatchObject({ openConnections: 3, refusedConnections: 50 });
    clients[0].destroy();
    await eventually(() => server.counters.openConnections === 2);
    expect(await ask(path, http("GET", "/ok"))).toEqual({ path: "/ok" });
    for (const client of clients) client.destroy();
  });
});

it("no file descriptor stays of a thousand connections", async () => {
  const { server, path } = await listenEcho();
  for (let i = 0; i < 1000; i++) {
    const client = new RawClient(path);
    if (i % 2 === 0)
      client.send(i % 4 === 0 ? http("GET", "/") : "PUT / HTTP/1.1\r\nHost: x\r\nCont");
    await client.untilConnected();
    client.destroy();
  }
  await eventually(() => server.counters.openConnections === 0);
  const sockets = readFileSync("/proc/net/unix", "utf8").split("\n");
  expect(sockets.filter((line) => line.endsWith(path))).toHaveLength(1);
});

describe("close", () => {
  it("lets what runs finish, tells it by its signal, and answers nothing new", async () => {
    let asked: ApiRequest | undefined;
    let answer: (reply: ApiReply) => void = () => {};
    const { server, path } = await servers.listen({
      handler: (request) => {
        if (request.path !== "/long") return { status: 200, body: "{}" };
        asked = request;
        return new Promise((resolve) => {
          answer = resolve;
        });
      },
    });
    const [long, kept] = [new RawClient(path), new RawClient(path)];
    kept.send(http("GET", "/"));
    await kept.until(END);
    long.send(http("GET", "/long"));
    await eventually(() => asked !== undefined);
    const end = server.close({ timeoutMs: 60_000 });
    expect(asked?.signal.aborted).toBe(true);
    kept.send(http("GET", "/more"));
    expect(await kept.untilClosed()).toMatch(/HTTP\/1.1 503 [\s\S]*ERR_ESTALO_BUSY/);
    answer({ status: 200, body: '{"long":true}' });
    expect(await long.untilClosed()).toMatch(/Connection: close[\s\S]*\{"long":true\}$/i);
    await end;
    expect(await new RawClient(path).untilClosed()).toBe("");
  });

  it("ends everything else when the socket's name cannot be removed", async () => {
    const folder = servers.path();
    mkdirSync(folder);
    const { server, path } = await servers.listen({ address: { path: join(folder, "sock") } });
    const client = await new RawClient(path).untilConnected();
    renameSync(folder, `${folder}-away`);
    writeFileSync(folder, "");
    await server.close({ timeoutMs: 100 });
    await client.untilClosed();
  });

  it("does not wait longer than told, and may be called twice", async () => {
    const { server, path } = await servers.listen({ handler: () => new Promise(() => {}) });
    const client = new RawClient(path).send(http("GET", "/"));
    await eventually(() => server.counters.requests === 1);
    await Promise.all([server.close({ timeoutMs: 50 }), server.close()]);
    expect(await client.untilClosed()).toBe("");
  });
});
