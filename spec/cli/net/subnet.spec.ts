import { describe, expect, it } from "vitest";
import {
  anySubnet,
  hostAddress,
  hostMax,
  networkText,
  overlaps,
  parseSubnet,
  type Subnet,
  subnetText,
} from "../../../src/cli/net/subnet.js";

const subnet = (text: string) => parseSubnet(text) as Subnet;

describe("a subnet", () => {
  it("knows its network and its hosts", () => {
    const own = subnet("172.30.5.1/23");
    expect([subnetText(own), networkText(own)]).toEqual(["172.30.5.1/23", "172.30.4.0/23"]);
    expect(hostMax(own)).toBe(510);
    expect([hostAddress(own, 2), hostAddress(own, 510)]).toEqual(["172.30.4.2", "172.30.5.254"]);
    expect(subnetText(subnet("255.255.255.254/16"))).toBe("255.255.255.254/16");
  });

  it.each([
    ...["172.30.0.1", "172.30.0.1/31", "172.30.0.1/15", "172.30.0.0/24", "172.30.0.255/24"],
    ...["172.30.0.1/24/1", "300.0.0.1/24", "::1/64", "x/24", ""],
  ])("is not %s", (text) => {
    expect(parseSubnet(text)).toBeUndefined();
  });

  it.each([
    ["10.0.0.1/24", "10.0.0.200/32", true],
    ["10.0.0.1/24", "10.0.1.1/24", false],
    ["10.0.1.1/24", "10.0.0.1/16", true],
    ["10.0.0.1/24", "0.0.0.0/0", true],
    ["192.168.0.1/24", "10.0.0.1/8", false],
  ])("%s and %s have addresses in common: %s", (one, other, is) => {
    expect(overlaps(subnet(one), anySubnet(other))).toBe(is);
  });
});
