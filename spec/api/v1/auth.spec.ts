/** Who gets in: tokens, hosts and origins, on a Unix socket, TCP and TLS. */
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { WebSocket } from "ws";
import { AccessPolicy, TokenFile } from "../../../src/api/v1/auth.js";
import { makeAuthority, makeCertificate } from "../../support/certificates.js";
import { DoorHost, sendTo } from "../../support/door-host.js";

const broken = vi.hoisted(() => ({ path: "" }));
vi.mock("node:fs", async (importOriginal) => {
  const fs = await importOriginal<typeof import("node:fs")>();
  const readFileSync = (...words: Parameters<typeof fs.readFileSync>) => {
    if (words[0] !== broken.path) return fs.readFileSync(...words);
    throw Object.assign(new Error("EMFILE"), { code: "EMFILE" });
  };
  return { ...fs, readFileSync };
});

const GOOD = "0123456789abcdef.secret";
const OTHER = "fedcba9876543210.secret";
const folder = mkdtempSync(join(tmpdir(), "estalo-auth-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function tokenFile(text: string, mode = 0o600): string {
  files += 1;
  const path = join(folder, `token${files}`);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function policyOf(options: Partial<ConstructorParameters<typeof AccessPolicy>[0]> = {}) {
  const policy = new AccessPolicy({ hosts: [], origins: [], ...options });
  const admit = (headers: Record<string, string>, path = "/v1/info", method = "GET") =>
    policy.admit({ method, path, header: (name) => headers[name] });
  return { policy, admit };
}

describe("TokenFile", () => {
  it("has the tokens of its lines", () => {
    const file = new TokenFile(tokenFile(`# a comment\n${GOOD}\n\n  ${OTHER}  \n`));
    expect([GOOD, OTHER, "", `${GOOD}x`, "# a comment"].map((token) => file.has(token))).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  it.each([0o644, 0o640, 0o602, 0o660])("refuses a file of mode %o", (mode) => {
    expect(() => new TokenFile(tokenFile(GOOD, mode))).toThrow(/others may read or change it/);
  });

  it.each(["", "\n# nothing\n", "short", "with space in it 0123", `${"x".repeat(600)}`])(
    "refuses a file with %j",
    (text) => {
      expect(() => new TokenFile(tokenFile(text))).toThrow(
        expect.objectContaining({ code: "ERR_ESTALO_LISTEN" }),
      );
    },
  );

  it("is read again when the host could not read it, though it is the same as then", () => {
    const path = tokenFile(GOOD);
    const file = new TokenFile(path);
    writeFileSync(path, `${OTHER}\n`);
    broken.path = path;
    expect([GOOD, OTHER].map((token) => file.has(token))).toEqual([false, false]);
    broken.path = "";
    expect([GOOD, OTHER].map((token) => file.has(token))).toEqual([false, true]);
  });

  it("does not show the token that is wrong", () => {
    expect(() => new TokenFile(tokenFile("sec!ret"))).toThrow(/^(?!.*sec!ret)/s);
  });

  it("refuses a file that is not there", () => {
    expect(() => new TokenFile(join(folder, "none"))).toThrow(/ENOENT/);
  });

  it("follows the file: new tokens, old ones, none when it cannot be used", () => {
    const path = tokenFile(GOOD);
    const file = new TokenFile(path);
    renameSync(tokenFile(OTHER), path);
    expect([file.has(GOOD), file.has(OTHER)]).toEqual([false, true]);
    chmodSync(path, 0o644);
    expect(file.has(OTHER)).toBe(false);
    expect(() => file.reload()).toThrow(/chmod|others/);
    chmodSync(path, 0o600);
    expect(file.has(OTHER)).toBe(true);
    rmSync(path);
    expect(file.has(OTHER)).toBe(false);
  });
});

describe("AccessPolicy", () => {
  it.each([
    "localhost",
    "LocalHost:80",
    "vm.localhost",
    "127.0.0.1:8080",
    "192.168.1.7",
    "[::1]:443",
    "",
    "name.example:1",
  ])("answers to the host %j", (host) => {
    const { admit } = policyOf({ hosts: ["Name.Example"] });
    expect(admit({ host })).toBeUndefined();
  });

  it.each([
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost@evil.example",
    "[::1].evil",
    "a b",
    "localhost:80:80",
    "localhost:x",
    "[evil]",
    "1.2.3.4.5",
  ])("does not answer to the host %j", (host) => {
    const { admit, policy } = policyOf({ hosts: ["name.example"] });
    expect(admit({ host })?.status).toBe(403);
    expect(policy.counts.host).toBe(1);
  });

  it.each([
    ["http://localhost:81", 403],
    ["https://evil.example", 403],
    ["null", 403],
    ["", 403],
    ["http://localhost:80", undefined],
    ["https://localhost:80", undefined],
    ["https://good.example", undefined],
  ])("answers a page of %j with %s", (origin, status) => {
    const { admit } = policyOf({ origins: ["https://good.example"] });
    expect(admit({ host: "localhost:80", origin })?.status).toBe(status);
  });

  it("tells the browser of an allowed page what it may send, before any token", () => {
    const { admit, policy } = policyOf({
      origins: ["https://good.example"],
      tokens: new TokenFile(tokenFile(GOOD)),
    });
    const headers = {
      host: "localhost",
      origin: "https://good.example",
      "access-control-request-method": "POST",
    };
    expect(admit(headers, "/v1/microvms", "OPTIONS")).toMatchObject({
      status: 204,
      headers: { "Access-Control-Allow-Origin": "https://good.example" },
    });
    expect(policy.originHeaders({ header: () => "https://other.example" })).toEqual({});
  });

  it.each([
    [{}, 401, "missingToken"],
    [{ authorization: "" }, 401, "missingToken"],
    [{ authorization: `Basic ${GOOD}` }, 401, "missingToken"],
    [{ authorization: "Bearer" }, 401, "missingToken"],
    [{ authorization: `Bearer ${OTHER}` }, 401, "wrongToken"],
    [{ authorization: `Bearer ${GOOD}x` }, 401, "wrongToken"],
    [{ "sec-websocket-protocol": `estalo, estalo.bearer.${OTHER}` }, 401, "wrongToken"],
    [{ authorization: `Bearer ${GOOD}` }, undefined, undefined],
    [{ authorization: `bearer   ${GOOD} ` }, undefined, undefined],
    [{ "sec-websocket-protocol": `estalo, estalo.bearer.${GOOD}` }, undefined, undefined],
  ])("with a token: %j gets %s", (headers, status, counted) => {
    const { admit, policy } = policyOf({ tokens: new TokenFile(tokenFile(GOOD)) });
    const reply = admit(headers as Record<string, string>);
    expect(reply?.status).toBe(status);
    if (status === 401) expect(reply?.headers).toMatchObject({ "WWW-Authenticate": "Bearer" });
    const { missingToken, wrongToken } = policy.counts;
    expect({ missingToken, wrongToken }).toEqual({
      missingToken: 0,
      wrongToken: 0,
      ...(counted === undefined ? {} : { [counted]: 1 }),
    });
  });

  it("asks a probe for no token", () => {
    const { admit } = policyOf({ tokens: new TokenFile(tokenFile(GOOD)) });
    expect(admit({}, "/healthz")).toBeUndefined();
    expect(admit({}, "/readyz")?.status).toBe(401);
    expect(admit({}, "/openapi.json")?.status).toBe(401);
  });
});

describe("a door", () => {
  let host: DoorHost;
  beforeAll(async () => {
    host = await DoorHost.open();
    makeAuthority(folder, "ca");
    makeAuthority(folder, "stranger");
    for (const name of ["server", "client"]) makeCertificate(folder, name, "ca");
    makeCertificate(folder, "guest", "stranger");
  });
  afterAll(() => host.close());

  const closeCode = async (socket: WebSocket) => {
    const opened = once(socket, "open");
    opened.catch(() => {});
    const [first] = await once(socket, "message");
    socket.close();
    return JSON.parse(String(first)).type;
  };

  it("on a Unix socket asks for no token, but looks at Host and Origin", async () => {
    expect((await host.send("GET", "/v1/info")).status).toBe(200);
    const evil = await host.send("GET", "/v1/info", { headers: { host: "evil.example" } });
    expect(evil).toMatchObject({ status: 403, json: { error: { code: "ERR_ESTALO_FORBIDDEN" } } });
    const page = await host.send("GET", "/v1/info", { headers: { origin: "http://evil.example" } });
    expect(page.status).toBe(403);
  });

  it("refuses the WebSocket of a strange page before the upgrade", async () => {
    const socket = new WebSocket(`ws+unix://${host.path}:/v1/events`, {
      origin: "http://evil.example",
    });
    const [error] = await once(socket, "error");
    expect(String(error)).toContain("403");
  });

  it("on TCP lets in who has the token, on WebSockets too", async () => {
    const server = await host.door.listen(
      { host: "127.0.0.1", port: 0 },
      { hosts: [], origins: [], tokens: new TokenFile(tokenFile(GOOD)) },
    );
    const target = { host: "127.0.0.1", port: server.port as number };
    const authorization = `Bearer ${GOOD}`;
    expect((await sendTo(target, "GET", "/v1/info")).status).toBe(401);
    const good = await sendTo(target, "GET", "/v1/info", { headers: { authorization } });
    expect(good.status).toBe(200);
    const url = `ws://127.0.0.1:${server.port}/v1/events`;
    const byHeader = new WebSocket(url, { headers: { authorization } });
    expect(await closeCode(byHeader)).toBe("hello");
    const byProtocol = new WebSocket(url, ["estalo", `estalo.bearer.${GOOD}`]);
    expect(await closeCode(byProtocol)).toBe("hello");
    expect(byProtocol.protocol).toBe("estalo");
    const [error] = await once(new WebSocket(url, ["estalo", "estalo.bearer.x"]), "error");
    expect(String(error)).toContain("401");
  });

  const overTls = (port: number, name?: string) =>
    new Promise<number | string>((resolve) => {
      const certificate =
        name === undefined
          ? {}
          : {
              cert: readFileSync(join(folder, `${name}.crt`)),
              key: readFileSync(join(folder, `${name}.key`)),
            };
      const ca = readFileSync(join(folder, "ca.crt"));
      const options = {
        host: "localhost",
        port,
        path: "/v1/info",
        ca,
        agent: false,
        ...certificate,
      };
      const outgoing = request(options, (reply) => {
        reply.resume();
        resolve(reply.statusCode ?? 0);
      });
      outgoing.on("error", () => resolve("no connection"));
      outgoing.end();
    });

  it("with mutual TLS lets in who has a certificate of its authority", async () => {
    const tls = {
      certFile: join(folder, "server.crt"),
      keyFile: join(folder, "server.key"),
      clientCaFile: join(folder, "ca.crt"),
    };
    const server = await host.door.listen(
      { host: "localhost", port: 0, tls },
      { hosts: [], origins: [] },
    );
    const port = server.port as number;
    expect(await overTls(port, "client")).toBe(200);
    expect(await overTls(port, "guest")).toBe("no connection");
    expect(await overTls(port)).toBe("no connection");
  });

  it("takes new TLS files when told, and keeps the old ones when those are wrong", async () => {
    const [certFile, keyFile] = [join(folder, "new.crt"), join(folder, "new.key")];
    const use = (name: string) => {
      writeFileSync(certFile, readFileSync(join(folder, `${name}.crt`)));
      writeFileSync(keyFile, readFileSync(join(folder, `${name}.key`)));
    };
    use("guest");
    const server = await host.door.listen(
      { host: "127.0.0.1", port: 0, tls: { certFile, keyFile } },
      { hosts: [], origins: [], tokens: new TokenFile(tokenFile(GOOD)) },
    );
    const port = server.port as number;
    // Its certificate is a stranger's.
    expect(await overTls(port)).toBe("no connection");
    use("server");
    host.door.reloadTls();
    expect(await overTls(port)).toBe(401);
    writeFileSync(keyFile, "no key");
    expect(() => host.door.reloadTls()).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_LISTEN" }),
    );
    expect(await overTls(port)).toBe(401);
  });
});
