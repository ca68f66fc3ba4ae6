import { describe, expect, it } from "vitest";
import { addressWords, parseNetOptions } from "../../src/cli/net-options.js";
import { Scratch } from "../support/tiny-guest.js";

const parse = (...nets: string[]) => parseNetOptions(nets, []);
const usage = (text: string) =>
  expect.objectContaining({ code: "ERR_ESTALO_USAGE", message: expect.stringContaining(text) });

describe("--net", () => {
  it("names a tap and what else the interface is", () => {
    expect(parse("tap=tap0", "tap=tap1,id=lan,mac=06:00:00:00:00:01,mtu=9000")).toEqual([
      { config: { tap: "tap0" } },
      { config: { tap: "tap1", id: "lan", mac: "06:00:00:00:00:01", mtu: 9000 } },
    ]);
    expect(parse("tap=tap0,queues=4")).toEqual([{ config: { tap: "tap0", queuePairs: 4 } }]);
    expect(parse("none")).toEqual([]);
  });

  it("is a bridge that gets a tap, with an address of its own or one that is given", () => {
    expect(parse("bridge=estalo0", "bridge=br0,queues=2,ip=10.0.0.2")).toEqual([
      { config: {}, bridge: "estalo0" },
      {
        config: { queuePairs: 2 },
        bridge: "br0",
        address: { address: "10.0.0.2", prefixBits: 24, dns: [] },
      },
    ]);
  });

  it("is a user's network with forwards", () => {
    expect(parse("user")).toEqual([{ config: { user: {} } }]);
    expect(parse("user,tcp=8080:80,udp=0.0.0.0:53:5353,loopback=yes,mtu=1400")).toEqual([
      {
        config: {
          user: {
            forwards: [
              { protocol: "tcp", hostPort: 8080, guestPort: 80 },
              { protocol: "udp", hostAddress: "0.0.0.0", hostPort: 53, guestPort: 5353 },
            ],
            hostLoopback: true,
          },
          mtu: 1400,
        },
      },
    ]);
  });

  it("gives the guest's kernel an address for the interface it is said of", () => {
    const words = (...nets: string[]) => addressWords(parse(...nets));
    expect(words("tap=tap0,ip=10.0.0.2")).toEqual(["ip=10.0.0.2:::255.255.255.0::eth0:off"]);
    expect(words("tap=a", "tap=b,ip=10.1.2.3/20,gateway=10.1.0.1,dns=10.1.0.1+10.1.0.2")).toEqual([
      "ip=10.1.2.3::10.1.0.1:255.255.240.0::eth1:off:10.1.0.1:10.1.0.2",
    ]);
    expect(words("tap=tap0,ip=10.0.0.2/32")[0]).toContain(":255.255.255.255:");
    expect(words("tap=tap0,ip=10.0.0.2/0")[0]).toContain(":0.0.0.0:");
    expect(words("tap=tap0")).toEqual([]);
  });

  it.each([
    ["wifi=br0", "no form wifi"],
    ["tap=tap0,queues=two", "queues= is a whole number"],
    ["user,queues=2", "user has no setting queues"],
    ["user,ip=10.0.0.2", "user has no setting ip"],
    ["user,tcp=80", "tcp= is [ADDRESS:]HOSTPORT:GUESTPORT"],
    ["user,loopback=maybe", "loopback= is yes or no"],
    ["tap", "tap is no KEY=VALUE"],
    ["tap=", "tap= is no KEY=VALUE"],
    ["tap=t,colour=red", "tap has no setting colour"],
    ["tap=t,mtu=big", "mtu= is a whole number"],
    ["tap=t,ip=10.0.0", "ip= is ADDRESS/BITS"],
    ["tap=t,ip=10.0.0.1/33", "ip= is ADDRESS/BITS"],
    ["tap=t,gateway=10.0.0.1", "go with ip="],
    ["tap=t,ip=10.0.0.2,gateway=here", "gateway= is an IPv4 address"],
    ["tap=t,ip=10.0.0.2,dns=10.0.0.1+10.0.0.2+10.0.0.3", "dns= one or two"],
  ])("refuses %s", (net, message) => {
    expect(() => parse(net)).toThrow(usage(message));
  });

  it("is none, or something", () => {
    expect(() => parse("none", "tap=t")).toThrow(usage("no other interface"));
  });
});

describe("--cni", () => {
  const scratch = new Scratch();
  const read = (result: unknown) =>
    parseNetOptions([], [scratch.file("result.json", JSON.stringify(result))]);

  it("takes a result of tc-redirect-tap: the microVM's own interface stands for its tap", () => {
    const nets = read({
      cniVersion: "1.0.0",
      interfaces: [
        { name: "veth0", mac: "02:00:00:00:00:01" },
        { name: "eth0", mac: "02:00:00:00:00:02", sandbox: "/var/run/netns/a" },
        { name: "tap0", mac: "02:00:00:00:00:03", sandbox: "/var/run/netns/a" },
        { name: "tap0", mac: "02:00:00:00:00:04", sandbox: "microvm-1" },
      ],
      ips: [
        { address: "10.9.9.9/8", interface: 0 },
        { address: "10.0.0.2/16", gateway: "10.0.0.1", interface: 3 },
      ],
      dns: { nameservers: ["10.0.0.1", "fd00::1", "10.0.0.3", "10.0.0.4"] },
    });
    expect(nets).toEqual([
      {
        config: { tap: "tap0", mac: "02:00:00:00:00:04" },
        address: {
          address: "10.0.0.2",
          prefixBits: 16,
          gateway: "10.0.0.1",
          dns: ["10.0.0.1", "10.0.0.3"],
        },
      },
    ]);
  });

  it("takes a result that only names a tap", () => {
    expect(read({ interfaces: [{ name: "tap7" }] })).toEqual([{ config: { tap: "tap7" } }]);
  });

  it.each([
    [{ ips: [null, 7], dns: { nameservers: ["10.0.0.1"] } }],
    [{ ips: { address: "10.0.0.2/16" }, dns: { nameservers: "10.0.0.1" } }],
    [{ ips: [{ address: "10.0.0.2/" }, { address: "10.0.0.2/-1" }], dns: 7 }],
    [{ ips: [{ address: "10.0.0.2/16/1" }, { address: "10.0.0.2/1e1" }], dns: null }],
  ])("finds no address in %j", (odd) => {
    expect(read({ interfaces: [{ name: "tap7" }], ...odd })).toEqual([{ config: { tap: "tap7" } }]);
  });

  it("takes name servers where they are a list", () => {
    const ips = [{ address: "10.0.0.2/16" }];
    const [{ address }] = read({
      interfaces: [{ name: "tap7" }],
      ips,
      dns: { nameservers: "10.0.0.1" },
    });
    expect(address).toEqual({ address: "10.0.0.2", prefixBits: 16, dns: [] });
  });

  it.each([[null], [{}], [[]], [{ interfaces: [] }], [{ interfaces: [{}] }], [{ interfaces: 7 }]])(
    "refuses %j",
    (result) => {
      expect(() => read(result)).toThrow(usage("names no interfaces"));
    },
  );

  it("says which file is not there, or no JSON", () => {
    expect(() => parseNetOptions([], ["/nowhere/result.json"])).toThrow(
      usage("/nowhere/result.json"),
    );
    expect(() => parseNetOptions([], [scratch.file("bad.json", "{")])).toThrow(usage("bad.json"));
  });
});
