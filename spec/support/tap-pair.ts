/**
 * Two taps on one bridge of their own, with no address on the host: what goes into one comes out of the other.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { afterAll, vi } from "vitest";

export interface TapPair {
  readonly first: string;
  readonly second: string;
}

/** linux/if_bridge.h: a port that passes frames on. */
const BR_STATE_FORWARDING = "3";

/** Waits until frames pass: the kernel takes its time after both taps were opened. */
export async function untilForwarding({ first, second }: TapPair): Promise<void> {
  for (const tap of [first, second]) {
    const state = () => readFileSync(`/sys/class/net/${tap}/brport/state`, "utf8").trim();
    await vi.waitUntil(() => state() === BR_STATE_FORWARDING, { timeout: 30_000, interval: 10 });
  }
}

function ip(...words: string[]): void {
  execFileSync("ip", words, { stdio: "pipe" });
}

/** The pair until the spec file ends, the first with several queues if asked; `undefined` where we may make none. */
export function tapPair(mtu = 1500, isMultiQueue = false): TapPair | undefined {
  // At most 15 characters; specs run side by side.
  const many = isMultiQueue ? "m" : "";
  const name = (what: string) => `es${what}${many}${process.pid % 1_000_000}`;
  const [first, second, bridge] = [name("a"), name("b"), name("r")];
  const remove = () => {
    for (const link of [first, second, bridge]) {
      try {
        ip("link", "delete", link);
      } catch {
        // It was not made.
      }
    }
  };
  try {
    ip("link", "add", bridge, "type", "bridge", "mcast_snooping", "0", "stp_state", "0");
    for (const tap of [first, second]) {
      const more = isMultiQueue && tap === first ? ["multi_queue"] : [];
      ip("tuntap", "add", tap, "mode", "tap", "vnet_hdr", ...more);
      execFileSync("sysctl", ["-qw", `net.ipv6.conf.${tap}.disable_ipv6=1`], { stdio: "pipe" });
      ip("link", "set", tap, "mtu", String(mtu), "master", bridge, "up");
    }
    execFileSync("sysctl", ["-qw", `net.ipv6.conf.${bridge}.disable_ipv6=1`], { stdio: "pipe" });
    ip("link", "set", bridge, "up");
  } catch {
    remove();
    return undefined;
  }
  afterAll(remove);
  return { first, second };
}
