/**
 * What a microVM is made from: the library's configuration, its defaults and its checks.
 *
 * Checked once, here, for every door (library, command line, Firecracker's JSON): what comes out of
 * `checkConfig` is complete and within its ranges. Files are opened later, by who owns them, and name
 * their own errors.
 */
import { readFileSync } from "node:fs";
import { VCPU_COUNT_MAX } from "../boot/layout.js";
import { MEMORY_MIB_MAX, MEMORY_MIB_MIN } from "../boot/memory-map.js";
import type { RateLimiterConfig, TokenBucketConfig } from "../devices/rate-limiter.js";
import { EstaloError, hostError } from "../errors.js";
import { type BalloonConfig, type CheckedBalloon, checkBalloon } from "./config-balloon.js";
import { boolean, integer, invalid, oneOf, onlyFields, text } from "./config-checks.js";
import { checkDevices, type UserDevice } from "./config-devices.js";
import {
  type CheckedMemoryHotplug,
  checkMemoryHotplug,
  type MemoryHotplugConfig,
} from "./config-memory-hotplug.js";
import { type CheckedMmds, checkMmds, type MmdsConfig } from "./config-mmds.js";
import {
  type CheckedInterface,
  checkInterfaces,
  type NetworkInterfaceConfig,
} from "./config-net.js";
import { type CheckedPmem, checkPmem, type PmemConfig } from "./config-pmem.js";
import { checkRateLimiter, checkTokenBucket } from "./config-rate-limiter.js";
import { type CheckedVsock, checkVsock, type VsockConfig } from "./config-vsock.js";

/** When a guest's writes reach the disk: never asked for, or at its FLUSH requests. */
export type CacheType = "Unsafe" | "Writeback";

/** How a drive's requests reach the host: io_uring where it exists, or Node's own thread pool. */
export type IoEngine = "auto" | "io_uring" | "libuv";

/** One virtio block device. */
export interface DriveConfig {
  /** Unique in the microVM; letters, digits and underscores, 1 to 64. Default: `drive0`, `drive1`, … */
  readonly id?: string;
  /** A regular file or block device, opened when the microVM is created. */
  readonly path: string;
  /** Adds `root=/dev/vda` (or `PARTUUID`) to the command line and attaches the drive first. Default false. */
  readonly isRoot?: boolean;
  /** Of the root partition on this drive; only with `isRoot`. */
  readonly partuuid?: string;
  /** Default false. */
  readonly readOnly?: boolean;
  /** Default "Writeback": what the guest flushed is on the disk. */
  readonly cacheType?: CacheType;
  /** Default "auto". */
  readonly ioEngine?: IoEngine;
  /** Limits of its requests and of the bytes they move. Default: none. */
  readonly rateLimiter?: RateLimiterConfig;
}

/** What can be changed of a drive while the guest runs. */
export interface DriveChange {
  /** Another file; without `path` and `rateLimiter` the same file is measured again. */
  readonly path?: string;
  /** Buckets that are given replace the drive's; a bucket of size 0 lifts its limit. */
  readonly rateLimiter?: RateLimiterConfig;
}

/** The virtio entropy device. */
export interface EntropyConfig {
  /** Limits of its requests and of the bytes it gives. Default: none. */
  readonly rateLimiter?: RateLimiterConfig;
}

/** The serial port. */
export interface SerialConfig {
  /** Limit of the guest's output in bytes; what is beyond it is dropped and counted. Default: none. */
  readonly rateLimiter?: TokenBucketConfig;
}

/** Firecracker's custom CPU template as parsed JSON, or the path of a file with it. */
export type CpuTemplateConfig = string | Readonly<Record<string, unknown>>;

/** See `MicroVmConfig.hugePages`. */
export type HugePages = boolean | "transparent";

/** Everything that can be said about a microVM before it starts. All fields have defaults. */
export interface MicroVmConfig {
  /** Name in events and errors: 1 to 64 of letters, digits and hyphens. Default: random. */
  readonly id?: string;
  /** A vmlinux (ELF) or bzImage. Default: the kernel that comes with Estalo. */
  readonly kernel?: string;
  /** Default: none. */
  readonly initrd?: string;
  /** The kernel's arguments, without root= and the devices, which are added. Default: see docs/guest.md. */
  readonly bootArgs?: string;
  /** 1 to 32. Default 1. */
  readonly vcpuCount?: number;
  /** Two threads to a core; then `vcpuCount` is 1 or even. Default false. */
  readonly smt?: boolean;
  /** Guest memory in MiB, 32 to 261,120. Default 128, as Firecracker. */
  readonly memoryMib?: number;
  /**
   * Pages of 2 MiB for guest memory; then `memoryMib` is even. `true`: those that the host has reserved, all of it or
   * ERR_ESTALO_HOST; `"transparent"`: where the host has them at hand (faster, and a guest that uses little holds
   * more). Default false: small ones.
   */
  readonly hugePages?: HugePages;
  /** In the order of their devices. Default: the root file system that comes with Estalo, if `kernel` is its own. */
  readonly drives?: readonly DriveConfig[];
  /** Persistent memory, in the order of their devices: the first is /dev/pmem0. Default: none. */
  readonly pmem?: readonly PmemConfig[];
  /** In the order of their devices: the first is eth0. Default: none. */
  readonly networkInterfaces?: readonly NetworkInterfaceConfig[];
  /** The metadata service, which some interfaces reach. Default: none. */
  readonly mmds?: MmdsConfig;
  /** A memory balloon. Default: none. */
  readonly balloon?: BalloonConfig;
  /** Memory that can be plugged while the guest runs. Default: none. */
  readonly memoryHotplug?: MemoryHotplugConfig;
  /** A virtio socket device. Default: none. */
  readonly vsock?: VsockConfig;
  /** A virtio entropy device. Default true. */
  readonly entropy?: boolean | EntropyConfig;
  readonly serial?: SerialConfig;
  /** Devices of your own (`defineVirtioDevice`), after all others. Default: none. */
  readonly devices?: readonly UserDevice[];
  /** Masks for CPUID and MSRs. Default: KVM's own. */
  readonly cpuTemplate?: CpuTemplateConfig;
}

/** A configuration that is data alone, as files, fleets and servers keep it. */
export type StoredConfig = Omit<MicroVmConfig, "devices">;

/** A drive with nothing left open. */
export interface CheckedDrive {
  readonly id: string;
  readonly path: string;
  readonly isRoot: boolean;
  readonly partuuid: string | undefined;
  readonly readOnly: boolean;
  readonly cacheType: CacheType;
  readonly ioEngine: IoEngine;
  readonly rateLimiter: RateLimiterConfig;
}

/** A configuration with nothing left open. */
export interface CheckedConfig {
  readonly id: string;
  readonly kernel: string;
  readonly initrd: string | undefined;
  readonly bootArgs: string | undefined;
  readonly vcpuCount: number;
  readonly smt: boolean;
  readonly memoryMib: number;
  readonly hugePages: HugePages;
  readonly drives: readonly CheckedDrive[];
  readonly pmem: readonly CheckedPmem[];
  readonly networkInterfaces: readonly CheckedInterface[];
  readonly mmds: CheckedMmds | undefined;
  readonly balloon: CheckedBalloon | undefined;
  readonly memoryHotplug: CheckedMemoryHotplug | undefined;
  readonly vsock: CheckedVsock | undefined;
  readonly entropy: EntropyConfig | undefined;
  readonly serial: SerialConfig;
  readonly devices: readonly UserDevice[];
  /** The template's parsed JSON. */
  readonly cpuTemplate: unknown;
}

const DEFAULT_MEMORY_MIB = 128;

const DRIVE_FIELDS = [
  "id",
  "path",
  "isRoot",
  "partuuid",
  "readOnly",
  "cacheType",
  "ioEngine",
  "rateLimiter",
];

function checkDrive(drive: DriveConfig, index: number): CheckedDrive {
  const where = `drives[${index}]`;
  onlyFields(where, drive, DRIVE_FIELDS);
  const id = drive.id ?? `drive${index}`;
  if (typeof id !== "string" || !/^[\p{L}\p{N}_]{1,64}$/u.test(id)) {
    throw invalid(`${where}.id`, "1 to 64 letters, digits and underscores", id);
  }
  const isRoot = boolean(`${where}.isRoot`, drive.isRoot ?? false);
  if (drive.partuuid !== undefined && !isRoot) {
    throw invalid(`${where}.partuuid`, "isRoot beside it", drive.partuuid);
  }
  return {
    id,
    path: text(`${where}.path`, drive.path),
    isRoot,
    partuuid: drive.partuuid === undefined ? undefined : text(`${where}.partuuid`, drive.partuuid),
    readOnly: boolean(`${where}.readOnly`, drive.readOnly ?? false),
    cacheType: oneOf(`${where}.cacheType`, drive.cacheType ?? "Writeback", ["Unsafe", "Writeback"]),
    ioEngine: oneOf(`${where}.ioEngine`, drive.ioEngine ?? "auto", ["auto", "io_uring", "libuv"]),
    rateLimiter: checkRateLimiter(`${where}.rateLimiter`, drive.rateLimiter ?? {}),
  };
}

function checkDrives(drives: readonly DriveConfig[]): CheckedDrive[] {
  if (!Array.isArray(drives)) throw invalid("drives", "a list", drives);
  const checked = drives.map(checkDrive);
  for (const [index, drive] of checked.entries()) {
    if (checked.findIndex((other) => other.id === drive.id) !== index) {
      throw invalid(`drives[${index}].id`, "an id that no other drive has", drive.id);
    }
  }
  const roots = checked.filter((drive) => drive.isRoot);
  if (roots.length > 1)
    throw invalid(
      "drives",
      "at most one root drive",
      roots.map((d) => d.id),
    );
  // The root drive is the first virtio block device, so that it is /dev/vda.
  return [...roots, ...checked.filter((drive) => !drive.isRoot)];
}

function readTemplate(template: CpuTemplateConfig | undefined): unknown {
  if (template === undefined) return undefined;
  if (typeof template === "object" && template !== null && !Array.isArray(template))
    return template;
  if (typeof template !== "string" || template.length === 0) {
    throw invalid("cpuTemplate", "a template or the path of one", template);
  }
  let json: string;
  try {
    json = readFileSync(template, "utf8");
  } catch (error) {
    throw hostError("read CPU template", template, error, "ERR_ESTALO_CPU_TEMPLATE");
  }
  try {
    return JSON.parse(json);
  } catch (error) {
    throw new EstaloError("ERR_ESTALO_CPU_TEMPLATE", `${template}: ${(error as Error).message}`);
  }
}

function checkEntropy(entropy: boolean | EntropyConfig): EntropyConfig | undefined {
  if (entropy === false) return undefined;
  if (entropy === true) return {};
  onlyFields("entropy", entropy, ["rateLimiter"]);
  return { rateLimiter: checkRateLimiter("entropy.rateLimiter", entropy.rateLimiter ?? {}) };
}

function checkSerial(serial: SerialConfig): SerialConfig {
  onlyFields("serial", serial, ["rateLimiter"]);
  if (serial.rateLimiter === undefined) return {};
  return { rateLimiter: checkTokenBucket("serial.rateLimiter", serial.rateLimiter) };
}

/** What a command line may not hold is prepareBoot's to say; here only that it is text. */
function checkBootArgs(bootArgs: unknown): string | undefined {
  if (bootArgs === undefined || typeof bootArgs === "string") return bootArgs;
  throw invalid("bootArgs", "a string", bootArgs);
}

const CONFIG_FIELDS = [
  "id",
  "kernel",
  "initrd",
  "bootArgs",
  "vcpuCount",
  "smt",
  "memoryMib",
  "hugePages",
  "drives",
  "pmem",
  "networkInterfaces",
  "mmds",
  "balloon",
  "memoryHotplug",
  "vsock",
  "entropy",
  "serial",
  "devices",
  "cpuTemplate",
];

/**
 * The configuration with its defaults, or ERR_ESTALO_CONFIG_INVALID naming the first field that is wrong
 * (`data`: field, expected, got).
 *
 * @param config - the caller's; `kernel` must be set (the default guest is filled in before)
 */
export function checkConfig(config: MicroVmConfig & { readonly kernel: string }): CheckedConfig {
  onlyFields("config", config, CONFIG_FIELDS);
  const id = config.id ?? `vm-${Math.random().toString(36).slice(2, 10)}`;
  if (typeof id !== "string" || !/^[A-Za-z0-9-]{1,64}$/.test(id)) {
    throw invalid("id", "1 to 64 letters, digits and hyphens", id);
  }
  const vcpuCount = integer("vcpuCount", config.vcpuCount ?? 1, 1, VCPU_COUNT_MAX);
  const smt = boolean("smt", config.smt ?? false);
  if (smt && vcpuCount > 1 && vcpuCount % 2 !== 0) {
    throw invalid("vcpuCount", "1 or an even number with smt", vcpuCount);
  }
  const memoryMib = config.memoryMib ?? DEFAULT_MEMORY_MIB;
  if (typeof memoryMib === "number" && memoryMib < MEMORY_MIB_MIN) {
    throw new EstaloError(
      "ERR_ESTALO_MEMORY_TOO_SMALL",
      `memoryMib: at least ${MEMORY_MIB_MIN} MiB, got ${memoryMib}`,
      { data: { neededMib: MEMORY_MIB_MIN, givenMib: memoryMib } },
    );
  }
  integer("memoryMib", memoryMib, MEMORY_MIB_MIN, MEMORY_MIB_MAX);
  const { hugePages = false } = config;
  if (![true, false, "transparent"].includes(hugePages)) {
    throw invalid("hugePages", 'true, false or "transparent"', hugePages);
  }
  if (hugePages !== false && memoryMib % 2 !== 0) {
    throw invalid("memoryMib", "an even number with hugePages", memoryMib);
  }
  const drives = checkDrives(config.drives ?? []);
  const networkInterfaces = checkInterfaces(config.networkInterfaces ?? [], vcpuCount);
  return {
    id,
    kernel: text("kernel", config.kernel),
    initrd: config.initrd === undefined ? undefined : text("initrd", config.initrd),
    bootArgs: checkBootArgs(config.bootArgs),
    vcpuCount,
    smt,
    memoryMib,
    hugePages,
    drives,
    pmem: checkPmem(config.pmem ?? [], drives),
    networkInterfaces,
    mmds: config.mmds === undefined ? undefined : checkMmds(config.mmds, networkInterfaces),
    balloon: config.balloon === undefined ? undefined : checkBalloon(config.balloon, memoryMib),
    memoryHotplug: config.memoryHotplug && checkMemoryHotplug(config.memoryHotplug),
    vsock: config.vsock === undefined ? undefined : checkVsock(config.vsock),
    entropy: checkEntropy(config.entropy ?? true),
    serial: checkSerial(config.serial ?? {}),
    devices: checkDevices(config.devices ?? []),
    cpuTemplate: readTemplate(config.cpuTemplate),
  };
}
