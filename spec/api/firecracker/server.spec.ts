import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { serveFirecracker } from "../../../src/api/firecracker/server.js";
import type { ApiServer } from "../../../src/api/server.js";
import { fakeDoor } from "../../support/firecracker-door.js";
import { exchangeRaw, RawClient } from "../../support/raw-http.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

let server: ApiServer;
let socketPath: string;
let sockets = 0;
beforeEach(async () => {
  socketPath = join(scratch.path, `${sockets++}.sock`);
  server = await serveFirecracker(fakeDoor().door, { socketPath, maxPayloadBytes: 200 });
});
afterEach(() => server.close({ timeoutMs: 100 }));

const head = (method: string, path: string, body = "") =>
  `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

/** Status line and headers, and the body. */
async function exchange(request: string, end: RegExp) {
  const text = await exchangeRaw(socketPath, request, end);
  const [top, body] = text.split("\r\n\r\n");
  const [status, ...headers] = top.split("\r\n");
  return { status, headers, body };
}

describe("serveFirecracker", () => {
  it("answers a write with a status and no body, as Firecracker's parser writes it", async () => {
    const put = head("PUT", "/entropy", "{}");
    const { status, headers, body } = await exchange(put, /\r\n\r\n/);
    expect(status).toBe("HTTP/1.1 204 ");
    expect(headers).toContain("Server: Firecracker API");
    expect(headers).toContain("Connection: keep-alive");
    expect(headers.join()).not.toMatch(/content-(length|type)/i);
    expect(body).toBe("");
  });

  it("answers a read with JSON", async () => {
    const { status, headers, body } = await exchange(head("GET", "/version"), /\}$/);
    expect(status).toBe("HTTP/1.1 200 ");
    expect(headers).toContain("Content-Type: application/json");
    expect(headers).toContain("Content-Length: 32");
    expect(body).toBe('{"firecracker_version":"1.16.1"}');
  });

  it("marks what is deprecated", async () => {
    const body = '{"cpu_template": "None"}';
    const { headers } = await exchange(head("PATCH", "/machine-config", body), /\r\n\r\n/);
    expect(headers).toContain("Deprecation: true");
  });

  it.each([
    [head("GET", "/nowhere"), "Invalid request method and/or path: GET nowhere."],
    [head("GET", "/version?x"), "Invalid request method and/or path: GET version?x."],
    [head("PUT", "/actions"), "Empty PUT request."],
    [head("GET", "/", "{}"), "GET request cannot have a body."],
    [head("DELETE", "/drives/a", "{}"), "Empty Delete request."],
    [
      head("PUT", "/drives/..", "{}"),
      "API Resource IDs can only contain alphanumeric characters and underscores.",
    ],
    [
      head("PUT", "/actions", "\xff\xfe"),
      "An error occurred when deserializing the json body of a request: expected value at line 1 column 1.",
    ],
  ])("refuses %j", async (request, message) => {
    const { status, body } = await exchange(request, /\}$/);
    expect(status).toBe("HTTP/1.1 400 ");
    expect(JSON.parse(body)).toEqual({ fault_message: message });
  });

  it("refuses bodies over the limit, by what they say their length is", async () => {
    const { status, body } = await exchange(head("PUT", "/entropy", "x".repeat(201)), /\}$/);
    expect(status).toBe("HTTP/1.1 400 ");
    expect(body).toContain(
      '{ "error": "Request payload with size 201 is larger than the limit of 200 allowed by server.\n',
    );
  });

  it("takes requests that come at once, on one connection and in their order", async () => {
    const client = new RawClient(socketPath);
    client.send(head("PUT", "/actions", '{"action_type":"InstanceStart"}') + head("GET", "/"));
    const text = await client.until(/Firecracker"\}/);
    expect(text.indexOf("204")).toBeLessThan(text.indexOf('"state":"Running"'));
    client.destroy();
  });

  it("tells the eleventh connection that it is one too many", async () => {
    const clients: RawClient[] = [];
    for (let index = 0; index < 10; index++) {
      clients.push(await new RawClient(socketPath).untilConnected());
      await clients[index].send(head("GET", "/version")).until(/\}/);
    }
    const text = await new RawClient(socketPath).untilClosed();
    expect(text).toMatch(/^HTTP\/1\.1 503 /);
    expect(text).toContain('{ "error": "Too many open connections" }');
    clients[0].destroy();
    await expect
      .poll(async () => {
        const again = new RawClient(socketPath).send(head("GET", "/version"));
        const answer = await Promise.race([again.until(/\}/), again.untilClosed()]);
        again.destroy();
        return answer;
      })
      .toContain("firecracker_version");
    for (const client of clients) client.destroy();
  });

  it("does not take a path that is there", async () => {
    await expect(
      serveFirecracker(fakeDoor().door, { socketPath, maxPayloadBytes: 200 }),
    ).rejects.toMatchObject({ code: "ERR_ESTALO_LISTEN" });
  });
});
