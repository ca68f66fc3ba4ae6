/** `estalo net`, in a network namespace of its own. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { parseArguments } from "../../../src/cli/arguments.js";
import { net } from "../../../src/cli/net/net.js";
import { NET_VERB } from "../../../src/cli/net/net-verb.js";

const COMMAND = fileURLToPath(new URL("../../../bin/estalo.js", import.meta.url));
const NAMESPACE = `estalo-net-${process.pid}`;

/** Runs a command in the namespace; as another user where asked. */
function inside(program: string, words: readonly string[], user?: string) {
  const as = user === undefined ? [] : ["setpriv", `--reuid=${user}`, "--clear-groups", "--"];
  const command = ["netns", "exec", NAMESPACE, ...as, program, ...words];
  const { status, stdout, stderr } = spawnSync("ip", command, { encoding: "utf8" });
  return { status, stdout, stderr };
}

const estalo = (...words: string[]) => inside(process.execPath, [COMMAND, "net", ...words]);
/** What it printed as JSON. */
const json = (...words: string[]) => JSON.parse(estalo(...words, "--json").stdout);
const ip = (...words: string[]) => inside("ip", words).stdout;
const forwarding = () => inside("cat", ["/proc/sys/net/ipv4/ip_forward"]).stdout.trim();
const rules = () => inside("nft", ["list", "ruleset"]).stdout;

/** A namespace in which bridges and NAT can be made. */
function isPossible(): boolean {
  try {
    execFileSync("ip", ["netns", "add", NAMESPACE], { stdio: "pipe" });
    return inside("nft", ["add table ip x; delete table ip x"]).status === 0;
  } catch {
    return false;
  }
}

const possible = isPossible();
if (!possible) console.warn("spec/cli/net/net.spec.ts is skipped: no root, no ip, or no nft");
afterAll(() => spawnSync("ip", ["netns", "delete", NAMESPACE]));

describe("estalo net's words", () => {
  it.each([
    [["up", "--subnet", "172.30.0.0/24"], "is"],
    [["up", "--name", "a-b"], "is"],
    [["up", "--name", "too_long_one"], "is"],
    [["down", "--nat"], "--nat is not for net down"],
    [["up", "x"], "net up takes no x"],
    [["rm"], "net rm takes the name of a tap"],
    [["frob"], "net does not know frob"],
    [[], "net does not know what to do"],
  ])("are refused: %j, %s", (words, said) => {
    expect(() => net(parseArguments(NET_VERB, words))).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_USAGE",
        message: expect.stringContaining(said),
      }),
    );
  });
});

describe.skipIf(!possible)("estalo net (needs root, ip and nft)", () => {
  afterEach(() => {
    for (const { name } of json("ls")) estalo("down", "--force", "--name", name);
    spawnSync("ip", ["-n", NAMESPACE, "link", "delete", "foreign"]);
  });

  it("makes a network and takes it down, and both again", () => {
    const made = { name: "estalo0", subnet: "172.30.0.1/24", nat: true };
    expect(json("up", "--nat")).toEqual({ ...made, created: true });
    expect(json("up", "--nat")).toEqual({ ...made, created: false });
    expect(json("ls")).toEqual([{ ...made, taps: [] }]);
    expect(ip("-br", "-4", "addr", "show", "estalo0")).toContain("172.30.0.1/24");
    expect(rules()).toContain("ip saddr 172.30.0.0/24");
    expect(forwarding()).toBe("1");
    expect(json("down")).toEqual({ name: "estalo0", removed: true });
    expect(json("down")).toEqual({ name: "estalo0", removed: false });
    expect(ip("-br", "link").trim().split("\n")).toHaveLength(1);
    expect([rules(), forwarding()]).toEqual(["", "0"]);
  });

  it("mends one of which something is missing", () => {
    estalo("up", "--nat");
    ip("link", "set", "estalo0", "down");
    inside("nft", ["delete table ip estalo_estalo0"]);
    expect(json("up", "--nat").created).toBe(false);
    expect(ip("-br", "link", "show", "estalo0")).toContain("UP");
    expect(rules()).toContain("masquerade");
  });

  it("leaves forwarding on for a network that needs it, and where it was on before", () => {
    estalo("up", "--nat");
    estalo("up", "--nat", "--name", "other", "--subnet", "10.9.0.1/24");
    estalo("down");
    expect(forwarding()).toBe("1");
    estalo("down", "--name", "other");
    expect(forwarding()).toBe("0");
    inside("sh", ["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    estalo("up", "--nat");
    estalo("down");
    expect(forwarding()).toBe("1");
    inside("sh", ["-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
  });

  it("makes taps with a guest's address each, and what --net takes", () => {
    estalo("up");
    expect(estalo("tap").stdout).toBe("tap=estalo0.2,ip=172.30.0.2/24,gateway=172.30.0.1\n");
    const web = json("tap", "web", "--owner", "nobody", "--multi-queue");
    expect(web).toMatchObject({ name: "web", address: "172.30.0.3/24", isUsed: false });
    // It is there: the same again.
    expect(json("tap", "web")).toEqual(web);
    const [{ linkinfo, master }] = JSON.parse(ip("-json", "-details", "link", "show", "web"));
    expect(master).toBe("estalo0");
    expect(linkinfo.info_data).toMatchObject({ user: "nobody", multi_queue: true, vnet_hdr: true });
    expect(json("rm", "estalo0.2")).toEqual({ name: "estalo0.2", removed: true });
    expect(json("rm", "estalo0.2").removed).toBe(false);
    expect(json("tap").name).toBe("estalo0.2");
    expect(json("ls")[0].taps).toHaveLength(2);
    estalo("down");
    expect(ip("-br", "link").trim().split("\n")).toHaveLength(1);
  });

  it("gives every tap its own address, however many are asked for at once", async () => {
    estalo("up");
    const words = ["netns", "exec", NAMESPACE, process.execPath, COMMAND, "net", "tap"];
    const children = Array.from({ length: 6 }, () => spawn("ip", words, { stdio: "ignore" }));
    const ends = await Promise.all(children.map((child) => once(child, "exit")));
    expect(ends.map(([status]) => status)).toEqual(Array(6).fill(0));
    const addresses = json("ls")[0].taps.map((tap: { address: string }) => tap.address);
    expect(new Set(addresses).size).toBe(6);
  });

  it("leaves alone what it did not make", () => {
    ip("link", "add", "foreign", "type", "bridge");
    for (const words of [
      ["up", "--name", "foreign"],
      ["down", "--name", "foreign", "--force"],
      ["rm", "foreign", "--force"],
    ]) {
      const { status, stderr } = estalo(...words);
      expect(status).toBe(125);
      expect(stderr).toContain("foreign is not Estalo's");
    }
    expect(ip("-br", "link", "show", "foreign")).toContain("foreign");
    // A tap on it is its own, and has no address that it knew of.
    expect(estalo("tap", "--name", "foreign").stdout).toBe("tap=foreign.2\n");
    expect(json("rm", "foreign.2").removed).toBe(true);
  });

  it.each([
    [["up", "--nat"], "it has 172.30.0.1/24: estalo net down"],
    [["up", "--subnet", "172.30.0.5/24"], "it has 172.30.0.1/24: estalo net down"],
    [["up", "--name", "b", "--subnet", "172.30.1.1/16"], "EADDRINUSE"],
    [["tap", "--name", "nowhere"], "ENODEV"],
    [["tap", "lo"], "EEXIST"],
    [["tap", "x", "--owner", "nobody-here"], "make tap x"],
  ])("refuses %j with %s, and changes nothing", (words, said) => {
    estalo("up");
    const before = ip("-br", "link");
    const { status, stdout, stderr } = estalo(...words);
    expect([status, stdout]).toEqual([125, ""]);
    expect(stderr).toContain(said);
    expect(ip("-br", "link")).toBe(before);
  });

  it("says that it needs root, and makes nothing", () => {
    const { status, stderr } = inside(process.execPath, [COMMAND, "net", "up", "--nat"], "65534");
    expect(status).toBe(125);
    expect(stderr).toMatch(/^estalo: set up network estalo0: EPERM \[ERR_ESTALO_NETWORK\]\nhint: /);
    expect(stderr.trim().split("\n")).toHaveLength(2);
    expect(ip("-br", "link").trim().split("\n")).toHaveLength(1);
  });

  it("leaves nothing when it fails halfway", () => {
    // nft cannot be started: when the bridge is there already.
    const words = ["-m", "sh", "-c", 'mount --bind /dev/null "$(command -v nft)"; exec "$@"', "sh"];
    const { status, stderr } = inside("unshare", [
      ...words,
      ...[process.execPath, COMMAND, "net", "up", "--nat"],
    ]);
    expect(status).toBe(125);
    expect(stderr).toContain("set up network estalo0");
    expect(ip("-br", "link").trim().split("\n")).toHaveLength(1);
    expect(forwarding()).toBe("0");
  });
});
