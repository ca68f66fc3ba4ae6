/**
 * What `estalo doctor` looks at: one small function per matter, over probes that specs can replace.
 *
 * A check fails when no microVM can run because of it; what only costs speed or a feature is a warning.
 */
import type { ErrorCode } from "../errors.js";

export type CheckStatus = "ok" | "warn" | "fail";

/** What one check found. */
export interface CheckResult {
  readonly name: string;
  readonly status: CheckStatus;
  readonly detail: string;
  /** A command or a sentence that mends it. */
  readonly remedy?: string;
}

/** What opening KVM gave. */
export type KvmProbe =
  | {
      readonly apiVersion: number;
      readonly vcpusRecommended: number;
      readonly vcpusMax: number;
    }
  | { readonly code: ErrorCode; readonly message: string };

/** The host, as the checks see it. Paths are absolute; errors are errno names. */
export interface HostProbes {
  readonly platform: string;
  readonly arch: string;
  readonly nodeVersion: string;
  readonly user: string;
  readonly freeMemoryBytes: number;
  readonly totalMemoryBytes: number;
  exists(path: string): boolean;
  /** undefined when it cannot be read. */
  readText(path: string): string | undefined;
  /** Tries to open: "ok" or an errno name. */
  tryOpen(path: string, mode: "read" | "read-write"): string;
  /** Name of the group that may read and write the path beside its owner; undefined if none may. */
  writingGroup(path: string): string | undefined;
  /** undefined when it loads, else why it does not. */
  addonFailure(): string | undefined;
  kvm(): KvmProbe;
  /** Sets up a ring: "ok" or an errno name. */
  tryIoUring(): string;
  cacheFolder(): string;
  /** Writes into the folder, making it if need be: "ok" or an errno name. */
  tryWriteFolder(path: string): string;
  /** The default guest's version; raises when there is none. */
  defaultGuest(): Promise<string>;
}

export type Check = (host: HostProbes) => CheckResult | Promise<CheckResult>;

const KVM_DEVICE = "/dev/kvm";
const MIB = 2 ** 20;
/** Below this even the default guest does not fit beside us. */
const FREE_MEMORY_BYTES_MIN = 384 * MIB;

const ok = (name: string, detail: string): CheckResult => ({ name, status: "ok", detail });

function result(name: string, status: CheckStatus, detail: string, remedy?: string): CheckResult {
  return { name, status, detail, ...(remedy === undefined ? {} : { remedy }) };
}

export function checkPlatform({ platform, arch }: HostProbes): CheckResult {
  if (platform === "linux" && arch === "x64") return ok("platform", "Linux on x86-64");
  return result(
    "platform",
    "fail",
    `${platform} on ${arch}`,
    "Estalo needs Linux on x86-64: its microVMs run on KVM",
  );
}

export function checkNode({ nodeVersion }: HostProbes): CheckResult {
  const [major, minor] = nodeVersion.replace(/^v/, "").split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 17)) return ok("node", nodeVersion);
  return result("node", "fail", nodeVersion, "install Node.js 20.17 or later");
}

export function checkAddon(host: HostProbes): CheckResult {
  const failure = host.addonFailure();
  if (failure === undefined) return ok("addon", "loads");
  return result("addon", "fail", failure, "npm run setup");
}

/** Whether the device is there and ours to use. */
export function checkKvmDevice(host: HostProbes): CheckResult {
  const errno = host.tryOpen(KVM_DEVICE, "read-write");
  if (errno === "ok") return ok("kvm", `${KVM_DEVICE} is readable and writable`);
  if (errno === "EACCES" || errno === "EPERM") {
    const detail = `no permission on ${KVM_DEVICE} (${errno})`;
    return result("kvm", "fail", detail, permissionRemedy(host));
  }
  return result("kvm", "fail", `cannot open ${KVM_DEVICE} (${errno})`, missingRemedy(host));
}

function permissionRemedy(host: HostProbes): string {
  if (isContainer(host)) {
    return "start the container with --device /dev/kvm, as a user that may open it";
  }
  const group = host.writingGroup(KVM_DEVICE);
  if (group === undefined) return `sudo setfacl -m u:${host.user}:rw ${KVM_DEVICE}`;
  return `sudo usermod -aG ${group} ${host.user}, then log in again`;
}

function missingRemedy(host: HostProbes): string {
  if (isContainer(host)) return "start the container with --device /dev/kvm";
  const flags = /^flags\s*:(.*)$/m.exec(host.readText("/proc/cpuinfo") ?? "")?.[1] ?? "";
  if (/\bvmx\b/.test(flags)) return "sudo modprobe kvm_intel";
  if (/\bsvm\b/.test(flags)) return "sudo modprobe kvm_amd";
  return "switch virtualisation on in the firmware; in a cloud, take an instance with nested virtualisation or a bare-metal one";
}

function isContainer(host: HostProbes): boolean {
  return host.exists("/.dockerenv") || host.exists("/run/.containerenv");
}

/** Whether KVM offers what a microVM needs. */
export function checkKvmFeatures(host: HostProbes): CheckResult {
  const kvm = host.kvm();
  if ("code" in kvm) return result("kvm-features", "fail", kvm.message);
  const { apiVersion, vcpusRecommended, vcpusMax } = kvm;
  return ok(
    "kvm-features",
    `API version ${apiVersion}, all capabilities there, ${vcpusRecommended} vCPUs recommended, ${vcpusMax} at most`,
  );
}

/** Who runs the guest's code. */
export function checkKvmKind(host: HostProbes): CheckResult {
  if (host.exists("/sys/module/kvm_pvm")) {
    return result(
      "kvm-kind",
      "warn",
      "PVM: this host has no hardware virtualisation, the guest's kernel code is emulated",
      "guests boot in seconds rather than in a fraction of one, programs in them run at full speed; only kernels built for it boot, as the default guest's (docs/hosts.md)",
    );
  }
  for (const [module, maker] of [
    ["kvm_intel", "Intel VT-x"],
    ["kvm_amd", "AMD-V"],
  ]) {
    if (!host.exists(`/sys/module/${module}`)) continue;
    const nested = /\bhypervisor\b/.test(host.readText("/proc/cpuinfo") ?? "");
    return ok("kvm-kind", `${module}: ${maker}${nested ? ", nested in a virtual machine" : ""}`);
  }
  return result("kvm-kind", "warn", "no KVM module of a known kind is loaded");
}

export function checkMemory({ freeMemoryBytes, totalMemoryBytes }: HostProbes): CheckResult {
  const mib = (bytes: number) => `${Math.floor(bytes / MIB)} MiB`;
  const detail = `${mib(freeMemoryBytes)} of ${mib(totalMemoryBytes)} available`;
  if (freeMemoryBytes >= FREE_MEMORY_BYTES_MIN) return ok("memory", detail);
  return result("memory", "warn", detail, "give guests less: estalo run --memory 128");
}

export function checkIoUring(host: HostProbes): CheckResult {
  const errno = host.tryIoUring();
  if (errno === "ok") return ok("io_uring", "works");
  const disabled = host.readText("/proc/sys/kernel/io_uring_disabled")?.trim() ?? "0";
  const detail = `not usable (${errno}): disks go through Node's thread pool, slower`;
  if (disabled !== "0") {
    return result("io_uring", "warn", detail, "sudo sysctl kernel.io_uring_disabled=0");
  }
  return result(
    "io_uring",
    "warn",
    detail,
    "allow io_uring_setup in the container's seccomp profile",
  );
}

export function checkHugePages(host: HostProbes): CheckResult {
  const folder = "/sys/kernel/mm/hugepages/hugepages-2048kB";
  const total = Number(host.readText(`${folder}/nr_hugepages`) ?? 0);
  const free = Number(host.readText(`${folder}/free_hugepages`) ?? 0);
  if (total > 0) return ok("huge-pages", `${free} of ${total} pages of 2 MiB free`);
  return ok("huge-pages", "none reserved (hugePages needs some: sudo sysctl vm.nr_hugepages=128)");
}

export function checkCgroups(host: HostProbes): CheckResult {
  const controllers = host.readText("/sys/fs/cgroup/cgroup.controllers");
  if (controllers !== undefined) {
    return ok("cgroups", `version 2: ${controllers.trim() || "no controllers"}`);
  }
  if (host.exists("/sys/fs/cgroup/memory")) return ok("cgroups", "version 1");
  return result("cgroups", "warn", "not mounted: the monitor's own use cannot be limited");
}

export function checkTun(host: HostProbes): CheckResult {
  const errno = host.tryOpen("/dev/net/tun", "read-write");
  if (errno === "ok") return ok("tun", "/dev/net/tun is readable and writable");
  const detail = `cannot open /dev/net/tun (${errno}): guests cannot have a network`;
  return result("tun", "warn", detail, errno === "ENOENT" ? "sudo modprobe tun" : undefined);
}

export function checkCache(host: HostProbes): CheckResult {
  const folder = host.cacheFolder();
  const errno = host.tryWriteFolder(folder);
  if (errno === "ok") return ok("cache", `${folder} is writable`);
  return result(
    "cache",
    "warn",
    `cannot write ${folder} (${errno}): the default guest cannot be unpacked`,
    "set ESTALO_CACHE to a folder of yours",
  );
}

export async function checkDefaultGuest(host: HostProbes): Promise<CheckResult> {
  try {
    return ok("default-guest", `version ${await host.defaultGuest()}`);
  } catch (error) {
    const { message, hint } = error as { message: string; hint?: string };
    return result("default-guest", "warn", message, hint);
  }
}

/** All checks, in the order they are shown. */
export const CHECKS: readonly Check[] = [
  checkPlatform,
  checkNode,
  checkAddon,
  checkKvmDevice,
  checkKvmFeatures,
  checkKvmKind,
  checkMemory,
  checkIoUring,
  checkHugePages,
  checkCgroups,
  checkTun,
  checkCache,
  checkDefaultGuest,
];
