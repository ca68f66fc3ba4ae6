/**
 * The contestants: how each monitor is asked to boot the bench guest with the same memory and devices.
 *
 * QEMU is looked for as `QEMU`, default `qemu-system-x86_64`; Firecracker as `FIRECRACKER` and Cloud
 * Hypervisor as `CLOUD_HYPERVISOR`, or under their names on the PATH. Cloud Hypervisor's devices are on
 * PCI, which the bench guest does not drive: it takes part in cold starts only.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Command } from "./process.js";

const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Built by run.mjs beside the bundles. */
export const GUEST = here("guest");
const BARE_KVM = here("bare-kvm");

/** A program of peers/ that run.mjs built. */
export const peerProgram = here;

/** Memory of every guest here. */
export const MEMORY_MIB = 128;

/** Where the bare monitor has its one device; the others tell the guest themselves. */
const BARE_DEVICE = "virtio_mmio.device=4K@0xc0001000:5";

/** The guest's address on its network; the bench guest has it built in. */
const GUEST_MAC = "06:00:00:00:00:01";
/** Its context on its socket device. */
export const GUEST_CID = 3;

/** Those that serve the bench guest. */
export type MonitorName =
  | "estalo"
  | "bare C loop"
  | "qemu microvm"
  | "qemu microvm, vhost"
  | "firecracker"
  | "cloud hypervisor";

/** What a guest has beside its entropy device. */
export interface GuestDevices {
  /** A raw image, written to through the page cache. */
  readonly disk?: string;
  /** An existing tap in the monitor's network namespace. */
  readonly tap?: string;
  /** A Unix socket's path for the socket device; QEMU has vhost-vsock instead. */
  readonly vsock?: string;
  readonly vcpus?: number;
}

/** How the guest ends its machine for each of them. */
const END: Readonly<Record<MonitorName, string>> = {
  estalo: "end=report",
  "bare C loop": "end=report",
  "qemu microvm": "end=triple",
  "qemu microvm, vhost": "end=triple",
  firecracker: "end=i8042",
  "cloud hypervisor": "end=i8042",
};

/** The program of this checkout that a bench runs in a process of its own. */
export function subject(name: string, ...args: string[]): Command {
  return [process.execPath, here(`${name}.js`), ...args];
}

const QEMU = process.env.QEMU ?? "qemu-system-x86_64";
const FIRECRACKER = process.env.FIRECRACKER ?? "firecracker";
const CLOUD_HYPERVISOR = process.env.CLOUD_HYPERVISOR ?? "cloud-hypervisor";

/** The peers' programs by name, whether they are here or not. */
export function peerPrograms(): readonly (readonly [string, string])[] {
  return [
    ["qemu", QEMU],
    ["firecracker", FIRECRACKER],
    ["cloud hypervisor", CLOUD_HYPERVISOR],
  ];
}

/** QEMU's command line for its microvm machine; the CPU is the host's, less an MSR that not every KVM sets. */
export function qemu(...args: string[]): Command {
  return [
    QEMU,
    ...["-M", "microvm,acpi=off,rtc=off,pit=off,pic=on,isa-serial=on", "-accel", "kvm"],
    ...["-cpu", "host,-arch-capabilities", "-m", String(MEMORY_MIB)],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
    ...["-global", "virtio-mmio.force-legacy=false"],
    ...args,
  ];
}

/** Whether `program` can be run; what it says of itself is not looked at. */
export function isHere(program: string, versionFlag = "--version"): boolean {
  try {
    execFileSync(program, [versionFlag], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Whether QEMU is here. */
export function hasQemu(): boolean {
  return isHere(QEMU);
}

/** Those with virtio devices that are here, ours first. */
export function deviceMonitors(): MonitorName[] {
  const monitors: MonitorName[] = ["estalo"];
  if (hasQemu()) monitors.push("qemu microvm");
  if (isHere(FIRECRACKER)) monitors.push("firecracker");
  return monitors;
}

/** All that boot the bench guest, ours first. */
export function bootMonitors(): MonitorName[] {
  const [ours, ...peers] = deviceMonitors();
  const cloud: MonitorName[] = isHere(CLOUD_HYPERVISOR) ? ["cloud hypervisor"] : [];
  return [ours, "bare C loop", ...peers, ...cloud];
}

function qemuDevices({ disk, tap, vsock, vcpus = 1 }: GuestDevices, vhost: boolean): string[] {
  const args = ["-smp", String(vcpus), "-name", "bench,debug-threads=on"];
  args.push("-device", "virtio-rng-device");
  if (disk !== undefined) {
    const how = "format=raw,if=none,cache=writeback,aio=io_uring";
    args.push("-drive", `id=disk,file=${disk},${how}`, "-device", "virtio-blk-device,drive=disk");
  }
  if (tap !== undefined) {
    const how = `script=no,downscript=no,vhost=${vhost ? "on" : "off"}`;
    args.push("-netdev", `tap,id=net,ifname=${tap},${how}`);
    args.push("-device", `virtio-net-device,netdev=net,mac=${GUEST_MAC}`);
  }
  if (vsock !== undefined) args.push("-device", `vhost-vsock-device,guest-cid=${GUEST_CID}`);
  return args;
}

/** MicroVmConfig for subjects/run-guest.ts. */
function estaloDevices({ disk, tap, vsock, vcpus = 1 }: GuestDevices): string {
  return JSON.stringify({
    vcpuCount: vcpus,
    // As QEMU, which asks the host for them unasked: it counts where data is moved.
    hugePages: (disk ?? tap ?? vsock) ? "transparent" : false,
    ...(disk === undefined ? {} : { drives: [{ path: disk }] }),
    ...(tap === undefined ? {} : { networkInterfaces: [{ tap, mac: GUEST_MAC }] }),
    ...(vsock === undefined ? {} : { vsock: { guestCid: GUEST_CID, udsPath: vsock } }),
  });
}

/** The path of a configuration file, written beside the bundles. */
function firecrackerConfig(words: string, { disk, tap, vsock, vcpus = 1 }: GuestDevices): string {
  const drive = {
    drive_id: "disk",
    is_root_device: false,
    is_read_only: false,
    path_on_host: disk,
  };
  const net = { iface_id: "net", host_dev_name: tap, guest_mac: GUEST_MAC };
  const text = JSON.stringify({
    "boot-source": { kernel_image_path: GUEST, boot_args: words },
    "machine-config": { vcpu_count: vcpus, mem_size_mib: MEMORY_MIB },
    drives: disk === undefined ? [] : [drive],
    ...(tap === undefined ? {} : { "network-interfaces": [net] }),
    ...(vsock === undefined ? {} : { vsock: { guest_cid: GUEST_CID, uds_path: vsock } }),
    entropy: {},
  });
  const path = here(`firecracker-${createHash("sha1").update(text).digest("hex")}.json`);
  writeFileSync(path, text);
  return path;
}

/** How `monitor` boots the bench guest with this job (bench/guest/main.c lists the words). */
export function guestCommand(
  monitor: MonitorName,
  job: string,
  devices: GuestDevices = {},
): Command {
  // The job's own words come last, and win.
  const words = `${END[monitor]} ${job}`;
  const boot = ["-kernel", GUEST, "-append", words];
  switch (monitor) {
    case "estalo":
      return subject("run-guest", GUEST, words, estaloDevices(devices));
    case "bare C loop":
      return [BARE_KVM, GUEST, `${words} ${BARE_DEVICE}`];
    case "qemu microvm":
      return qemu(...qemuDevices(devices, false), ...boot);
    case "qemu microvm, vhost":
      return qemu(...qemuDevices(devices, true), ...boot);
    case "firecracker":
      return [FIRECRACKER, "--no-api", "--config-file", firecrackerConfig(words, devices)];
    case "cloud hypervisor": {
      const memory = ["--memory", `size=${MEMORY_MIB}M`, "--cpus", `boot=${devices.vcpus ?? 1}`];
      const serial = ["--serial", "tty", "--console", "off"];
      return [CLOUD_HYPERVISOR, ...memory, ...serial, "--kernel", GUEST, "--cmdline", words];
    }
  }
}

/** The bare monitor's set-up, step by step, in its first line of output. */
export function bareSteps(): Command {
  return [BARE_KVM, "--steps", GUEST, "bench=start"];
}

/** Ticks of the guest's TSC in a microsecond. */
export function tscPerUs(): number {
  return Number(execFileSync(BARE_KVM, ["--tsc"], { encoding: "utf8" })) / 1000;
}
