/**
 * The contestants: how each monitor is asked to boot the bench guest with the same memory and one vCPU.
 */
import { execFileSync } from "node:child_process";
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

/** Where the bare monitor has its one device; Estalo and QEMU tell the guest themselves. */
const BARE_DEVICE = "virtio_mmio.device=4K@0xc0001000:5";

/** Those that serve the bench guest. */
export type MonitorName = "estalo" | "bare C loop" | "qemu microvm";

/** The program of this checkout that a bench runs in a process of its own. */
export function subject(name: string, ...args: string[]): Command {
  return [process.execPath, here(`${name}.js`), ...args];
}

const QEMU = process.env.QEMU ?? "qemu-system-x86_64";

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

/** Whether QEMU is here. */
export function hasQemu(): boolean {
  try {
    execFileSync(QEMU, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** How `monitor` boots the bench guest with this job (bench/guest/main.c lists the words). */
export function guestCommand(monitor: MonitorName, job: string): Command {
  switch (monitor) {
    case "estalo":
      return subject("run-guest", GUEST, job);
    case "bare C loop":
      return [BARE_KVM, GUEST, `${job} ${BARE_DEVICE}`];
    case "qemu microvm":
      return qemu(
        ...["-device", "virtio-rng-device", "-kernel", GUEST, "-append", `${job} end=triple`],
      );
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
