import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { ApiServer } from "../../src/api/server.js";
import type { ServerOptions } from "../../src/api/server-options.js";
import { exchangeRaw } from "../support/raw-http.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-server-"));
const servers: ApiServer[] = [];
let count = 0;

async function listen(options: Partial<ServerOptions>) {
  const path = join(folder, `s${count++}`);
  const server = await ApiServer.listen({
    address: { path },
    handler: (request) => ({ status: 200, body: JSON.stringify({ path: request.path }) }),
    ...options,
  });
  servers.push(server);
  return { server, path };
}
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close({ timeoutMs: 100 });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("a request", () => {
  it("is answered", async () => {
    const { path } = await listen({});
    const text = await exchangeRaw(path, "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", /\}$/);
    expect(text).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    expect(text).toContain('{"path":"/a"}');
  });
});
