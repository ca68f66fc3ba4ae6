import { chmodSync } from "node:fs";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { hostLinks } from "../../../src/cli/net/host-links.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());
afterEach(() => void vi.unstubAllEnvs());

/** Has another program play `ip`. */
function playIp(code: string): void {
  chmodSync(scratch.file("ip", `#!${process.execPath}\n${code}`), 0o755);
  vi.stubEnv("PATH", scratch.path);
}

describe("hostLinks", () => {
  it("reads the links of a host with thousands of taps, a kilobyte and more of each", () => {
    playIp(`
      const link = (_, index) => ({ ifname: "estalo0." + index, linkinfo: { is: "x".repeat(1300) } });
      process.stdout.write(JSON.stringify(Array.from({ length: 4000 }, link)));`);
    expect(hostLinks()).toHaveLength(4000);
  });

  it("says which operation failed, and how", () => {
    playIp(
      `console.error("Cannot open netlink socket: Operation not permitted"); process.exit(1);`,
    );
    expect(() => hostLinks()).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_NETWORK",
        message: "list network interfaces: EPERM",
      }),
    );
  });
});
