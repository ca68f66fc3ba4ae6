import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { ApiServer } from "../../src/api/server.js";
import { SpecServers } from "../support/api-server.js";
import { exchangeRaw } from "../support/raw-http.js";

const servers = new SpecServers();
afterEach(() => servers.closeAll());
afterAll(() => servers.drop());

const GET = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const listen = (path: string, removeStale = false) =>
  servers.listen({ address: { path, removeStale } });
const refused = (text: RegExp, errno?: string) => ({
  code: "ERR_ESTALO_LISTEN",
  message: expect.stringMatching(text),
  data: expect.objectContaining(errno === undefined ? {} : { errno }),
});

/** A socket whose process is gone. */
function leaveSocket(): string {
  const path = servers.path();
  const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
  spawnSync(process.execPath, ["-e", script]);
  expect(lstatSync(path).isSocket()).toBe(true);
  return path;
}

/** A path of so many bytes. */
const pathOf = (bytes: number) => {
  const start = `${servers.folder}/é`;
  return start + "x".repeat(bytes - Buffer.byteLength(start));
};

describe("a socket", () => {
  it("has mode 0600, whatever the umask, and goes with its server", async () => {
    const before = process.umask(0);
    const { server, path } = await listen(servers.path());
    process.umask(before);
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    await server.close();
    expect(existsSync(path)).toBe(false);
  });

  it("may have 107 bytes in its path, and no more", async () => {
    await listen(pathOf(107));
    expect(await exchangeRaw(pathOf(107), GET, /\}$/)).toMatch(/^HTTP\/1.1 200/);
    await expect(listen(pathOf(108))).rejects.toMatchObject(
      refused(/1 to 107 bytes/, "ENAMETOOLONG"),
    );
    await expect(listen(pathOf(5000))).rejects.toMatchObject(refused(/this one has 5000/));
  });

  it.each(["", "a\0b"])("is not made at %j", async (path) => {
    await expect(listen(path)).rejects.toMatchObject(refused(/no NUL/));
  });

  it("is not made where there is no folder", async () => {
    await expect(listen(join(servers.folder, "none/x"))).rejects.toMatchObject(refused(/refused/));
  });

  it.each([false, true])("does not take another server's path (removeStale %s)", async (stale) => {
    const { path } = await listen(servers.path());
    await expect(listen(path, stale)).rejects.toMatchObject(refused(/listen|name/, "EADDRINUSE"));
    expect(await exchangeRaw(path, GET, /\}$/)).toMatch(/^HTTP\/1.1 200/);
  });

  it.each([false, true])("does not take a file's path (removeStale %s)", async (stale) => {
    const path = servers.path();
    writeFileSync(path, "precious");
    await expect(listen(path, stale)).rejects.toMatchObject(refused(/no socket/, "EEXIST"));
    const link = servers.path();
    symlinkSync(leaveSocket(), link);
    await expect(listen(link, stale)).rejects.toMatchObject(refused(/no socket/, "EEXIST"));
  });

  it("takes a dead server's path when told to, and only then", async () => {
    const path = leaveSocket();
    await expect(listen(path)).rejects.toMatchObject(refused(/already/));
    await listen(path, true);
    expect(await exchangeRaw(path, GET, /\}$/)).toMatch(/^HTTP\/1.1 200/);
  });

  it("stays when it is another's by now", async () => {
    const { server, path } = await listen(servers.path());
    unlinkSync(path);
    await listen(path);
    await server.close();
    expect(await exchangeRaw(path, GET, /\}$/)).toMatch(/^HTTP\/1.1 200/);
  });
});

describe("a TCP port", () => {
  it("is not shared", async () => {
    const { server } = await servers.listen({ address: { host: "127.0.0.1", port: 0 } });
    const port = server.port ?? 0;
    const reply = await exchangeRaw({ host: "127.0.0.1", port }, GET, /\}$/);
    expect(reply).toMatch(/^HTTP\/1.1 200/);
    const address = { host: "127.0.0.1", port };
    const second = ApiServer.listen({ address, handler: () => ({ status: 200 }) });
    await expect(second).rejects.toMatchObject(refused(/127.0.0.1:\d+/));
  });

  it("is not had at an address of somebody else", async () => {
    const address = { host: "192.0.2.1", port: 0 };
    const none = ApiServer.listen({ address, handler: () => ({ status: 200 }) });
    await expect(none).rejects.toMatchObject(refused(/192.0.2.1:0/));
  });
});
