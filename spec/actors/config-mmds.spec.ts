import { describe, expect, it } from "vitest";
import { checkMmds, type MmdsConfig } from "../../src/actors/config-mmds.js";
import { checkInterfaces } from "../../src/actors/config-net.js";

const INTERFACES = checkInterfaces([{ tap: "tap0" }, { tap: "tap1", id: "eth1" }]);

describe("checkMmds", () => {
  it("fills in what is not said", () => {
    expect(checkMmds({}, INTERFACES)).toEqual({
      version: "V2",
      ipv4Address: 0xa9fe_a9fe,
      interfaces: ["net0", "eth1"],
      imdsCompat: false,
      data: undefined,
      sizeLimitBytes: 51_200,
    });
  });

  it("keeps what is said", () => {
    const config: MmdsConfig = {
      version: "V1",
      ipv4Address: "169.254.1.0",
      interfaces: ["eth1", "eth1"],
      imdsCompat: true,
      data: { a: 1 },
      sizeLimitBytes: 0,
    };
    expect(checkMmds(config, INTERFACES)).toEqual({
      ...config,
      interfaces: ["eth1"],
      ipv4Address: 0xa9fe_0100,
    });
  });

  it.each([
    ["mmds", []],
    ["mmds.port", { port: 80 }],
    ["mmds.version", { version: "V3" }],
    ["mmds.ipv4Address", { ipv4Address: "169.254.0.1" }],
    ["mmds.ipv4Address", { ipv4Address: "10.0.0.1" }],
    ["mmds.ipv4Address", { ipv4Address: 7 }],
    ["mmds.interfaces", { interfaces: [] }],
    ["mmds.interfaces", { interfaces: "net0" }],
    ["mmds.interfaces", { interfaces: ["eth7"] }],
    ["mmds.imdsCompat", { imdsCompat: 1 }],
    ["mmds.sizeLimitBytes", { sizeLimitBytes: -1 }],
  ])("refuses %s: %j", (field, config) => {
    expect(() => checkMmds(config as MmdsConfig, INTERFACES)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });

  it("wants an interface", () => {
    expect(() => checkMmds({}, [])).toThrow("mmds.interfaces");
  });
});
