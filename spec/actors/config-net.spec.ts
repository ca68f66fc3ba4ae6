import { describe, expect, it } from "vitest";
import {
  checkInterfaces,
  formatMac,
  type NetworkInterfaceConfig,
  parseMac,
} from "../../src/actors/config-net.js";

describe("checkInterfaces", () => {
  it("fills in ids, addresses and limits", () => {
    const [first, second] = checkInterfaces([{ tap: "tap0" }, { tap: "tap1", mtu: 1400 }]);
    expect(first).toMatchObject({ id: "net0", tap: "tap0", mtu: undefined, rxRateLimiter: {} });
    expect(second).toMatchObject({ id: "net1", mtu: 1400 });
    // Locally administered, nobody's group.
    for (const { mac } of [first, second]) expect(mac[0] & 3).toBe(2);
    expect(formatMac(first.mac)).not.toBe(formatMac(second.mac));
  });

  it.each([
    ["an interface without a tap", [{}], "networkInterfaces[0].tap"],
    ["an id with a hyphen", [{ tap: "t", id: "a-b" }], "networkInterfaces[0].id"],
    ["a group's address", [{ tap: "t", mac: "01:00:00:00:00:00" }], "networkInterfaces[0].mac"],
    ["half an address", [{ tap: "t", mac: "06:00:00" }], "networkInterfaces[0].mac"],
    ["an MTU of 67", [{ tap: "t", mtu: 67 }], "networkInterfaces[0].mtu"],
    [
      "two of one id",
      [
        { tap: "t", id: "a" },
        { tap: "u", id: "a" },
      ],
      "networkInterfaces[1].id",
    ],
    [
      "two of one address",
      [
        { tap: "t", mac: "06:00:00:00:00:0a" },
        { tap: "u", mac: "06:00:00:00:00:0A" },
      ],
      "networkInterfaces[1].mac",
    ],
    [
      "a limit below 0",
      [{ tap: "t", txRateLimiter: { ops: { size: -1, refillTimeMs: 1 } } }],
      "networkInterfaces[0].txRateLimiter.ops.size",
    ],
  ])("refuses %s", (_what, configs, field) => {
    expect(() => checkInterfaces(configs as NetworkInterfaceConfig[])).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });

  it("has one pair of queues, or as many as are asked for, up to the vCPUs and 8", () => {
    const pairs = (queuePairs: number | undefined, vcpuCount: number, more: object = {}) =>
      checkInterfaces([{ tap: "t", ...(queuePairs && { queuePairs }), ...more }], vcpuCount)[0]
        .queuePairs;
    expect([pairs(undefined, 4), pairs(4, 4), pairs(8, 32)]).toEqual([1, 4, 8]);
    const refused = expect.objectContaining({
      data: expect.objectContaining({ field: "networkInterfaces[0].queuePairs" }),
    });
    for (const [asked, vcpuCount] of [
      [2, 1],
      [9, 32],
      [0.5, 4],
    ]) {
      expect(() => pairs(asked, vcpuCount)).toThrow(refused);
    }
    expect(() => pairs(2, 4, { tap: undefined, user: {} })).toThrow(refused);
  });

  it("reads and writes addresses", () => {
    expect(formatMac(parseMac("06:aB:00:01:fe:ff") as Uint8Array)).toBe("06:ab:00:01:fe:ff");
    expect(parseMac("06:00:00:00:00:0g")).toBeUndefined();
    expect(parseMac("06-00-00-00-00-00")).toBeUndefined();
  });
});

describe("a user's network", () => {
  const check = (user: object, more: object = {}) => checkInterfaces([{ user, ...more }])[0];

  it("has its defaults", () => {
    expect(check({ forwards: [{ hostPort: 8080, guestPort: 80 }] })).toMatchObject({
      tap: undefined,
      user: {
        forwards: [{ protocol: "tcp", hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80 }],
        hostLoopback: false,
      },
    });
  });

  it.each([
    ["a tap beside it", {}, { tap: "tap0" }],
    ["another field", { colour: 1 }, {}],
    ["port 0", { forwards: [{ hostPort: 0, guestPort: 80 }] }, {}],
    ["a port beyond the last", { forwards: [{ hostPort: 80, guestPort: 65_536 }] }, {}],
    ["a name for an address", { forwards: [{ hostAddress: "me", hostPort: 1, guestPort: 1 }] }, {}],
    ["half an address", { forwards: [{ hostAddress: "1.2.3.", hostPort: 1, guestPort: 1 }] }, {}],
    ["another protocol", { forwards: [{ protocol: "sctp", hostPort: 1, guestPort: 1 }] }, {}],
    [
      "one port twice",
      {
        forwards: [
          { hostPort: 1, guestPort: 1 },
          { hostPort: 1, guestPort: 2, protocol: "tcp" },
        ],
      },
      {},
    ],
  ])("refuses %s", (_what, user, more) => {
    expect(() => check(user, more)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
  });
});
