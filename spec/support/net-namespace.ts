/**
 * A small network that nobody else is on: a tap for a guest, and a network namespace as its only neighbour.
 *
 *     guest ── tap ── bridge, without an address ── veth │ veth 10.77.0.1/24, programs of `run`
 *                                    this namespace      │ its own
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";

/** Addresses on it. */
export const HOST_ADDRESS = "10.77.0.1";
export const GUEST_ADDRESS = "10.77.0.2";

function ip(...words: string[]): void {
  execFileSync("ip", words, { stdio: "pipe" });
}

/** See the file's header; needs root. Its names tell which process made it. */
export class NetNamespace implements Disposable {
  readonly name = `estalo-${process.pid}`;
  readonly tap = `est${process.pid % 1_000_000}`;
  readonly #bridge = `esb${process.pid % 1_000_000}`;
  readonly #veth = `esv${process.pid % 1_000_000}`;
  readonly #children = new Set<ChildProcess>();

  /** Makes it, or nothing and `undefined` where interfaces cannot be made. */
  static make(mtu = 1500): NetNamespace | undefined {
    const made = new NetNamespace();
    try {
      made.#make(mtu);
      return made;
    } catch {
      made[Symbol.dispose]();
      return undefined;
    }
  }

  #make(mtu: number): void {
    const [name, tap, bridge, veth] = [this.name, this.tap, this.#bridge, this.#veth];
    ip("netns", "add", name);
    ip("link", "add", bridge, "type", "bridge", "mcast_snooping", "0", "stp_state", "0");
    ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name);
    ip("tuntap", "add", tap, "mode", "tap", "vnet_hdr");
    for (const link of [bridge, tap, veth]) {
      execFileSync("sysctl", ["-qw", `net.ipv6.conf.${link}.disable_ipv6=1`], { stdio: "pipe" });
      ip("link", "set", link, "mtu", String(mtu));
    }
    for (const link of [tap, veth]) ip("link", "set", link, "master", bridge, "up");
    ip("link", "set", bridge, "up");
    ip("-n", name, "addr", "add", `${HOST_ADDRESS}/24`, "dev", "eth0");
    ip("-n", name, "link", "set", "eth0", "mtu", String(mtu), "up");
    ip("-n", name, "link", "set", "lo", "up");
  }

  /** Runs a Node script in the namespace, where it ends with the rest; its streams are pipes. */
  node(script: string, ...words: string[]): ChildProcess {
    const command = ["netns", "exec", this.name, process.execPath, "-e", script, ...words];
    const child = spawn("ip", command, { stdio: ["pipe", "pipe", "inherit"] });
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child;
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill("SIGKILL");
    const commands = [
      ["link", "delete", this.tap],
      ["link", "delete", this.#veth],
      ["link", "delete", this.#bridge],
      ["netns", "delete", this.name],
    ];
    for (const command of commands) {
      try {
        ip(...command);
      } catch {
        // It was not made.
      }
    }
  }
}
