/**
 * `--net` and `--cni`: the network interfaces of a microVM in words, and the address that the guest's kernel is
 * given for the first of them (ip=, Linux's Documentation/admin-guide/nfs/nfsroot.rst).
 */
import { readFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import type {
  NetworkInterfaceConfig,
  PortForward,
  UserNetworkConfig,
} from "../actors/config-net.js";
import { hostError } from "../errors.js";
import { usageError } from "./arguments.js";

/** What the guest's kernel is told of one interface. */
export interface GuestAddress {
  /** IPv4 address and the bits of its network. */
  readonly address: string;
  readonly prefixBits: number;
  readonly gateway?: string;
  readonly dns: readonly string[];
}

/** One interface as the command line says it. */
export interface NetOption {
  readonly config: NetworkInterfaceConfig;
  /** A tap is to be made on this bridge, for as long as the microVM runs. */
  readonly bridge?: string;
  readonly address?: GuestAddress;
}

const FORMS =
  "there are --net tap=NAME[,KEY=VALUE…], --net bridge=NAME[,KEY=VALUE…], --net user[,KEY=VALUE…] and --net none";
const KEYS = ["id", "mac", "mtu"];
const TAP_KEYS = [...KEYS, "queues", "ip", "gateway", "dns"];
const USER_KEYS = [...KEYS, "tcp", "udp", "loopback"];
/** ip= takes two. */
const NAME_SERVERS_MAX = 2;

/** The interfaces of all `--net` words, then those of all `--cni` files; raises ERR_ESTALO_USAGE. */
export function parseNetOptions(
  nets: readonly string[],
  cniFiles: readonly string[],
): readonly NetOption[] {
  if (nets.includes("none")) {
    if (nets.length + cniFiles.length === 1) return [];
    throw usageError("--net none goes with no other interface", FORMS);
  }
  return [...nets.map(parseNet), ...cniFiles.map(readCniResult)];
}

/** `tap=NAME[,KEY=VALUE…]`, `bridge=NAME[,KEY=VALUE…]` or `user[,KEY=VALUE…]`. */
function parseNet(value: string): NetOption {
  const words = value === "user" || value.startsWith("user,") ? `user=yes${value.slice(4)}` : value;
  const settings = words.split(",").map((setting) => {
    const [, key, given] = /^([^=]*)=(.+)$/s.exec(setting) ?? [];
    if (key === undefined) throw usageError(`--net ${value}: ${setting} is no KEY=VALUE`, FORMS);
    return [key, given] as const;
  });
  const [[form, name], ...rest] = settings;
  if (form !== "tap" && form !== "bridge" && form !== "user") {
    throw usageError(`--net has no form ${form}`, FORMS);
  }
  const said = new Map(rest);
  const keys = form === "user" ? USER_KEYS : TAP_KEYS;
  const odd = rest.find(([key]) => !keys.includes(key));
  if (odd !== undefined) {
    throw usageError(`--net ${form} has no setting ${odd[0]}`, `there are ${keys.join("=, ")}=`);
  }
  const [id, mac, mtu] = ["id", "mac", "mtu"].map((key) => said.get(key));
  if (mtu !== undefined && !/^[0-9]{1,5}$/.test(mtu)) {
    throw usageError(`--net mtu= is a whole number, not ${mtu}`, "--net tap=tap0,mtu=1400");
  }
  const queues = said.get("queues");
  if (queues !== undefined && !/^[0-9]{1,3}$/.test(queues)) {
    throw usageError(`--net queues= is a whole number, not ${queues}`, "--net tap=tap0,queues=2");
  }
  const address = parseAddress(said);
  return {
    config: {
      ...(form === "tap" ? { tap: name } : {}),
      ...(form === "user" ? { user: parseUser(rest) } : {}),
      ...(id === undefined ? {} : { id }),
      ...(mac === undefined ? {} : { mac }),
      ...(mtu === undefined ? {} : { mtu: Number(mtu) }),
      ...(queues === undefined ? {} : { queuePairs: Number(queues) }),
    },
    ...(form === "bridge" ? { bridge: name } : {}),
    ...(address === undefined ? {} : { address }),
  };
}

/** `tcp=` and `udp=[ADDRESS:]HOSTPORT:GUESTPORT`, any number of them, and `loopback=yes`. */
function parseUser(rest: readonly (readonly [string, string])[]): UserNetworkConfig {
  const forwards = rest
    .filter(([key]) => key === "tcp" || key === "udp")
    .map(([protocol, ports]): PortForward => {
      const [, hostAddress, hostPort, guestPort] =
        /^(?:([0-9.]+):)?([0-9]{1,5}):([0-9]{1,5})$/.exec(ports) ?? [];
      if (hostPort === undefined) {
        throw usageError(
          `--net user ${protocol}= is [ADDRESS:]HOSTPORT:GUESTPORT, not ${ports}`,
          "--net user,tcp=8080:80",
        );
      }
      return {
        protocol: protocol as "tcp" | "udp",
        ...(hostAddress === undefined ? {} : { hostAddress }),
        hostPort: Number(hostPort),
        guestPort: Number(guestPort),
      };
    });
  const loopback = rest.find(([key]) => key === "loopback")?.[1];
  if (loopback !== undefined && loopback !== "yes" && loopback !== "no") {
    throw usageError(`--net user loopback= is yes or no, not ${loopback}`, "loopback=yes");
  }
  return {
    ...(forwards.length === 0 ? {} : { forwards }),
    ...(loopback === "yes" ? { hostLoopback: true } : {}),
  };
}

function parseAddress(said: ReadonlyMap<string, string>): GuestAddress | undefined {
  const ip = said.get("ip");
  const gateway = said.get("gateway");
  const dns = said.get("dns")?.split("+") ?? [];
  if (ip === undefined) {
    if (gateway === undefined && dns.length === 0) return undefined;
    throw usageError("--net gateway= and dns= go with ip=", "--net tap=tap0,ip=10.0.0.2/24");
  }
  const [address, bits = "24", ...more] = ip.split("/");
  if (!isIPv4(address) || !/^[0-9]{1,2}$/.test(bits) || Number(bits) > 32 || more.length > 0) {
    throw usageError(`--net ip= is ADDRESS/BITS, not ${ip}`, "--net tap=tap0,ip=10.0.0.2/24");
  }
  const odd = [gateway, ...dns].find((one) => one !== undefined && !isIPv4(one));
  if (odd !== undefined || dns.length > NAME_SERVERS_MAX) {
    throw usageError(
      `--net gateway= is an IPv4 address, and dns= one or two with + between, not ${odd ?? dns.join("+")}`,
      "--net tap=tap0,ip=10.0.0.2/24,gateway=10.0.0.1,dns=10.0.0.1+10.0.0.3",
    );
  }
  return {
    address,
    prefixBits: Number(bits),
    ...(gateway === undefined ? {} : { gateway }),
    dns,
  };
}

/** `ip=` for the interfaces that have an address: the kernel takes one. Empty: none has. */
export function addressWords(nets: readonly NetOption[]): string[] {
  const index = nets.findIndex(({ address }) => address !== undefined);
  if (index < 0) return [];
  const { address, prefixBits, gateway = "", dns } = nets[index].address as GuestAddress;
  const mask = prefixMask(prefixBits);
  const fields = [address, "", gateway, mask, "", `eth${index}`, "off", ...dns];
  return [`ip=${fields.join(":")}`];
}

function prefixMask(bits: number): string {
  return [0, 8, 16, 24]
    .map((start) => 256 - 2 ** (8 - Math.min(8, Math.max(0, bits - start))))
    .join(".");
}

interface CniResult {
  readonly interfaces?: readonly {
    readonly name?: unknown;
    readonly mac?: unknown;
    readonly sandbox?: unknown;
  }[];
  readonly ips?: readonly {
    readonly address?: unknown;
    readonly gateway?: unknown;
    readonly interface?: unknown;
  }[];
  readonly dns?: { readonly nameservers?: readonly unknown[] };
}

/**
 * The result of a chain of CNI plugins (CNI specification 1.0.0, "ADD Success") that ends in tc-redirect-tap, as
 * for Firecracker: the tap is the interface whose sandbox is a microVM's name and not a path's, or the last of
 * all; the guest's address and MAC are those of the interface in that sandbox.
 */
function readCniResult(file: string): NetOption {
  const bad = (what: string) =>
    usageError(`--cni ${file}: ${what}`, "it takes the JSON that a chain of CNI plugins printed");
  let result: CniResult | null;
  try {
    result = JSON.parse(readFileSync(file, "utf8")) as CniResult | null;
  } catch (error) {
    if (error instanceof SyntaxError) throw bad(error.message);
    throw hostError("read CNI result", file, error, "ERR_ESTALO_USAGE");
  }
  const interfaces = result?.interfaces;
  if (!Array.isArray(interfaces) || interfaces.some((one) => typeof one?.name !== "string")) {
    throw bad("it names no interfaces");
  }
  return cniOption(result as CniResult, bad);
}

function cniOption({ interfaces = [], ips = [], dns }: CniResult, bad: (what: string) => Error) {
  // The guest's own interface stands behind its tap, under the same name or another, with the guest's MAC.
  const guestIndex = interfaces.findIndex(
    ({ sandbox }) => typeof sandbox === "string" && sandbox !== "" && !sandbox.startsWith("/"),
  );
  const guest = interfaces[guestIndex];
  const tap = guest ?? interfaces.at(-1);
  if (tap === undefined) throw bad("it names no interfaces");
  const ownIps = listOf(ips).filter((one) => isCidr(one?.address));
  const ip = ownIps.find((one) => one.interface === guestIndex) ?? ownIps[0];
  const servers = listOf(dns?.nameservers).filter((one): one is string => isIPv4(String(one)));
  const [address, bits] = ip === undefined ? [] : String(ip.address).split("/");
  return {
    config: {
      tap: String(tap.name),
      ...(typeof tap.mac === "string" && tap.mac !== "" ? { mac: tap.mac } : {}),
    },
    ...(address === undefined
      ? {}
      : {
          address: {
            address,
            prefixBits: Number(bits),
            ...(isIPv4(String(ip?.gateway)) ? { gateway: String(ip?.gateway) } : {}),
            dns: servers.slice(0, NAME_SERVERS_MAX),
          },
        }),
  };
}

/** What should be a list, where it is one. */
function listOf<Item>(value: readonly Item[] | undefined): readonly Item[] {
  return Array.isArray(value) ? value : [];
}

function isCidr(value: unknown): boolean {
  const [address, bits = "", ...more] = String(value).split("/");
  return isIPv4(address) && /^[0-9]{1,2}$/.test(bits) && Number(bits) <= 32 && more.length === 0;
}
