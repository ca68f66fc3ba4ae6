import { afterAll, afterEach, describe, expect, it } from "vitest";
import WebSocket from "ws";
import type { ApiRequest, SocketOpener, SocketPeer, SocketSession } from "../../src/api/http.js";
import { eventually, SpecServers } from "../support/api-server.js";
import { exchangeRaw, RawClient } from "../support/raw-http.js";

const servers = new SpecServers();
afterEach(() => servers.closeAll());
afterAll(() => servers.drop());

const BACKLOG = 200_000;

/** What a session saw, and its peer. */
class Watched implements SocketSession {
  readonly messages: [string, boolean][] = [];
  drains = 0;
  closes = 0;
  request: ApiRequest | undefined;
  peer: SocketPeer | undefined;

  readonly opener: SocketOpener = (request) => {
    this.request = request;
    return (peer) => {
      this.peer = peer;
      return this;
    };
  };

  onMessage(message: Uint8Array, isBinary: boolean) {
    this.messages.push([Buffer.from(message).toString(), isBinary]);
  }
  onDrain() {
    this.drains++;
  }
  onClose() {
    this.closes++;
  }
}

async function listen(opener: SocketOpener) {
  return await servers.listen({
    sockets: { "/v1/{id}/console": opener, "/no": () => ({ status: 404, body: "{}" }) },
    limits: { backlogBytes: BACKLOG, messageBytes: 1000, connections: 5 },
  });
}

const connect = (path: string, target = "/v1/a/console?x=y") =>
  new WebSocket(`ws+unix://${path}:${target}`);
const opened = (client: WebSocket) => new Promise((resolve) => client.once("open", resolve));
const closed = (client: WebSocket) =>
  new Promise<[number, string]>((resolve) =>
    client.once("close", (code, reason) => resolve([code, reason.toString()])),
  );

describe("a WebSocket", () => {
  it("carries text and bytes both ways, and tells of its request", async () => {
    const session = new Watched();
    const { server, path } = await listen(session.opener);
    const client = connect(path);
    const got: [string, boolean][] = [];
    client.on("message", (data, isBinary) => got.push([data.toString(), isBinary]));
    await opened(client);
    expect(session.request).toMatchObject({ path: "/v1/a/console", query: "x=y" });
    client.send("text é");
    client.send(Buffer.from("bytes"));
    await eventually(() => session.messages.length === 2);
    expect(session.messages).toEqual([
      ["text é", false],
      ["bytes", true],
    ]);
    expect(session.peer?.send("text é")).toBe(true);
    session.peer?.send(Buffer.from("bytes"));
    await eventually(() => got.length === 2);
    expect(got).toEqual(session.messages);
    expect(server.counters).toMatchObject({ openConnections: 0, openSockets: 1, sockets: 1 });
    client.close();
    await eventually(() => session.closes === 1);
    expect(server.counters.openSockets).toBe(0);
  });

  it("is closed with the session's code, once", async () => {
    const session = new Watched();
    const { path } = await listen(session.opener);
    const client = connect(path);
    await opened(client);
    session.peer?.close(4409, "wrong state");
    session.peer?.close(4404, "again");
    expect(session.peer?.send("late")).toBe(false);
    expect(session.peer?.bufferedBytes).toBe(0);
    expect(await closed(client)).toEqual([4409, "wrong state"]);
    expect(session.closes).toBe(1);
  });

  it("is refused with a reply, and not known elsewhere", async () => {
    const { server, path } = await listen(new Watched().opener);
    for (const [target, status] of [
      ["/no", 404],
      ["/elsewhere", 200],
    ] as const) {
      const client = connect(path, target);
      const response = await new Promise<{ statusCode?: number | undefined }>((resolve) =>
        client.once("unexpected-response", (_, answer) => resolve(answer)),
      );
      expect(response.statusCode).toBe(status);
      client.on("error", () => {});
      client.terminate();
    }
    expect(server.counters.sockets).toBe(0);
  });

  it("is closed for a message over the limit", async () => {
    const session = new Watched();
    const { path } = await listen(session.opener);
    const client = connect(path);
    await opened(client);
    client.send("x".repeat(1001));
    expect(await closed(client)).toEqual([1006, ""]);
    await eventually(() => session.closes === 1);
    expect(session.messages).toEqual([]);
  });

  it("counts as a connection", async () => {
    const { server, path } = await listen(new Watched().opener);
    const clients = [1, 2, 3, 4, 5].map(() => connect(path));
    await Promise.all(clients.map(opened));
    expect(await new RawClient(path).untilClosed()).toMatch(/^HTTP\/1.1 503 /);
    for (const client of clients) client.terminate();
    await eventually(() => server.counters.openSockets === 0);
  });

  it("is closed with 1011 when its session fails, and nothing else is harmed", async () => {
    const { server, path } = await listen(() => () => ({
      onMessage: () => {
        throw new TypeError("broken");
      },
      onClose: () => {
        throw new TypeError("broken too");
      },
    }));
    const client = connect(path);
    await opened(client);
    client.send("x");
    expect((await closed(client))[0]).toBe(1011);
    expect(server.counters.failures).toBe(2);
  });

  it("may be closed while its session is made", async () => {
    let closes = 0;
    const { path } = await listen(() => (peer) => {
      peer.close(4404, "gone");
      return {
        onClose: () => {
          closes++;
        },
      };
    });
    expect(await closed(connect(path))).toEqual([4404, "gone"]);
    expect(closes).toBe(1);
  });

  it("whose version is not 13 is none", async () => {
    const { path } = await listen(new Watched().opener);
    const head =
      "GET /v1/a/console HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    const rest = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 8\r\n\r\n";
    expect(await exchangeRaw(path, head + rest)).toMatch(/^HTTP\/1.1 400 /);
  });
});

describe("a client that does not read", () => {
  it("is closed with 1013 when too much waits for it; others go on", async () => {
    const sessions = [new Watched(), new Watched()];
    let next = 0;
    const { server, path } = await listen((request) => sessions[next++].opener(request));
    const [slow, other] = [connect(path), connect(path)];
    await opened(slow);
    await opened(other);
    let received = 0;
    other.on("message", (data) => {
      received += (data as Buffer).length;
    });
    slow.pause();
    const end = closed(slow);
    let sent = 0;
    while (sessions[0].closes === 0) {
      const chunk = Buffer.alloc(10_000);
      sessions[0].peer?.send(chunk);
      sessions[1].peer?.send(chunk);
      sent += chunk.length;
      expect(sessions[0].peer?.bufferedBytes).toBeLessThanOrEqual(BACKLOG + chunk.length);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await eventually(() => received === sent);
    expect(server.counters.slowSockets).toBe(1);
    slow.resume();
    expect(await end).toEqual([1013, "too slow"]);
    expect(sessions[1].closes).toBe(0);
  });

  it("and then reads is told of by onDrain", async () => {
    const session = new Watched();
    const { path } = await listen(session.opener);
    const client = connect(path);
    await opened(client);
    client.pause();
    while (session.peer?.send(Buffer.alloc(10_000)));
    expect(session.peer?.bufferedBytes).toBeGreaterThan(0);
    client.resume();
    await eventually(() => session.drains > 0);
    expect(session.peer?.bufferedBytes).toBe(0);
  });
});

describe("close", () => {
  it("closes WebSockets with 1001", async () => {
    const session = new Watched();
    const { server, path } = await listen(session.opener);
    const client = connect(path);
    await opened(client);
    const end = closed(client);
    await server.close();
    expect(await end).toEqual([1001, "server closes"]);
    expect(session.closes).toBe(1);
  });
});
