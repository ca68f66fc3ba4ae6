/** What `estalo serve` takes from its command line, and what it refuses before it opens anything. */
import { describe, expect, it } from "vitest";
import { parseArguments } from "../../src/cli/arguments.js";
import { defaultStateDir, serveOptions } from "../../src/cli/serve-options.js";
import { SERVE_VERB } from "../../src/cli/serve-verb.js";

const user = { env: {}, isRoot: false, homeFolder: "/home/u" };
const optionsOf = (...words: string[]) => serveOptions(parseArguments(SERVE_VERB, words), user);

describe("serveOptions", () => {
  it("is one user's server on the socket where the other verbs look", () => {
    expect(optionsOf()).toMatchObject({
      stateDir: "/home/u/.local/state/estalo",
      addresses: [{ kind: "unix", path: "/home/u/.estalo/estalo.sock", isDefault: true }],
      tokenFile: undefined,
      tls: undefined,
      limits: {},
    });
  });

  it("keeps state where XDG says, and root's in /var/lib", () => {
    expect(defaultStateDir({ ...user, env: { XDG_STATE_HOME: "/x" } })).toBe("/x/estalo");
    expect(defaultStateDir({ ...user, isRoot: true })).toBe("/var/lib/estalo");
  });

  it.each([
    ["/run/a.sock", { kind: "unix", path: "/run/a.sock" }],
    ["unix:///run/a.sock", { kind: "unix", path: "/run/a.sock" }],
    ["./a:1", { kind: "unix", path: `${process.cwd()}/a:1` }],
    ["localhost:80", { kind: "tcp", host: "localhost", port: 80 }],
    ["0.0.0.0:0", { kind: "tcp", host: "0.0.0.0", port: 0 }],
    ["[::1]:65535", { kind: "tcp", host: "::1", port: 65_535 }],
  ])("listens on %s", (address, expected) => {
    const { addresses } = optionsOf("--listen", address, "--token-file", "t");
    expect(addresses).toMatchObject([expected]);
  });

  it("listens on several addresses", () => {
    const words = ["-l", "/a.sock", "-l", "localhost:1", "--token-file", "t"];
    expect(optionsOf(...words).addresses).toHaveLength(2);
  });

  it.each([
    [["--listen", "localhost:80"], "without a token or client certificates"],
    [["--listen", "localhost:80", "--tls-cert", "c", "--tls-key", "k"], "without a token"],
    [["--tls-cert", "c"], "--tls-cert and --tls-key go together"],
    [["--tls-client-ca", "c"], "needs them"],
    [["--listen", ""], "expected the path of a socket"],
    [["--listen", "8080"], "expected the path of a socket"],
    [["--listen", ":8080"], "expected the path of a socket"],
    [["--listen", "localhost:65536"], "expected the path of a socket"],
    [["--listen", "http://localhost:80"], "expected the path of a socket"],
    [["--allow-host", "a:80"], "a host's name"],
    [["--allow-host", "*"], "a host's name"],
    [["--allow-origin", "example.org"], "expected http://"],
    [["--allow-origin", "https://example.org/x"], "nothing behind it"],
    [["--allow-origin", "*"], "expected http://"],
    [["--max-body-bytes", "1"], "whole number from 1024"],
    [["--max-connections", "0x1"], "whole number from 1"],
    [["--log", "xml"], "json or plain"],
    [["more"], "serve takes no more"],
  ])("refuses %j", (words, message) => {
    const attempt = () => optionsOf(...(words as string[]));
    expect(attempt).toThrow(expect.objectContaining({ code: "ERR_ESTALO_USAGE" }));
    expect(attempt).toThrow(message as string);
  });

  it("takes client certificates instead of a token", () => {
    const { tls } = optionsOf(
      ...["-l", "h:1", "--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"],
    );
    expect(tls).toEqual({ certFile: "c", keyFile: "k", clientCaFile: "a" });
  });

  it("takes limits, hosts and origins", () => {
    expect(
      optionsOf(
        ...["--max-body-bytes", "2048", "--max-connections", "7"],
        ...["--allow-host", "A.example", "--allow-origin", "https://b.example:443"],
      ),
    ).toMatchObject({
      limits: { bodyBytes: 2048, connections: 7 },
      hosts: ["a.example"],
      origins: ["https://b.example"],
    });
  });
});
