/**
 * A network namespace of a bench's own, with one tap in it. Needs root.
 */
import { execFileSync } from "node:child_process";

/** The interface's name in the namespace. */
export const TAP = "tap0";

/** See the file's header. */
export class BenchNetwork {
  readonly name = `estalo-bench-${process.pid}`;

  constructor() {
    execFileSync("ip", ["netns", "add", this.name]);
    try {
      // Nothing but what is sent is to be on the wire.
      for (const scope of ["all", "default"]) {
        this.#run("sysctl", "-qw", `net.ipv6.conf.${scope}.disable_ipv6=1`);
      }
      this.#run("ip", "tuntap", "add", TAP, "mode", "tap", "vnet_hdr");
      this.#run("ip", "link", "set", TAP, "up");
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Frames that the host's kernel has taken from the tap, the guest's. */
  framesFromGuest(): number {
    const path = `/sys/class/net/${TAP}/statistics/rx_packets`;
    return Number(this.#run("cat", path));
  }

  close(): void {
    execFileSync("ip", ["netns", "del", this.name]);
  }

  #run(...command: string[]): string {
    return execFileSync("ip", ["netns", "exec", this.name, ...command], { encoding: "utf8" });
  }
}
