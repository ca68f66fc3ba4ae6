/**
 * A host of its own for guests, and somebody outside whom they reach through it, each a network namespace:
 *
 *     guests ─ estalo0 172.30.0.1/24 │ host 198.51.100.2/24 │ outside 198.51.100.1/24, programs of `outside`
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));
export const OUTSIDE_ADDRESS = "198.51.100.1";

function ip(...words: string[]): void {
  execFileSync("ip", words, { stdio: "pipe" });
}

/** See the file's header; needs root, ip and nft. */
export class NatNetwork implements Disposable {
  readonly host = `estalo-host-${process.pid}`;
  readonly outside = `estalo-out-${process.pid}`;
  readonly #children = new Set<ChildProcess>();

  /** Makes it, `estalo net up --nat` included; `undefined`, and nothing, where that cannot be. */
  static make(): NatNetwork | undefined {
    const made = new NatNetwork();
    try {
      made.#make();
      return made;
    } catch {
      made[Symbol.dispose]();
      return undefined;
    }
  }

  #make(): void {
    const { host, outside } = this;
    for (const name of [host, outside]) {
      ip("netns", "add", name);
      ip("-n", name, "link", "set", "lo", "up");
    }
    ip("-n", host, "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", outside);
    ip("-n", host, "addr", "add", "198.51.100.2/24", "dev", "up0");
    ip("-n", outside, "addr", "add", `${OUTSIDE_ADDRESS}/24`, "dev", "eth0");
    ip("-n", host, "link", "set", "up0", "up");
    ip("-n", outside, "link", "set", "eth0", "up");
    // Somebody outside who knows the way to the guests.
    ip("-n", outside, "route", "add", "172.30.0.0/24", "via", "198.51.100.2");
    execFileSync("ip", this.command("net", "up", "--nat").slice(1), { stdio: "pipe" });
  }

  /** The command that runs estalo on the host: program and words. */
  command(...words: string[]): string[] {
    return ["ip", "netns", "exec", this.host, process.execPath, COMMAND, ...words];
  }

  /** Runs a Node script outside, where it ends with the rest. */
  node(script: string): ChildProcess {
    const words = ["netns", "exec", this.outside, process.execPath, "-e", script];
    const child = spawn("ip", words, { stdio: ["ignore", "pipe", "inherit"] });
    this.#children.add(child);
    return child;
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill("SIGKILL");
    for (const name of [this.host, this.outside]) spawnSync("ip", ["netns", "delete", name]);
  }
}
