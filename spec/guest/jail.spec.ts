/**
 * The default guest in a jail, as Firecracker's clients start one: files are linked into it while it lives, the
 * network is that of a namespace, and nothing is left afterwards.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
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
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { defaultGuest } from "estalo";
import { describe, expect, it, onTestFailed, onTestFinished } from "vitest";
import { isRoot, JAIL_USER, until } from "../support/jails.js";
import { programsDrive } from "../support/linux-guest.js";
import { FIRECRACKER, VmmProcess } from "../support/vmm-process.js";

const JAILER = fileURLToPath(new URL("../../bin/jailer", import.meta.url));
const hasIp = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].some((path) => existsSync(path));

const [HOST_ADDRESS, GUEST_ADDRESS, ECHO_PORT] = ["10.77.0.1", "10.77.0.2", 5000];
const VSOCK_PORT = 7000;

/** A network namespace with a tap, and a server on it that echoes; its file. */
async function makeNetwork(): Promise<string> {
  const name = `estalo-jail-${process.pid}`;
  execFileSync("ip", ["netns", "add", name]);
  onTestFinished(() => void execFileSync("ip", ["netns", "del", name]));
  execFileSync("ip", ["-n", name, "tuntap", "add", "tap0", "mode", "tap", "vnet_hdr"]);
  execFileSync("ip", ["-n", name, "addr", "add", `${HOST_ADDRESS}/24`, "dev", "tap0"]);
  execFileSync("ip", ["-n", name, "link", "set", "tap0", "up"]);
  const server = `require("node:net").createServer((socket) => socket.pipe(socket))
    .listen(${ECHO_PORT}, "0.0.0.0", () => console.log("listening"))`;
  const words = ["netns", "exec", name, process.execPath, "-e", server];
  const child = spawn("ip", words, { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout, "data");
  return `/run/netns/${name}`;
}

/** A loop device over `file`; `undefined` where none can be made. */
function loopDevice(file: string): string | undefined {
  try {
    const words = ["--find", "--show", file];
    const device = execFileSync("losetup", words, { encoding: "utf8", stdio: "pipe" }).trim();
    onTestFinished(() => void execFileSync("losetup", ["--detach", device]));
    return device;
  } catch {
    return undefined;
  }
}

describe.runIf(isRoot && hasIp)("a jailed microVM (needs root and ip)", () => {
  it("boots the default guest with disk, network, vsock and console", async () => {
    const base = mkdtempSync(join(tmpdir(), "estalo-jailed-"));
    onTestFinished(() => rmSync(base, { recursive: true, force: true }));
    const guest = await defaultGuest();
    copyFileSync(guest.kernel, join(base, "kernel"));
    copyFileSync(guest.rootfs, join(base, "rootfs"));
    copyFileSync(programsDrive().path, join(base, "programs"));
    writeFileSync(join(base, "disk"), "");
    truncateSync(join(base, "disk"), 1 << 20);
    execFileSync("mkfifo", [join(base, "input")]);
    const stdin = openSync(join(base, "input"), constants.O_RDWR);
    const root = join(base, "firecracker/vm-1/root");
    const socket = join(root, "api.sock");
    using vmm = new VmmProcess(
      [
        ...["--id", "vm-1", "--exec-file", FIRECRACKER, "--chroot-base-dir", base],
        ...["--uid", `${JAIL_USER}`, "--gid", `${JAIL_USER}`, "--netns", await makeNetwork()],
        ...["--clean", "--", "--api-sock", "api.sock"],
      ],
      { program: JAILER, socket, stdin },
    );
    onTestFailed(() => console.error(vmm.stdout.slice(-2000), vmm.stderr));
    await vmm.ready();
    for (const name of ["kernel", "rootfs", "disk", "programs"]) {
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
    await vmm.ok("PUT", "/drives/programs", drive("programs", { is_read_only: true }));
    const loop = loopDevice(join(base, "disk"));
    if (loop !== undefined) {
      // As clients do: the device's node is made in the jail.
      const { rdev } = statSync(loop);
      const [major, minor] = [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)];
      execFileSync("mknod", [join(root, "loop"), "b", `${major}`, `${minor}`]);
      chownSync(join(root, "loop"), JAIL_USER, JAIL_USER);
      await vmm.ok("PUT", "/drives/loop", drive("loop", { is_read_only: true }));
    }
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

    await run("mount -o ro /dev/vdc /mnt; echo moun''ted", /\nmounted/);
    if (loop !== undefined) await run("blockdev --getsize64 /dev/vdd", /\n1048576\r/);

    await run(
      `killall udhcpc; ip addr flush dev eth0; ip addr add ${GUEST_ADDRESS}/24 dev eth0; ip link set eth0 up; echo u''p`,
      /\nup/,
    );
    await run(
      `/mnt/net-stream parallel ${HOST_ADDRESS} ${ECHO_PORT} 3 2048`,
      /PASS 3 of 3 connections whole/,
    );

    await run(`/mnt/vsock-echo serve ${VSOCK_PORT} &`, /listening/);
    const outside = connect({ path: join(root, "run/v.sock"), allowHalfOpen: true });
    outside.end(`CONNECT ${VSOCK_PORT}\nfrom outside`);
    expect(await text(outside)).toMatch(/^OK \d+\nfrom outside$/);
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    onTestFinished(() => void server.close());
    const path = join(root, `run/v.sock_${VSOCK_PORT}`);
    server.listen(path);
    await once(server, "listening");
    chownSync(path, JAIL_USER, JAIL_USER);
    await run(
      `/mnt/vsock-echo connect ${VSOCK_PORT} 2 1024`,
      /PASS 2 of 2 streams came back whole/,
    );

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
