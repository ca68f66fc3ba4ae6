/**
 * The host's network as `ip` and `nft` show and change it. Every failure says operation, object and errno.
 */
import { execFileSync } from "node:child_process";
import { EstaloError } from "../../errors.js";

/** Both answer at once, but for modules that a slow host loads first. */
const COMMAND_TIMEOUT_MS = 60_000;
/** What they may print: a link with its details is more than a kilobyte, and a network has up to 65,534 taps. */
const OUTPUT_BYTES_MAX = 1 << 28;

/** What the kernel's texts mean, as those programs print them. */
const ERRNO_TEXTS: readonly (readonly [string, string])[] = [
  ["Operation not permitted", "EPERM"],
  ["Permission denied", "EACCES"],
  ["File exists", "EEXIST"],
  ["Device or resource busy", "EBUSY"],
  ["Cannot find device", "ENODEV"],
  ["No such device", "ENODEV"],
  ["No such file or directory", "ENOENT"],
  ["Operation not supported", "EOPNOTSUPP"],
  ["Invalid argument", "EINVAL"],
  ["Unknown device type", "EOPNOTSUPP"],
];

const PACKAGES: Readonly<Record<string, string>> = { ip: "iproute2", nft: "nftables" };

/** A network interface as `ip -json -details link` shows it; the fields that are used here. */
export interface HostLink {
  readonly ifname: string;
  readonly ifalias?: string;
  readonly master?: string;
  readonly flags: readonly string[];
  readonly linkinfo?: { readonly info_kind?: string };
}

interface HostAddress {
  readonly ifname: string;
  readonly addr_info: readonly {
    readonly family: string;
    readonly local?: string;
    readonly prefixlen: number;
  }[];
}

/** What is done with what, for errors. */
export interface Doing {
  readonly operation: string;
  readonly object: string;
}

/** An error of `estalo net` and `--net bridge=`. */
export function networkError(
  { operation, object }: Doing,
  errno: string,
  hint?: string,
  said?: string,
): EstaloError {
  return new EstaloError("ERR_ESTALO_NETWORK", `${operation} ${object}: ${errno}`, {
    data: { operation, object, errno, ...(said === undefined ? {} : { said }) },
    ...(hint === undefined ? {} : { hint }),
  });
}

/** Runs one of the programs; what it printed. Raises ERR_ESTALO_NETWORK. */
export function command(
  doing: Doing,
  program: "ip" | "nft",
  words: readonly string[],
  input = "",
): string {
  try {
    return execFileSync(program, words, {
      input,
      encoding: "utf8",
      stdio: "pipe",
      timeout: COMMAND_TIMEOUT_MS,
      maxBuffer: OUTPUT_BYTES_MAX,
      env: { ...process.env, LC_ALL: "C", PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    });
  } catch (error) {
    throw commandError(doing, program, error);
  }
}

function commandError(doing: Doing, program: string, error: unknown): EstaloError {
  const { code, stderr } = error as NodeJS.ErrnoException & { readonly stderr?: string };
  if (code === "ENOENT") {
    const hint = `${program} is not installed; on Debian: apt-get install ${PACKAGES[program]}`;
    return networkError(doing, code, hint);
  }
  const said = (stderr ?? "").trim();
  const errno = ERRNO_TEXTS.find(([text]) => said.includes(text))?.[1];
  const isForbidden = errno === "EPERM" || errno === "EACCES";
  return networkError(
    doing,
    errno ?? code ?? (said.split("\n")[0] || `${program} failed`),
    isForbidden ? "it needs root, or CAP_NET_ADMIN: sudo estalo net …" : undefined,
    said,
  );
}

/** All interfaces of this network namespace. */
export function hostLinks(): readonly HostLink[] {
  const doing = { operation: "list", object: "network interfaces" };
  return JSON.parse(command(doing, "ip", ["-json", "-details", "link", "show"])) as HostLink[];
}

/** IPv4 addresses, `ADDRESS/BITS` by interface. */
export function hostAddresses(): ReadonlyMap<string, readonly string[]> {
  const doing = { operation: "list", object: "addresses" };
  const all = JSON.parse(command(doing, "ip", ["-json", "-4", "addr", "show"])) as HostAddress[];
  return new Map(
    all.map(({ ifname, addr_info }) => [
      ifname,
      addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    ]),
  );
}
