/** What `estalo net up --nat` lets through, with a namespace in a guest's place. */
import { execFileSync, spawnSync } from "node:child_process";
import { afterAll, describe, expect, it, vi } from "vitest";
import { NatNetwork, OUTSIDE_ADDRESS } from "../../support/nat-network.js";

const network = NatNetwork.make();
const guest = `estalo-guest-${process.pid}`;
if (network === undefined) console.warn("spec/cli/net/nat.spec.ts is skipped: no root, ip or nft");
afterAll(() => {
  spawnSync("ip", ["netns", "delete", guest]);
  network?.[Symbol.dispose]();
});

const reaches = (namespace: string, address: string) =>
  spawnSync("ip", [
    ...["netns", "exec", namespace, process.execPath, "-e"],
    `const socket = require("node:net").connect(9, "${address}");
     socket.on("connect", () => process.exit(0)).on("error", ({ code }) => process.exit(code === "ECONNREFUSED" ? 0 : 1));
     setTimeout(() => process.exit(1), 1000);`,
  ]).status === 0;

describe.skipIf(network === undefined)("NAT (needs root, ip and nft)", () => {
  const { host, outside } = network ?? { host: "", outside: "" };

  it("lets guests out and nobody in, and the host and guests reach each other", async () => {
    execFileSync("ip", ["netns", "add", guest]);
    const ip = (...words: string[]) => execFileSync("ip", words, { stdio: "pipe" });
    ip("-n", host, "link", "add", "g0", "type", "veth", "peer", "name", "eth0", "netns", guest);
    ip("-n", host, "link", "set", "g0", "master", "estalo0", "up");
    ip("-n", guest, "addr", "add", "172.30.0.2/24", "dev", "eth0");
    ip("-n", guest, "link", "set", "eth0", "up");
    ip("-n", guest, "route", "add", "default", "via", "172.30.0.1");
    // What is asked before the new links pass frames on is lost, and asked again after a second.
    const options = { timeout: 30_000 };
    await vi.waitUntil(() => reaches(guest, OUTSIDE_ADDRESS), options);
    await vi.waitUntil(() => reaches(guest, "172.30.0.1"), options);
    await vi.waitUntil(() => reaches(host, "172.30.0.2"), options);
    expect(reaches(outside, "172.30.0.2")).toBe(false);
  });

  it("removes what a killed estalo run has left, and nothing that is another's", () => {
    const inHost = (...words: string[]) => execFileSync("ip", ["-n", host, ...words]);
    const alias = (pid: number, number: number) => `estalo tap host=${number} pid=${pid}`;
    for (const [name, pid, number] of [
      ["dead", 2 ** 22 + 1, 2],
      ["alive", process.pid, 3],
    ] as const) {
      inHost("tuntap", "add", "dev", name, "mode", "tap");
      inHost("link", "set", "dev", name, "alias", alias(pid, number), "master", "estalo0", "up");
    }
    const [program, ...words] = (network as NatNetwork).command("net", "tap", "--json");
    const made = JSON.parse(execFileSync(program, words, { encoding: "utf8" }));
    expect(made).toMatchObject({ name: "estalo0.2", address: "172.30.0.2/24" });
    const left = execFileSync("ip", ["-n", host, "-br", "link"], { encoding: "utf8" });
    expect(left).toContain("alive");
    expect(left).not.toContain("dead");
  });
});
