import { readdirSync, readFileSync } from "node:fs";
import { get } from "node:https";
import { Server } from "node:net";
import { tmpdir } from "node:os";
import { connect as connectTls } from "node:tls";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import WebSocket from "ws";
import { ApiServer } from "../../src/api/server.js";
import type { TlsFiles } from "../../src/api/tls-front.js";
import { eventually } from "../support/api-server.js";
import { RawClient } from "../support/raw-http.js";

const file = (name: string) => new URL(`../support/tls/${name}.pem`, import.meta.url).pathname;
const pem = (name: string) => readFileSync(file(name));
const files: TlsFiles = { certFile: file("server"), keyFile: file("server-key") };
const mutual: TlsFiles = { ...files, clientCaFile: file("ca") };
const client = { cert: pem("client"), key: pem("client-key") };

const folders = () => readdirSync(tmpdir()).filter((name) => name.startsWith("estalo-tls-"));
const before = folders();
const servers: ApiServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close({ timeoutMs: 100 });
});
afterAll(() => expect(folders()).toEqual(before));

async function listen(tls: TlsFiles) {
  const server = await ApiServer.listen({
    address: { host: "localhost", port: 0, tls },
    handler: ({ path }) => ({ status: 200, body: JSON.stringify({ path }) }),
    sockets: {
      "/ws": () => (peer) => ({ onMessage: (data) => void peer.send(data), onClose() {} }),
    },
  });
  servers.push(server);
  return { server, port: server.port ?? 0 };
}

function ask(port: number, more: object = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path: "/a", ca: pem("ca"), agent: false, ...more };
    get(options, (reply) => {
      let text = `${reply.statusCode} `;
      reply.on("data", (data) => {
        text += data;
      });
      reply.on("end", () => resolve(text));
    }).on("error", reject);
  });
}

describe("a server with TLS", () => {
  it("answers, on 127.0.0.1 for localhost", async () => {
    const { port } = await listen(files);
    expect(await ask(port)).toBe('200 {"path":"/a"}');
  });

  it("carries WebSockets", async () => {
    const { server, port } = await listen(mutual);
    const socket = new WebSocket(`wss://localhost:${port}/ws`, { ca: pem("ca"), ...client });
    await new Promise((resolve) => socket.once("open", resolve));
    socket.send("hello");
    const message = await new Promise((resolve) => socket.once("message", resolve));
    expect(String(message)).toBe("hello");
    socket.terminate();
    await eventually(() => server.counters.openSockets === 0);
  });

  it("goes on when connections cannot be accepted for a while", async () => {
    const listening = vi.spyOn(Server.prototype, "listen");
    const { port } = await listen(files);
    const [front] = listening.mock.contexts as Server[];
    listening.mockRestore();
    const emfile = Object.assign(new Error("accept EMFILE"), { code: "EMFILE" });
    for (let count = 0; count < 2; count++) front.emit("error", emfile);
    expect(await ask(port)).toBe('200 {"path":"/a"}');
  });

  it("takes TLS 1.2 and later only, and no plain HTTP", async () => {
    const { port } = await listen(files);
    const old = new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port, rejectUnauthorized: false };
      const range = { minVersion: "TLSv1.1", maxVersion: "TLSv1.1" } as const;
      const socket = connectTls({ ...options, ...range, ciphers: "DEFAULT@SECLEVEL=0" }, () => {
        socket.destroy();
        resolve(undefined);
      });
      socket.once("error", reject);
    });
    await expect(old).rejects.toThrow();
    const plain = new RawClient({ host: "127.0.0.1", port }).send(
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    expect(await plain.untilClosed()).not.toContain("HTTP");
  });
});

describe("a server with an authority for its clients", () => {
  it("answers those with a certificate of it", async () => {
    const { port } = await listen(mutual);
    expect(await ask(port, client)).toBe('200 {"path":"/a"}');
  });

  it("does not see a request of anybody else", async () => {
    const { server, port } = await listen(mutual);
    await expect(ask(port)).rejects.toThrow();
    const stranger = { cert: pem("stranger"), key: pem("stranger-key") };
    await expect(ask(port, stranger)).rejects.toThrow();
    expect(server.counters.requests).toBe(0);
  });
});

describe("a server does not start", () => {
  it.each<[string, TlsFiles]>([
    ["without its files", { certFile: "/nowhere", keyFile: "/nowhere" }],
    ["with another's key", { certFile: file("server"), keyFile: file("client-key") }],
    ["with files that are no PEM", { certFile: file("server"), keyFile: "/etc/hostname" }],
    ["without its clients' authority", { ...files, clientCaFile: "/nowhere" }],
    ["with an authority that is none", { ...files, clientCaFile: "/etc/hostname" }],
  ])("%s", async (_, tls) => {
    await expect(listen(tls)).rejects.toMatchObject({ code: "ERR_ESTALO_LISTEN" });
  });

  it("on a port that is taken", async () => {
    const { port } = await listen(files);
    const address = { host: "127.0.0.1", port, tls: files };
    const second = ApiServer.listen({ address, handler: () => ({ status: 200 }) });
    await expect(second).rejects.toMatchObject({
      code: "ERR_ESTALO_LISTEN",
      data: { errno: "EADDRINUSE" },
    });
  });
});
