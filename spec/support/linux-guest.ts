/**
 * The Linux guest that specs of devices boot: the default one, or with ESTALO_SPEC_GUEST=debian Debian's own kernel
 * and user space, whose drivers and programs a user's guest has (spec/guest/images/debian).
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MicroVm, type MicroVmConfig } from "estalo";
import { boot, isKernelModeEmulated } from "./guest-host.js";
import { GuestShell } from "./guest-shell.js";

const names = ["default", "debian"];
const name = process.env.ESTALO_SPEC_GUEST ?? "default";
if (!names.includes(name)) throw new Error(`ESTALO_SPEC_GUEST is one of ${names}, not ${name}`);

export const isDebian = name === "debian";
if (isDebian && isKernelModeEmulated())
  throw new Error(
    "ESTALO_SPEC_GUEST=debian: KVM emulates kernel mode here, of no unchanged kernel",
  );

/** A shell's prompt in either guest. */
const PROMPT = /# (.\[6n)?$/;
/** Least memory that Debian comes up in. */
const DEBIAN_MIB = 256;

/** Folders of images by name: a recipe compares all its sources, which once is enough for. */
const folders = new Map<string, string>();

/** Makes an image by its recipe, spec/guest/images/NAME, where it is not there; its folder. */
export function image(name: string): string {
  const known = folders.get(name);
  if (known !== undefined) return known;
  const recipe = fileURLToPath(new URL(`../guest/images/${name}`, import.meta.url));
  const printed = execFileSync(recipe, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const folder = printed.trim();
  folders.set(name, folder);
  return folder;
}

/** The disk with spec/guest/programs. */
export function programsDrive() {
  return { id: "programs", path: join(image("programs"), "programs.ext4"), readOnly: true };
}

/** Debian's kernel and initramfs, silent, so that what commands print stays in one piece. */
export function debianKernel() {
  const folder = image("debian");
  return {
    kernel: join(folder, "vmlinuz"),
    initrd: join(folder, "initrd"),
    bootArgs: "console=ttyS0 loglevel=0 reboot=k panic=1",
  };
}

/** A file with Debian's root file system, not to be written to. */
export function debianRoot(): string {
  return join(image("debian"), "root.ext4");
}

/** `config` with what this guest boots from. Disks of `config` come after its root: /dev/vdb is the first. */
function linuxGuest(config: MicroVmConfig): MicroVmConfig {
  if (!isDebian) return config;
  return {
    ...config,
    ...debianKernel(),
    memoryMib: Math.max(DEBIAN_MIB, config.memoryMib ?? 0),
    drives: [{ path: debianRoot(), isRoot: true, readOnly: true }, ...(config.drives ?? [])],
  };
}

/** Starts a microVM of this guest, to its shell's prompt. */
export function bootLinux(config: MicroVmConfig): Promise<[MicroVm, GuestShell]> {
  return bootToShell(linuxGuest(config));
}

/** Starts a microVM as it is configured, to its shell's prompt. */
export function bootToShell(config: MicroVmConfig): Promise<[MicroVm, GuestShell]> {
  return boot(async () => {
    const vm = await MicroVm.create(config);
    try {
      const guest = new GuestShell(vm);
      await vm.start();
      await guest.ready(PROMPT);
      return [vm, guest];
    } catch (error) {
      await vm.kill();
      throw error;
    }
  });
}
