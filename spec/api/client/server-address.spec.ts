/** Which server is meant: options, environment, defaults, and what cannot be one. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { resolveServer, type ServerOptions } from "../../../src/api/client/server-address.js";
import { EstaloError } from "../../../src/errors.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-address-"));
afterAll(() => rmSync(folder, { recursive: true }));

const resolve = (options: ServerOptions = {}, env: Record<string, string> = {}, isRoot = false) =>
  resolveServer(options, { env, isRoot, homeFolder: "/home/me" });

function codeOf(work: () => unknown): string | undefined {
  try {
    work();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(EstaloError);
    return (error as EstaloError).code;
  }
}

describe("the server that is meant", () => {
  it.each<[string, Record<string, string>, boolean, string]>([
    ["of a session", { XDG_RUNTIME_DIR: "/run/user/7" }, false, "/run/user/7/estalo/estalo.sock"],
    ["of root", {}, true, "/run/estalo/estalo.sock"],
    ["of a user without a session", {}, false, "/home/me/.estalo/estalo.sock"],
    ["when ESTALO_HOST is empty", { ESTALO_HOST: "" }, true, "/run/estalo/estalo.sock"],
  ])("is the default socket %s", (_, env, isRoot, path) => {
    expect(resolve({}, env, isRoot)).toMatchObject({ socketPath: path, name: `unix://${path}` });
  });

  it("is the option's before the environment's", () => {
    const env = { ESTALO_HOST: "http://a:1", ESTALO_TOKEN: "of-env" };
    expect(resolve({}, env)).toMatchObject({ hostname: "a", port: 1, token: "of-env" });
    const options = { host: "https://b", token: "of-option" };
    expect(resolve(options, env)).toMatchObject({
      hostname: "b",
      port: 443,
      isSecure: true,
      token: "of-option",
    });
  });

  it.each<[string, object]>([
    ["unix:///run/x.sock", { socketPath: "/run/x.sock" }],
    ["unix:///run/a:b.sock", { socketPath: "/run/a:b.sock" }],
    ["/run/x.sock", { socketPath: "/run/x.sock", name: "unix:///run/x.sock" }],
    ["http://localhost:8080", { hostname: "localhost", port: 8080, isSecure: false }],
    ["http://localhost:8080/", { name: "http://localhost:8080" }],
    ["https://[::1]:8443", { hostname: "::1", port: 8443, isSecure: true }],
  ])("may be said as %s", (host, expected) => {
    expect(resolve({ host })).toMatchObject(expected);
  });

  it.each([
    "",
    "unix://relative.sock",
    "unix://",
    "localhost:80",
    "ftp://host",
    "http://",
    "http://host/path",
    "http://host?x",
    "http://user@host",
    "http://host:99999",
    `unix:///${"x".repeat(107)}`,
    "unix:///a\0b",
  ])("cannot be %j", (host) => {
    expect(codeOf(() => resolve({ host }))).toBe("ERR_ESTALO_CONFIG_INVALID");
  });

  it("is one or an error, whatever is said", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.webUrl(),
          fc.string().map((s) => `http://${s}`),
        ),
        (host) => {
          expect([undefined, "ERR_ESTALO_CONFIG_INVALID"]).toContain(
            codeOf(() => resolve({ host })),
          );
        },
      ),
    );
  });
});

describe("how a client shows itself", () => {
  it("takes token and TLS files from the environment", () => {
    const file = (name: string, text: string) => {
      const path = join(folder, name);
      writeFileSync(path, text);
      return path;
    };
    const env = {
      ESTALO_TOKEN_FILE: file("token", "secret\n"),
      ESTALO_TLS_CA: file("ca", "CA"),
      ESTALO_TLS_CERT: file("cert", "CERT"),
      ESTALO_TLS_KEY: file("key", "KEY"),
    };
    expect(resolve({}, env)).toMatchObject({
      token: "secret",
      tls: { ca: "CA", cert: "CERT", key: "KEY" },
    });
    expect(resolve({}, { ...env, ESTALO_TOKEN: "first" }).token).toBe("first");
    const alone = { ESTALO_TLS_CERT: env.ESTALO_TLS_CERT };
    expect(codeOf(() => resolve({}, alone))).toBe("ERR_ESTALO_CONFIG_INVALID");
    const missing = { ESTALO_TOKEN_FILE: join(folder, "missing") };
    expect(codeOf(() => resolve({}, missing))).toBe("ERR_ESTALO_CONFIG_FILE");
  });

  it.each(["", "two words", "a\r\nx: y", "ü", "x".repeat(4097)])(
    "refuses the token %j, and does not repeat it",
    (token) => {
      expect(() => resolve({ token })).toThrow(/^token: expected 1 to 4096 printable/);
    },
  );
});
