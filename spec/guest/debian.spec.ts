/**
 * Debian's own kernel and user space, unchanged, on standard hardware KVM: what a user's guest will do.
 *
 * The kernel is a bzImage without built-in virtio: its initramfs loads the modules, and finds the devices
 * through ACPI alone. Needs hardware KVM, which the testbed has (docs/hosts.md); elsewhere all is skipped.
 */
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MicroVm, type MicroVmConfig } from "estalo";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { boot, isKernelModeEmulated, specHost } from "../support/guest-host.js";
import { expectEnd, GUEST_PATIENCE_MS } from "../support/guest-report.js";
import { GuestShell } from "../support/guest-shell.js";
import { debianKernel, debianRoot } from "../support/linux-guest.js";

/** Why these specs cannot run here, or nothing. */
function reasonToSkip(): string {
  if (isKernelModeEmulated())
    return "KVM emulates kernel mode here, which an unchanged kernel is not made for";
  if (process.getuid?.() !== 0) return "needs root, for loop devices, device mapper and mounts";
  return "";
}

const why = reasonToSkip();
if (why !== "") console.log(`skipped on ${specHost}: ${why}`);

/** The testbed's own disk, where there is one. */
const SCRATCH = existsSync("/scratch") ? "/scratch" : tmpdir();
const MIB = 2 ** 20;
/** Rows the first microVM commits before its monitor is killed; it may be one or two more. */
const ROWS = 25;

/** Runs a script; gives its last line. */
function shell(command: string): string {
  const { status, stdout, stderr } = spawnSync("sh", ["-ec", command], { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command}: status ${status}: ${stderr}`);
  return stdout.trimEnd().split("\n").at(-1) ?? "";
}

describe.skipIf(why !== "")("Debian on hardware KVM", () => {
  /** What takes the host's things back, last made first. */
  const undo: (() => void)[] = [];
  let folder: string;
  let vm: MicroVm;
  let guest: GuestShell;
  /** Rows the first microVM had committed when its monitor was killed. */
  let committed: number;

  function config(more: MicroVmConfig): MicroVmConfig {
    return { ...debianKernel(), ...more };
  }

  /** Boots a Debian in a process of its own that commits rows to the second disk, and kills that process. */
  async function commitAndKill(root: string, database: string): Promise<number> {
    const options = config({
      memoryMib: 512,
      drives: [{ path: root, isRoot: true, readOnly: true }, { path: database }],
    });
    const script = `
      import { MicroVm } from "estalo";
      const vm = await MicroVm.create(${JSON.stringify(options)});
      vm.console.read((bytes) => process.stdout.write(bytes));
      process.stdin.on("data", (bytes) => vm.console.send(bytes));
      await vm.start();
      console.error(JSON.stringify(await vm.wait()));
      process.exit(1);`;
    const monitor = spawn(process.execPath, ["--input-type=module", "-e", script]);
    const impatient = setTimeout(() => monitor.kill("SIGKILL"), GUEST_PATIENCE_MS);
    let errors = "";
    monitor.stderr.on("data", (chunk) => {
      errors += chunk;
    });
    let text = "";
    try {
      let typed = false;
      for await (const bytes of monitor.stdout) {
        text += bytes;
        if (!typed && /# $/.test(text)) {
          typed = true;
          monitor.stdin.write("commit-loop run /dev/vdb\n");
        }
        if (text.includes(`committed ${ROWS}`)) break;
      }
    } finally {
      clearTimeout(impatient);
      monitor.kill("SIGKILL");
    }
    const rows = Number([...text.matchAll(/^committed (\d+)\r?$/gm)].at(-1)?.[1] ?? 0);
    if (rows < ROWS) throw new Error(`${rows} rows were committed: ${errors}\nconsole: ${text}`);
    return rows;
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(SCRATCH, "estalo-debian-"));
    undo.push(() => rmSync(folder, { recursive: true }));
    const root = join(folder, "root.ext4");
    copyFileSync(debianRoot(), root);
    for (const [name, mib] of Object.entries({ fio: 32, shrink: 16, grow: 16 })) {
      shell(`truncate --size ${mib}M ${join(folder, name)}`);
    }
    committed = await boot(() => {
      const database = join(folder, "database");
      shell(`rm -f ${database}; truncate --size 64M ${database}`);
      return commitAndKill(root, database);
    });
    // A disk whose second half fails every request, and one on a file system with no room for it.
    const loop = shell(
      `truncate --size 8M ${folder}/faulty; losetup --find --show ${folder}/faulty`,
    );
    undo.push(() => shell(`losetup --detach ${loop}`));
    const faulty = `estalo-faulty-${process.pid}`;
    shell(`printf '0 8192 linear ${loop} 0\\n8192 8192 error\\n' | dmsetup create ${faulty}`);
    undo.push(() => shell(`dmsetup remove ${faulty}`));
    mkdirSync(join(folder, "small"));
    shell(`mount -t tmpfs -o size=4M none ${folder}/small`);
    undo.push(() => shell(`umount ${folder}/small`));
    shell(`truncate --size 32M ${folder}/small/disk`);
    const machine = config({
      vcpuCount: 4,
      // 256 MiB of it lie above the MMIO gap; every page that is filled takes the emulator long.
      memoryMib: 3328,
      drives: [
        { id: "root", path: root, isRoot: true, readOnly: true },
        { id: "database", path: join(folder, "database") },
        { id: "fio", path: join(folder, "fio") },
        { id: "faulty", path: `/dev/mapper/${faulty}` },
        { id: "small", path: join(folder, "small/disk") },
        { id: "shrink", path: join(folder, "shrink") },
        { id: "grow", path: join(folder, "grow") },
        { id: "readonly", path: join(folder, "grow"), readOnly: true },
      ],
    });
    await boot(async () => {
      await vm?.kill();
      vm = await MicroVm.create(machine);
      guest = new GuestShell(vm);
      await vm.start();
      await guest.ready(/# $/);
    });
  });

  afterAll(async () => {
    await vm?.kill();
    const failures: unknown[] = [];
    for (const step of undo.reverse()) {
      try {
        step();
      } catch (error) {
        failures.push(error);
      }
    }
    expect(failures).toEqual([]);
  });

  it("reaches a login shell with the processors, memory and disks it was given", async () => {
    const processors = await guest.run("nproc; lscpu | grep -E '^(Socket|Core|Thread)'");
    expect(processors.output).toMatch(/^4\n/);
    expect(processors.output.replaceAll(/ +/g, " ")).toContain("Core(s) per socket: 4");
    const memory = await guest.run("grep MemTotal /proc/meminfo");
    const kib = Number(/(\d+) kB/.exec(memory.output)?.[1]);
    expect(kib).toBeGreaterThan(3 * MIB);
    expect(kib).toBeLessThanOrEqual(3.25 * MIB);
    const disks = await guest.run("lsblk --nodeps --noheadings --bytes --output NAME,SIZE,RO");
    expect(disks.output).toMatch(/vdb\s+67108864\s+0/);
    expect(disks.output).toMatch(/vdh\s+16777216\s+1/);
  });

  it("keeps every committed row of a database when the monitor was killed with SIGKILL", async () => {
    expect(committed).toBeGreaterThanOrEqual(ROWS);
    const check = await guest.run(`commit-loop check /dev/vdb ${committed}`);
    expect(check.output).toContain("PASS commit-loop");
  });

  it("keeps all four vCPUs busy at once", async () => {
    const { output } = await guest.run("busy-cpus 500");
    expect(output).toContain("PASS");
  });

  it("writes and reads back memory on both sides of the MMIO gap", async () => {
    const { output } = await guest.run("fill-memory 500 512");
    expect(output).toMatch(/^physical: [1-9]\d* MiB below 4 GiB, [1-9]\d* MiB above/);
    expect(output).toContain("PASS");
  });

  it("passes fio's verification of random reads and writes", async () => {
    const { output } = await guest.run("verify-fio /dev/vdc 2m 240");
    expect(output).toContain("PASS verify-fio");
  });

  it("has a virtio entropy device and the disks' serial numbers", async () => {
    const rng = await guest.run(
      "cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=512 count=1 2>/dev/null | wc -c",
    );
    expect(rng.output).toMatch(/virtio_rng/);
    expect(rng.output).toMatch(/\b512\n/);
    const serial = await guest.run("cat /sys/block/vdb/serial");
    expect(serial.output.trim()).toMatch(/^\d{1,20}$/);
  });

  it("sees an I/O error of the host's disk as one of its own, and goes on", async () => {
    const good = await guest.run("dd if=/dev/vdd of=/dev/null bs=64k count=32 iflag=direct");
    expect(good.status).toBe(0);
    const read = await guest.run("dd if=/dev/vdd of=/dev/null bs=64k skip=64 count=1 iflag=direct");
    expect(read.output).toContain("Input/output error");
    // The host's page cache takes the write; the flush that follows it does not succeed.
    const write = await guest.run("dd if=/dev/zero of=/dev/vdd bs=64k seek=64 count=1 conv=fsync");
    expect(write).toMatchObject({
      status: 1,
      output: expect.stringContaining("Input/output error"),
    });
    expect((await guest.run("true")).status).toBe(0);
  });

  it("sees a full file system below its disk as an error, and goes on", async () => {
    const { output } = await guest.run(
      "dd if=/dev/urandom of=/dev/vde bs=1M count=16 oflag=direct",
    );
    // VirtIO's block device knows one error only.
    expect(output).toMatch(/Input\/output error|No space left/);
    expect(
      (await guest.run("dd if=/dev/vdc of=/dev/null bs=64k count=1 iflag=direct")).status,
    ).toBe(0);
  });

  it("sees an error where its disk's file shrank, and the new size once it was measured", async () => {
    truncateSync(join(folder, "shrink"), 4 * MIB);
    const beyond = await guest.run(
      "dd if=/dev/vdf of=/dev/null bs=64k skip=128 count=1 iflag=direct",
    );
    expect(beyond.output).toContain("Input/output error");
    await vm.updateDrive("shrink");
    const size = await guest.run("sleep 1; blockdev --getsize64 /dev/vdf");
    expect(size.output.trim()).toBe(String(4 * MIB));
  });

  it("sees a disk that grew while it runs, and uses the new room", async () => {
    truncateSync(join(folder, "grow"), 24 * MIB);
    await vm.updateDrive("grow");
    const size = await guest.run("sleep 1; blockdev --getsize64 /dev/vdg");
    expect(size.output.trim()).toBe(String(24 * MIB));
    const write = await guest.run("dd if=/dev/zero of=/dev/vdg bs=1M seek=20 count=1 oflag=direct");
    expect(write.status).toBe(0);
  });

  it("discards blocks, and they read as zeros", async () => {
    const { output } = await guest.run(
      "dd if=/dev/urandom of=/dev/vdc bs=1M count=1 oflag=direct 2>/dev/null; blkdiscard --length 1M /dev/vdc; " +
        "blkdiscard --zeroout --offset 1M --length 1M /dev/vdc; dd if=/dev/vdc bs=2M count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c",
    );
    expect(output.trim()).toBe("0");
  });

  it("refuses to write a read-only disk", async () => {
    const { output } = await guest.run("dd if=/dev/zero of=/dev/vdh bs=512 count=1");
    expect(output).toMatch(/not permitted|Read-only/);
  });

  it("goes on after a pause as if nothing had been", async () => {
    await vm.pause();
    await vm.resume();
    expect((await guest.run("echo still here")).output).toContain("still here");
  });

  it("powers off through ACPI", async () => {
    await guest.type("poweroff");
    await expectEnd(vm, { reason: "poweroff", exitCode: 0 });
  });
});
