/** A console as a stream: both directions, the slow, the refused and the broken. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { WebSocket } from "ws";
import { EstaloClient } from "../../../src/api/client/client.js";
import type { ConsoleStream } from "../../../src/api/client/console-stream.js";
import { PlayedServer, problem } from "../../support/played-server.js";

let server: PlayedServer;
let client: EstaloClient;

beforeEach(async () => {
  server = await PlayedServer.open();
  client = new EstaloClient({ host: server.host, timeoutMs: 10_000 });
});

afterEach(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** The server's end of the next console. */
function opened(): Promise<WebSocket> {
  return new Promise((resolve) => {
    server.onSocket = (socket) => resolve(socket);
  });
}

/** What a console ends with. */
async function failure(console: ConsoleStream): Promise<unknown> {
  const [error] = await once(console, "error");
  return error;
}

describe("a console", () => {
  it("passes bytes both ways, and ends when the microVM does", async () => {
    server.onSocket = (socket) => {
      socket.send(Buffer.from("login: "));
      socket.on("message", (data, isBinary) => {
        if (!isBinary) return;
        socket.send(data);
        if (String(data).includes("exit")) socket.close(1000, "the microVM has ended");
      });
    };
    const console = client.console("web");
    console.write("root\n");
    console.write(Buffer.from([0xff, 0x00]));
    console.write("exit\n");
    const bytes = await buffer(console);
    expect(bytes).toEqual(
      Buffer.concat([Buffer.from("login: root\n"), Buffer.from([0xff, 0]), Buffer.from("exit\n")]),
    );
    expect(server.asked).toEqual(["WS /v1/microvms/web/console?history=true&write=true"]);
    await until(() => server.connections === 0);
  });

  it("tells its size, the last one when it was said before it was open", async () => {
    const texts: string[] = [];
    const socket = opened();
    const console = client.console("web", { history: false });
    console.resize(1, 1);
    console.resize(100, 40);
    (await socket).on("message", (data, isBinary) => isBinary || texts.push(String(data)));
    await until(() => texts.length === 1);
    console.resize(80, 24);
    await until(() => texts.length === 2);
    expect(texts.map((one) => JSON.parse(one))).toEqual([
      { type: "resize", columns: 100, rows: 40 },
      { type: "resize", columns: 80, rows: 24 },
    ]);
    for (const size of [0, -1, 1.5, 65_536, Number.NaN]) {
      expect(() => console.resize(size, 1)).toThrow(/^columns: expected/);
      expect(() => console.resize(1, size)).toThrow(/^rows: expected/);
    }
    console.destroy();
  });

  it("that only looks says no size", async () => {
    const socket = opened();
    const console = client.console("web", { write: false });
    console.resize(1, 1);
    const heard: unknown[] = [];
    (await socket).on("message", (data) => heard.push(data));
    await once(console, "ready");
    console.resize(2, 2);
    console.destroy();
    await once(await socket, "close");
    expect(heard).toEqual([]);
  });

  it.each<[string, number, string, string]>([
    ["is not there", 4404, "there is no such microVM", "ERR_ESTALO_NOT_FOUND"],
    ["does not run", 4409, "the microVM is configured", "ERR_ESTALO_STATE"],
    ["is read too slowly", 1013, "output is lost", "ERR_ESTALO_CONNECT"],
    ["has a server that closes", 1001, "", "ERR_ESTALO_CONNECT"],
    ["is closed for something else", 1008, "policy", "ERR_ESTALO_REPLY"],
  ])("of a microVM that %s fails with it", async (_, closeCode, reason, code) => {
    server.onSocket = (socket) => socket.close(closeCode, reason);
    const console = client.console("web").resume();
    expect(await failure(console)).toMatchObject({ code, data: { closeCode } });
  });

  it("that breaks, is refused, or has no server, fails", async () => {
    server.onSocket = (socket) => socket.terminate();
    expect(await failure(client.console("a").resume())).toMatchObject({
      code: "ERR_ESTALO_CONNECT",
      message: expect.stringContaining("broke"),
    });
    server.refuse = () => ({ status: 403, body: problem("ERR_ESTALO_FORBIDDEN", "not you") });
    expect(await failure(client.console("a").resume())).toMatchObject({
      code: "ERR_ESTALO_FORBIDDEN",
    });
    server.refuse = () => ({ status: 200, headers: { "content-type": "text/html" }, body: "hi" });
    expect(await failure(client.console("a").resume())).toMatchObject({ code: "ERR_ESTALO_REPLY" });
    await server.down();
    expect(await failure(client.console("a").resume())).toMatchObject({
      code: "ERR_ESTALO_CONNECT",
    });
  });

  it("makes the server wait while nobody reads, and loses nothing", async () => {
    const total = 8 * 1024 * 1024;
    const chunk = Buffer.alloc(64 * 1024, "x");
    server.onSocket = (socket) => {
      for (let sent = 0; sent < total; sent += chunk.length) socket.send(chunk);
      socket.close(1000);
    };
    const console = client.console("web", { write: false });
    await once(console, "readable");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(console.readableLength).toBeLessThan(1024 * 1024);
    expect((await buffer(console)).length).toBe(total);
  });

  it("says that it is there while nobody reads: a server leaves who does not", async () => {
    const quick = new EstaloClient({ host: server.host, timeoutMs: 2000 });
    const open = opened();
    const console = quick.console("web");
    const socket = await open;
    const pong = once(socket, "pong");
    socket.send(Buffer.alloc(2 ** 20));
    await pong;
    expect(console.readableLength).toBeGreaterThan(0);
    await quick[Symbol.asyncDispose]();
  });

  it("waits for a guest that does not read, before the server minds", async () => {
    const socket = await (async () => {
      const next = opened();
      const console = client.console("web");
      console.write(Buffer.alloc(1024 * 1024, "y"), () => {
        isWritten = true;
      });
      console.resume();
      return next;
    })();
    let heard = 0;
    let taken = 0;
    let most = 0;
    socket.on("message", (data, isBinary) => {
      if (!isBinary) return;
      heard += (data as Buffer).length;
      most = Math.max(most, heard - taken);
    });
    await until(() => heard >= 176 * 1024);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(isWritten).toBe(false);
    while (heard < 1024 * 1024) {
      taken = heard;
      socket.send(JSON.stringify({ type: "taken", bytes: taken }));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(most).toBeLessThan(256 * 1024);
    await until(() => isWritten);
    socket.close(1000);
  });

  it("minds no text that it does not know", async () => {
    server.onSocket = (socket) => {
      for (const one of ["x", "{}", "null", "7", '{"type":"taken","bytes":-1}', '{"type":"new"}']) {
        socket.send(one);
      }
      socket.send(Buffer.from("still there"));
      socket.close(1000);
    };
    expect(await text(client.console("web"))).toBe("still there");
  });

  it("fails when its signal aborts, before and after it is open", async () => {
    const aborted = client.console("web", { signal: AbortSignal.abort() });
    expect(await failure(aborted)).toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    const socket = opened();
    const aborting = new AbortController();
    const console = client.console("web", { signal: aborting.signal });
    await socket;
    await once(console, "ready");
    const failed = failure(console);
    aborting.abort();
    expect(await failed).toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    await until(() => server.connections === 0);
  });

  it("ends at once while it connects to a server that says nothing", async () => {
    const path = join(server.path, "..", "mute.sock");
    const sockets = new Set<Socket>();
    const mute = createServer((socket) => sockets.add(socket.resume()));
    await once(mute.listen(path), "listening");
    // Longer than any test waits.
    const own = new EstaloClient({ host: `unix://${path}`, timeoutMs: 3_600_000 });
    const aborting = new AbortController();
    const aborted = own.console("web", { signal: aborting.signal });
    const [destroyed, closed] = [own.console("web"), own.console("web")];
    await until(() => sockets.size === 3);
    const failed = failure(aborted);
    aborting.abort();
    expect(await failed).toMatchObject({ code: "ERR_ESTALO_ABORTED" });
    destroyed.destroy();
    await once(destroyed, "close");
    // Without an error, as its user did nothing wrong.
    const ended = once(closed, "close");
    await own[Symbol.asyncDispose]();
    await ended;
    await new Promise((resolve) => mute.close(resolve));
  });

  it("that is destroyed leaves nothing open, even with a server that does not answer", async () => {
    const socket = opened();
    const console = client.console("web");
    await once(console, "ready");
    const deaf = ((await socket) as unknown as { _socket: Socket })._socket;
    deaf.pause();
    const pipes = () => process.getActiveResourcesInfo().filter((one) => one === "PipeWrap").length;
    const before = pipes();
    console.destroy();
    await once(console, "close");
    await until(() => pipes() < before);
    deaf.destroy();
  });

  it("ends quietly with its client", async () => {
    const console = client.console("web");
    server.onSocket = () => {};
    await once(console, "ready");
    await client[Symbol.asyncDispose]();
    await once(console, "close");
    await until(() => server.connections === 0);
  });
});

let isWritten = false;
beforeEach(() => {
  isWritten = false;
});

/** Waits for a condition. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}
