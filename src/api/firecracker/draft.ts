/**
 * A machine while it is configured: what Firecracker's requests have set so far, complete with defaults, and
 * the same as a configuration of the library. A draft is never changed, only replaced.
 */
import type { CheckedConfig, DriveConfig, MicroVmConfig } from "../../actors/config.js";
import type { BalloonConfig, CheckedBalloon } from "../../actors/config-balloon.js";
import type { MmdsConfig } from "../../actors/config-mmds.js";
import {
  type CheckedInterface,
  formatMac,
  type NetworkInterfaceConfig,
} from "../../actors/config-net.js";
import type { CheckedVsock, VsockConfig } from "../../actors/config-vsock.js";
import type { Metadata } from "../../actors/metadata-store.js";
import { formatAddress } from "../../devices/mmds/frames.js";
import {
  fromMemoryHotplug,
  fromPmem,
  type MemoryHotplug,
  type Pmem,
  toMemoryHotplugConfig,
  toPmemConfig,
} from "./memory-draft.js";
import { fromLimiter, shownLimiter, toBucket, toLimiter } from "./rate-limiters.js";
import type {
  BootSourceJson,
  CpuConfigJson,
  DriveJson,
  EntropyJson,
  FullVmConfigJson,
  MachineConfigJson,
  RateLimiterJson,
  SerialJson,
} from "./schemas.js";

/** A machine configuration with nothing left open; static CPU templates are refused before. */
export type Machine = Required<Omit<MachineConfigJson, "cpu_template">>;

/** A drive with nothing left open, as `GET /vm/config` shows it. */
export interface Drive {
  readonly drive_id: string;
  readonly partuuid: string | null;
  readonly is_root_device: boolean;
  readonly cache_type: "Unsafe" | "Writeback";
  readonly is_read_only: boolean;
  readonly path_on_host: string;
  readonly rate_limiter: RateLimiterJson | null;
  readonly io_engine: "Sync" | "Async";
  readonly socket: null;
}

/** A network interface with nothing left open, as `GET /vm/config` shows it. */
export interface Interface {
  readonly iface_id: string;
  readonly host_dev_name: string;
  readonly guest_mac: string | null;
  readonly mtu: number | null;
  readonly rx_rate_limiter: RateLimiterJson | null;
  readonly tx_rate_limiter: RateLimiterJson | null;
}

/** The metadata service with nothing left open, as `GET /vm/config` shows it. */
export interface Mmds {
  readonly version: "V1" | "V2";
  readonly network_interfaces: readonly string[];
  readonly ipv4_address: string;
  readonly imds_compat: boolean;
}

/** The vsock device, as `GET /vm/config` shows it. */
export interface Vsock {
  readonly guest_cid: number;
  readonly uds_path: string;
}

/** The balloon with nothing left open, as `GET /vm/config` shows it. */
export interface Balloon {
  readonly amount_mib: number;
  readonly deflate_on_oom: boolean;
  readonly stats_polling_interval_s: number;
  readonly free_page_hinting: boolean;
  readonly free_page_reporting: boolean;
}

/** See the file's header. */
export interface Draft {
  readonly machine: Machine;
  readonly bootSource: BootSourceJson | undefined;
  readonly cpuConfig: CpuConfigJson | undefined;
  /** The root drive is the first. */
  readonly drives: readonly Drive[];
  readonly pmem: readonly Pmem[];
  readonly interfaces: readonly Interface[];
  readonly mmds: Mmds | undefined;
  /** What the metadata service begins with; `undefined`: not set yet. */
  readonly metadata: Metadata | undefined;
  readonly vsock: Vsock | undefined;
  readonly balloon: Balloon | undefined;
  readonly memoryHotplug: MemoryHotplug | undefined;
  readonly entropy: EntropyJson | undefined;
  /** Not told by `GET /vm/config`, as in Firecracker. */
  readonly serial: SerialJson | undefined;
}

/** What Firecracker starts from. */
export const EMPTY_DRAFT: Draft = {
  machine: {
    vcpu_count: 1,
    mem_size_mib: 128,
    smt: false,
    track_dirty_pages: false,
    huge_pages: "None",
  },
  bootSource: undefined,
  cpuConfig: undefined,
  drives: [],
  pmem: [],
  interfaces: [],
  mmds: undefined,
  metadata: undefined,
  vsock: undefined,
  balloon: undefined,
  memoryHotplug: undefined,
  entropy: undefined,
  serial: undefined,
};

/** A request's drive with Firecracker's defaults; it has a path. */
export function completeDrive(drive: DriveJson & { readonly path_on_host: string }): Drive {
  return {
    drive_id: drive.drive_id,
    partuuid: drive.partuuid ?? null,
    is_root_device: drive.is_root_device,
    cache_type: drive.cache_type ?? "Unsafe",
    is_read_only: drive.is_read_only ?? false,
    path_on_host: drive.path_on_host,
    rate_limiter: shownLimiter(drive.rate_limiter),
    io_engine: drive.io_engine ?? "Sync",
    socket: null,
  };
}

/**
 * The drives with this one in the place of its id's, or added; a root drive comes first. `undefined`: there is
 * another root drive already.
 */
export function withDrive(drives: readonly Drive[], drive: Drive): readonly Drive[] | undefined {
  const index = drives.findIndex(({ drive_id }) => drive_id === drive.drive_id);
  if (drive.is_root_device && drives[0]?.is_root_device && index !== 0) return undefined;
  if (index < 0) return drive.is_root_device ? [drive, ...drives] : [...drives, drive];
  const replaced = drives.with(index, drive);
  if (!drive.is_root_device || index === 0) return replaced;
  return replaced.with(0, drive).with(index, drives[0]);
}

/** The interfaces with this one in the place of its id's, or added. */
export function withInterface(
  interfaces: readonly Interface[],
  one: Interface,
): readonly Interface[] {
  const index = interfaces.findIndex(({ iface_id }) => iface_id === one.iface_id);
  return index < 0 ? [...interfaces, one] : interfaces.with(index, one);
}

/** What `GET /vm/config` answers. */
export function fullConfig(draft: Draft, isStarted: boolean): FullVmConfigJson {
  const { bootSource } = draft;
  return {
    balloon: draft.balloon ?? null,
    drives: draft.drives.map((drive) => ({ ...drive })),
    "boot-source": {
      kernel_image_path: bootSource?.kernel_image_path ?? "",
      initrd_path: bootSource?.initrd_path ?? null,
      boot_args: bootSource?.boot_args ?? null,
    },
    // As Firecracker: a template that the vCPUs have is not told again.
    "cpu-config": isStarted ? null : (draft.cpuConfig ?? null),
    logger: null,
    "machine-config": draft.machine,
    metrics: null,
    "mmds-config":
      draft.mmds === undefined
        ? null
        : { ...draft.mmds, network_interfaces: [...draft.mmds.network_interfaces] },
    "network-interfaces": draft.interfaces.map((one) => ({ ...one })),
    vsock: draft.vsock ?? null,
    entropy: draft.entropy ?? null,
    pmem: draft.pmem.map((one) => ({ ...one })),
    "memory-hotplug": draft.memoryHotplug ?? null,
  };
}

/** The draft as the library's configuration; without `kernel` while no boot source is set. */
export function toMicroVmConfig(draft: Draft): MicroVmConfig {
  const { machine, bootSource, cpuConfig, entropy } = draft;
  const bucket = draft.serial?.rate_limiter;
  return {
    vcpuCount: machine.vcpu_count,
    memoryMib: machine.mem_size_mib,
    smt: machine.smt,
    hugePages: HUGE_PAGES[machine.huge_pages],
    drives: draft.drives.map(toDriveConfig),
    entropy: entropy === undefined ? false : { rateLimiter: toLimiter(entropy.rate_limiter) },
    networkInterfaces: draft.interfaces.map(toInterfaceConfig),
    ...(draft.mmds === undefined ? {} : { mmds: toMmdsConfig(draft.mmds, draft.metadata) }),
    ...(draft.vsock === undefined ? {} : { vsock: toVsockConfig(draft.vsock) }),
    ...(draft.pmem.length === 0 ? {} : { pmem: draft.pmem.map(toPmemConfig) }),
    ...(draft.memoryHotplug && { memoryHotplug: toMemoryHotplugConfig(draft.memoryHotplug) }),
    ...(draft.balloon === undefined ? {} : { balloon: toBalloonConfig(draft.balloon) }),
    ...(bucket == null ? {} : { serial: { rateLimiter: toBucket(bucket) } }),
    ...(bootSource === undefined ? {} : toBootConfig(bootSource)),
    ...(cpuConfig === undefined ? {} : { cpuTemplate: cpuConfig }),
  };
}

function toBootConfig({ kernel_image_path, initrd_path, boot_args }: BootSourceJson) {
  return {
    kernel: kernel_image_path,
    ...(initrd_path == null ? {} : { initrd: initrd_path }),
    ...(boot_args == null ? {} : { bootArgs: boot_args }),
  };
}

function toDriveConfig(drive: Drive): DriveConfig {
  return {
    id: drive.drive_id,
    path: drive.path_on_host,
    isRoot: drive.is_root_device,
    // Firecracker ignores it on other drives.
    ...(drive.partuuid !== null && drive.is_root_device ? { partuuid: drive.partuuid } : {}),
    readOnly: drive.is_read_only,
    cacheType: drive.cache_type,
    // "Sync" names no engine of ours: it gets the best there is.
    ioEngine: drive.io_engine === "Async" ? "io_uring" : "auto",
    rateLimiter: toLimiter(drive.rate_limiter),
  };
}

function toInterfaceConfig(one: Interface): NetworkInterfaceConfig {
  return {
    id: one.iface_id,
    tap: one.host_dev_name,
    ...(one.guest_mac === null ? {} : { mac: one.guest_mac }),
    ...(one.mtu === null ? {} : { mtu: one.mtu }),
    rxRateLimiter: toLimiter(one.rx_rate_limiter),
    txRateLimiter: toLimiter(one.tx_rate_limiter),
  };
}

function toMmdsConfig(mmds: Mmds, data: Metadata | undefined): MmdsConfig {
  return {
    version: mmds.version,
    interfaces: mmds.network_interfaces,
    ipv4Address: mmds.ipv4_address,
    imdsCompat: mmds.imds_compat,
    ...(data === undefined ? {} : { data }),
  };
}

function fromMmds({ mmds }: CheckedConfig): Mmds | undefined {
  if (mmds === undefined) return undefined;
  return {
    version: mmds.version,
    network_interfaces: mmds.interfaces,
    ipv4_address: formatAddress(mmds.ipv4Address),
    imds_compat: mmds.imdsCompat,
  };
}

function toVsockConfig({ guest_cid, uds_path }: Vsock): VsockConfig {
  return { guestCid: guest_cid, udsPath: uds_path };
}

function fromInterface(one: CheckedInterface): Interface {
  return {
    iface_id: one.id,
    // Only a tap can be said here.
    host_dev_name: one.tap ?? "",
    guest_mac: formatMac(one.mac),
    mtu: one.mtu ?? null,
    rx_rate_limiter: fromLimiter(one.rxRateLimiter),
    tx_rate_limiter: fromLimiter(one.txRateLimiter),
  };
}

function fromVsock(vsock: CheckedVsock | undefined): Vsock | undefined {
  if (vsock?.udsPath === undefined) return undefined;
  return { guest_cid: vsock.guestCid, uds_path: vsock.udsPath };
}

function toBalloonConfig(balloon: Balloon): BalloonConfig {
  return {
    amountMib: balloon.amount_mib,
    deflateOnOom: balloon.deflate_on_oom,
    statsIntervalS: balloon.stats_polling_interval_s,
    freePageHinting: balloon.free_page_hinting,
    freePageReporting: balloon.free_page_reporting,
  };
}

function fromBalloon(balloon: CheckedBalloon | undefined): Balloon | undefined {
  if (balloon === undefined) return undefined;
  return {
    amount_mib: balloon.amountMib,
    deflate_on_oom: balloon.deflateOnOom,
    stats_polling_interval_s: balloon.statsIntervalS,
    free_page_hinting: balloon.freePageHinting,
    free_page_reporting: balloon.freePageReporting,
  };
}

/** Firecracker's words, and ours. */
const HUGE_PAGES = { None: false, Transparent: "transparent", "2M": true } as const;

function hugePagesName(hugePages: CheckedConfig["hugePages"]): keyof typeof HUGE_PAGES {
  if (hugePages === "transparent") return "Transparent";
  return hugePages ? "2M" : "None";
}

/** A draft of a configuration that came another way; what Firecracker cannot say is lost. */
export function fromConfig(config: CheckedConfig): Draft {
  return {
    machine: {
      vcpu_count: config.vcpuCount,
      mem_size_mib: config.memoryMib,
      smt: config.smt,
      track_dirty_pages: false,
      huge_pages: hugePagesName(config.hugePages),
    },
    bootSource: {
      kernel_image_path: config.kernel,
      initrd_path: config.initrd ?? null,
      boot_args: config.bootArgs ?? null,
    },
    cpuConfig: config.cpuTemplate as CpuConfigJson | undefined,
    drives: config.drives.map((drive) => ({
      drive_id: drive.id,
      partuuid: drive.partuuid ?? null,
      is_root_device: drive.isRoot,
      cache_type: drive.cacheType,
      is_read_only: drive.readOnly,
      path_on_host: drive.path,
      rate_limiter: fromLimiter(drive.rateLimiter),
      io_engine: drive.ioEngine === "io_uring" ? "Async" : "Sync",
      socket: null,
    })),
    pmem: fromPmem(config),
    interfaces: config.networkInterfaces.map(fromInterface),
    mmds: fromMmds(config),
    metadata: config.mmds?.data,
    vsock: fromVsock(config.vsock),
    balloon: fromBalloon(config.balloon),
    memoryHotplug: fromMemoryHotplug(config),
    entropy:
      config.entropy === undefined
        ? undefined
        : { rate_limiter: fromLimiter(config.entropy.rateLimiter ?? {}) },
    serial: undefined,
  };
}
