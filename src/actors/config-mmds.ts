/**
 * The metadata service in a microVM's configuration, and its checks.
 */
import { isLinkLocal, parseAddress } from "../devices/mmds/frames.js";
import { MMDS_IPV4_DEFAULT } from "../devices/mmds/frames.regs.js";
import type { JsonObject } from "../devices/mmds/json-store.js";
import type { MmdsVersion } from "../devices/mmds/metadata.js";
import { boolean, integer, invalid, oneOf, onlyFields } from "./config-checks.js";
import type { CheckedInterface } from "./config-net.js";

/** What a guest can ask its host for at a link-local address. */
export interface MmdsConfig {
  /** V2 answers only who shows a session token. Default "V2". */
  readonly version?: MmdsVersion;
  /** 169.254.1.0 to 169.254.254.255. Default 169.254.169.254. */
  readonly ipv4Address?: string;
  /** Ids of the interfaces that reach it. Default: all. */
  readonly interfaces?: readonly string[];
  /** Bodies are as EC2's, whatever the client accepts. Default false. */
  readonly imdsCompat?: boolean;
  /** The data to begin with: any JSON object. Default: none. */
  readonly data?: Readonly<Record<string, unknown>>;
  /** Most bytes of the data as JSON text. Default 51,200. */
  readonly sizeLimitBytes?: number;
}

/** A metadata service with nothing left open. */
export interface CheckedMmds {
  readonly version: MmdsVersion;
  readonly ipv4Address: number;
  readonly interfaces: readonly string[];
  readonly imdsCompat: boolean;
  readonly data: JsonObject | undefined;
  readonly sizeLimitBytes: number;
}

/** Of the data, as Firecracker's. */
export const MMDS_SIZE_LIMIT_BYTES = 51_200;

const FIELDS = ["version", "ipv4Address", "interfaces", "imdsCompat", "data", "sizeLimitBytes"];
const ADDRESSES = "an address from 169.254.1.0 to 169.254.254.255";

/** The service with its defaults, or ERR_ESTALO_CONFIG_INVALID naming the field. What `data` holds is the store's to check. */
export function checkMmds(
  config: MmdsConfig,
  networkInterfaces: readonly CheckedInterface[],
): CheckedMmds {
  onlyFields("mmds", config, FIELDS);
  const ids = networkInterfaces.map(({ id }) => id);
  const interfaces = config.interfaces ?? ids;
  if (!Array.isArray(interfaces)) throw invalid("mmds.interfaces", "a list", interfaces);
  if (interfaces.length === 0)
    throw invalid("mmds.interfaces", "at least one interface", interfaces);
  for (const id of interfaces) {
    if (!ids.includes(id)) throw invalid("mmds.interfaces", "ids of networkInterfaces", id);
  }
  return {
    version: oneOf("mmds.version", config.version ?? "V2", ["V1", "V2"]),
    ipv4Address: checkAddress(config.ipv4Address),
    interfaces: [...new Set(interfaces)],
    imdsCompat: boolean("mmds.imdsCompat", config.imdsCompat ?? false),
    data: config.data as JsonObject | undefined,
    sizeLimitBytes: integer(
      "mmds.sizeLimitBytes",
      config.sizeLimitBytes ?? MMDS_SIZE_LIMIT_BYTES,
      0,
      Number.MAX_SAFE_INTEGER,
    ),
  };
}

function checkAddress(text: string | undefined): number {
  if (text === undefined) return MMDS_IPV4_DEFAULT;
  const address = typeof text === "string" ? parseAddress(text) : undefined;
  if (address !== undefined && isLinkLocal(address)) return address;
  throw invalid("mmds.ipv4Address", ADDRESSES, text);
}
