/** The client as a whole, beside what its parts' specs see: its options, and TLS and TCP. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createPlainServer } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocketServer } from "ws";
import { EstaloClient } from "../../../src/api/client/client.js";

const INFO = { version: "1", apiVersion: "v1" };

describe("an EstaloClient", () => {
  it.each([
    { timeoutMs: 0 },
    { timeoutMs: 2 ** 31 },
    { timeoutMs: 1.5 },
    { replyBytesMax: 0 },
    { host: "nowhere" },
  ])("refuses %o", (options) => {
    expect(() => new EstaloClient(options)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });

  it("knows where its server is", () => {
    const local = new EstaloClient({ host: "unix:///run/x.sock" });
    expect([local.host, local.isLocal]).toEqual(["unix:///run/x.sock", true]);
    const remote = new EstaloClient({ host: "https://a:8443" });
    expect([remote.host, remote.isLocal]).toEqual(["https://a:8443", false]);
  });

  it("may be closed twice", async () => {
    const client = new EstaloClient({ host: "unix:///run/x.sock" });
    await client[Symbol.asyncDispose]();
    await client[Symbol.asyncDispose]();
  });
});

function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}

function close(server: Server & { closeAllConnections(): void }): Promise<unknown> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
}

describe("over TCP", () => {
  it("calls and streams", async () => {
    const server = createPlainServer((_request, response) => {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(INFO));
    });
    greetSockets(server);
    const port = await listen(server);
    await using client = new EstaloClient({ host: `http://127.0.0.1:${port}`, token: "t" });
    expect(await client.info()).toEqual(INFO);
    expect((await client.events().next()).value).toMatchObject({ sequence: 1 });
    await client[Symbol.asyncDispose]();
    await close(server);
  });
});

function greetSockets(server: ReturnType<typeof createPlainServer>): void {
  new WebSocketServer({ server }).on("connection", (socket, { headers }) => {
    expect(headers.authorization).toBe("Bearer t");
    socket.send('{"type":"hello","oldest":1,"newest":0}');
    socket.send('{"sequence":1,"atMs":1,"microvm":"a","name":"a","type":"booted"}');
  });
}

describe("over TLS", () => {
  const folder = mkdtempSync(join(tmpdir(), "estalo-tls-"));
  const read = (name: string) => readFileSync(join(folder, name), "utf8");
  let server: ReturnType<typeof createServer>;
  let host: string;

  beforeAll(async () => {
    const make = (name: string, subject: string) =>
      execFileSync(
        "openssl",
        [
          ...[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
          ],
          ...["-days", "2", "-subj", `/CN=${subject}`, "-addext", "subjectAltName=IP:127.0.0.1"],
          ...["-keyout", join(folder, `${name}.key`), "-out", join(folder, `${name}.pem`)],
        ],
        { stdio: "ignore" },
      );
    make("server", "server");
    make("client", "client");
    const tls = { key: read("server.key"), cert: read("server.pem"), ca: read("client.pem") };
    server = createServer({ ...tls, requestCert: true }, (_request, response) => {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(INFO));
    });
    greetSockets(server);
    host = `https://127.0.0.1:${await listen(server)}`;
  });

  afterAll(async () => {
    await close(server);
    rmSync(folder, { recursive: true });
  });

  it("trusts the certificate it is told, shows its own, calls and streams", async () => {
    const tls = { ca: read("server.pem"), cert: read("client.pem"), key: read("client.key") };
    await using client = new EstaloClient({ host, tls, token: "t" });
    expect(await client.info()).toEqual(INFO);
    expect((await client.events().next()).value).toMatchObject({ sequence: 1 });
  });

  it("does not talk to a server whose certificate it does not trust", async () => {
    await using client = new EstaloClient({ host, tls: {} });
    const expected = {
      code: "ERR_ESTALO_CONNECT",
      hint: "ESTALO_TLS_CA names the certificate that signs the server's",
    };
    await expect(client.info()).rejects.toMatchObject(expected);
    await expect(client.events().next()).rejects.toMatchObject(expected);
  });

  it("says when the other side speaks no TLS", async () => {
    const plain = createPlainServer(() => {});
    const port = await listen(plain);
    await using client = new EstaloClient({ host: `https://127.0.0.1:${port}`, tls: {} });
    await expect(client.info()).rejects.toMatchObject({ code: "ERR_ESTALO_CONNECT" });
    await close(plain);
  });
});
