/**
 * `--net bridge=`: a tap on a bridge for as long as this process runs, and the guest's address in its network.
 */
import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { hostError, isEstaloError } from "../../errors.js";
import { native } from "../../native/binding.js";
import type { GuestAddress, NetOption } from "../net-options.js";
import { addTap, type NetworkTap, removeLink } from "./taps.js";

/** Where name servers are listed; the second, where the first has but a resolver of the host's own. */
const RESOLVER_FILES = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
const NAME_SERVERS_MAX = 2;

/** See the file's header. Dispose it when the taps are closed. */
export class BridgeTaps implements Disposable {
  readonly #names: string[] = [];
  readonly #onExit = () => this.#remove();

  /** The interfaces with a tap for each that has a bridge; raises ERR_ESTALO_NETWORK with none left. */
  join(nets: readonly NetOption[]): readonly NetOption[] {
    if (nets.some(({ bridge }) => bridge !== undefined)) process.on("exit", this.#onExit);
    try {
      return nets.map((net) => (net.bridge === undefined ? net : this.#joined(net, net.bridge)));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Leaves a tap of ours to whoever has its descriptors: it goes with the last one. */
  leave(name: string, fd: number): void {
    const place = this.#names.indexOf(name);
    if (place < 0) return;
    try {
      native().endTapWithDescriptor(fd);
    } catch (error) {
      throw hostError("leave tap", name, error, "ERR_ESTALO_NETWORK");
    }
    this.#names.splice(place, 1);
  }

  #joined({ config, address }: NetOption, network: string): NetOption {
    const hasSeveralQueues = (config.queuePairs ?? 1) > 1;
    const tap = addTap({ network, hasSeveralQueues, isOwn: true });
    this.#names.push(tap.name);
    const given = address ?? addressOf(tap);
    return {
      config: { ...config, tap: tap.name },
      ...(given === undefined ? {} : { address: given }),
    };
  }

  [Symbol.dispose](): void {
    process.off("exit", this.#onExit);
    this.#remove();
  }

  #remove(): void {
    for (const name of this.#names.splice(0)) {
      try {
        removeLink(name);
      } catch (error) {
        // The next one on this bridge tries again.
        if (!isEstaloError(error)) throw error;
        process.stderr.write(`estalo: ${error.message}\n`);
      }
    }
  }
}

function addressOf({ address, gateway }: NetworkTap): GuestAddress | undefined {
  if (address === undefined) return undefined;
  const [own, bits] = address.split("/");
  return {
    address: own,
    prefixBits: Number(bits),
    ...(gateway === undefined ? {} : { gateway }),
    dns: nameServers(),
  };
}

/** The host's name servers that a guest can reach. */
function nameServers(): string[] {
  for (const file of RESOLVER_FILES) {
    const found = serversIn(file).filter((one) => isIPv4(one) && !one.startsWith("127."));
    if (found.length > 0) return found.slice(0, NAME_SERVERS_MAX);
  }
  return [];
}

function serversIn(file: string): string[] {
  try {
    const lines = readFileSync(file, "utf8").split("\n");
    return lines.flatMap((line) => /^nameserver\s+(\S+)/.exec(line)?.slice(1) ?? []);
  } catch {
    return [];
  }
}
