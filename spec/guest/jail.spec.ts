/**
 * The default guest in a jail, as Firecracker's clients start one: files are linked into it while it lives, the
 * network is that of a namespace, and nothing is left afterwards.
 */
import { execFileSync } from "node:child_process";
import {
  chownSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defaultGuest } from "estalo";
import { describe, expect, it, onTestFailed, onTestFinished } from "vitest";
import { isRoot, JAIL_USER, until } from "../support/jails.js";
import { FIRECRACKER, VmmProcess } from "../support/vmm-process.js";

const JAILER = fileURLToPath(new URL("../../bin/jailer", import.meta.url));
const hasIp = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].some((path) => existsSync(path));

/** A network namespace with a tap; its file. */
function makeNetwork(): string {
  const name = `estalo-jail-${process.pid}`;
  execFileSync("ip", ["netns", "add", name]);
  onTestFinished(() => void execFileSync("ip", ["netns", "del", name]));
  execFileSync("ip", ["-n", name, "tuntap", "add", "tap0", "mode", "tap", "vnet_hdr"]);
  execFileSync("ip", ["-n", name, "link", "set", "tap0", "up"]);
  return `/run/netns/${name}`;
}

describe.runIf(isRoot && hasIp)("a jailed microVM (needs root and ip)", () => {
  it("boots the default guest with disk, network, vsock and console", async () => {
    const base = mkdtempSync(join(tmpdir(), "estalo-jailed-"));
    onTestFinished(() => rmSync(base, { recursive: true, force: true }));
    const guest = await defaultGuest();
    copyFileSync(guest.kernel, join(base, "kernel"));
    copyFileSync(guest.rootfs, join(base, "rootfs"));
    writeFileSync(join(base, "disk"), "");
    truncateSync(join(base, "disk"), 1 << 20);
    execFileSync("mkfifo", [join(base, "input")]);
    const stdin = openSync(join(base, "input"), constants.O_RDWR);
    const root = join(base, "firecracker/vm-1/root");
    const socket = join(root, "api.sock");
    using vmm = new VmmProcess(
      [
        ...["--id", "vm-1", "--exec-file", FIRECRACKER, "--chroot-base-dir", base],
        ...["--uid", `${JAIL_USER}`, "--gid", `${JAIL_USER}`, "--netns", makeNetwork()],
        ...["--clean", "--", "--api-sock", "api.sock"],
      ],
      { program: JAILER, socket, stdin },
    );
    onTestFailed(() => console.error(vmm.stdout.slice(-2000), vmm.stderr));
    await vmm.ready();
    for (const name of ["kernel", "rootfs", "disk"]) {
      chownSync(join(base, name), JAIL_USER, JAIL_USER);
      linkSync(join(base, name), join(root, name));
    }
    const drive = (id: string, more: object) => ({
      drive_id: id,
      path_on_host: `/${id}`,
      is_root_device: false,
      ...more,
    });
    await vmm.ok("PUT", "/boot-source", {
      kernel_image_path: "kernel",
      boot_args: guest.bootArgs,
    });
    await vmm.ok(
      "PUT",
      "/drives/rootfs",
      drive("rootfs", { is_root_device: true, is_read_only: true }),
    );
    await vmm.ok("PUT", "/drives/disk", drive("disk", { io_engine: "Async" }));
    await vmm.ok("PUT", "/vsock", { guest_cid: 3, uds_path: "run/v.sock" });
    await vmm.ok("PUT", "/network-interfaces/eth0", {
      iface_id: "eth0",
      host_dev_name: "tap0",
      guest_mac: "06:00:00:00:00:01",
    });
    await vmm.ok("PUT", "/actions", { action_type: "InstanceStart" });
    expect(statSync(join(root, "run/v.sock")).isSocket()).toBe(true);
    expect(readFileSync(join(root, "firecracker.pid"), "utf8")).toBe(`${vmm.child.pid}`);
    await vmm.prints(/# (.\[6n)?$/);
    const run = async (command: string, wanted: RegExp) => {
      const from = vmm.stdout.length;
      writeSync(stdin, `${command}\n`);
      await vmm.prints(wanted, from);
    };
    await run("cat /sys/class/net/eth0/address; echo af''ter", /06:00:00:00:00:01\r\nafter/);
    await run("echo written > /dev/vdb; sync; echo do''ne", /\ndone/);
    expect(readFileSync(join(base, "disk"), "latin1").slice(0, 8)).toBe("written\n");

    // Two filters where a vCPU runs: that of all threads and its own.
    const vcpu = readdirSync(`/proc/${vmm.child.pid}/task`)
      .map((task) => readFileSync(`/proc/${vmm.child.pid}/task/${task}/status`, "utf8"))
      .find((status) => status.startsWith("Name:\tfc_vcpu 0"));
    expect(vcpu).toMatch(/^Seccomp_filters:\s+2$/m);

    writeSync(stdin, "reboot -f\n");
    expect(await vmm.end).toEqual({ status: 0, signal: null });
    await until(() => !existsSync(join(base, "firecracker")), "the jail is gone");
    expect(existsSync(join(base, "disk"))).toBe(true);
  });
});
