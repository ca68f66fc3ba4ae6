import { describe, expect, it } from "vitest";
import { checkVsock, type VsockConfig } from "../../src/actors/config-vsock.js";

describe("checkVsock", () => {
  it("fills in what is left open", () => {
    expect(checkVsock({})).toEqual({ guestCid: 3, udsPath: undefined, connectionsMax: 1023 });
  });

  it.each([
    ["the host's context", { guestCid: 2 }, "vsock.guestCid"],
    ["the wildcard context", { guestCid: 2 ** 32 - 1 }, "vsock.guestCid"],
    ["a path too long for a socket", { udsPath: "x".repeat(97) }, "vsock.udsPath"],
    ["an empty path", { udsPath: "" }, "vsock.udsPath"],
    ["no connection", { connectionsMax: 0 }, "vsock.connectionsMax"],
    ["a field that does not exist", { cid: 3 }, "vsock.cid"],
  ])("refuses %s", (_what, config, field) => {
    expect(() => checkVsock(config as VsockConfig)).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });
});
