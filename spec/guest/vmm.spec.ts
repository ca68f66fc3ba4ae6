/**
 * `firecracker`, the package's own, as its clients use it: with curl, in the Go SDK's order, as Kata and
 * firecracker-containerd start it, and at the ends that they wait for. With guests of a few instructions where
 * those will do.
 */
import { execFile, execFileSync } from "node:child_process";
import {
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { defaultGuest } from "estalo";
import { afterAll, describe, expect, it } from "vitest";
import { outByte, print, Scratch, SPIN, TINY_GUESTS } from "../support/tiny-guest.js";
import { FIRECRACKER, VmmProcess } from "../support/vmm-process.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** A folder for one process: sockets, FIFOs and disks. */
let folders = 0;
function fresh(): (name: string) => string {
  const folder = join(scratch.path, String(folders++));
  mkdirSync(folder);
  return (name) => join(folder, name);
}

function fifo(path: string): string {
  execFileSync("mkfifo", ["-m", "700", path]);
  return path;
}

/** Writes to a FIFO until it takes no more; returns a descriptor that keeps it so. */
function fill(path: string): number {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    for (;;) writeSync(fd, Buffer.alloc(4096));
  } catch (error) {
    expect(error).toMatchObject({ code: "EAGAIN" });
  }
  return fd;
}

/** All lines of JSON that are in a FIFO, whether somebody still writes to it or not. */
function metricsIn(fd: number): Record<string, Record<string, number>>[] {
  const buffer = Buffer.alloc(65_536);
  let text = "";
  try {
    for (let count = 1; count > 0; ) {
      count = readSync(fd, buffer);
      text += buffer.toString("utf8", 0, count);
    }
  } catch (error) {
    expect(error).toMatchObject({ code: "EAGAIN" });
  }
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

const curl = async (socket: string, method: string, path: string, data: object) => {
  const { stdout } = await promisify(execFile)("curl", [
    ...["-sS", "-w", "%{http_code}", "-X", method, "--unix-socket", socket],
    ...["--data", JSON.stringify(data, null, 4), `http://localhost${path}`],
  ]);
  expect([path, stdout]).toEqual([path, "204"]);
};

const waiting = scratch.guest("waiting", print("waiting\n", SPIN));
const hasCurl = ["/usr/bin/curl", "/bin/curl"].some((path) => existsSync(path));

/** A process whose API answers and whose machine is the guest of these instructions. */
async function started(kernel: string, more: readonly string[] = []) {
  const at = fresh();
  const socket = at("fc.sock");
  const vmm = new VmmProcess(["--api-sock", socket, "--id", "vm-1", ...more], { socket });
  await vmm.ready();
  await vmm.ok("PUT", "/boot-source", { kernel_image_path: kernel });
  await vmm.ok("PUT", "/actions", { action_type: "InstanceStart" });
  return { vmm, at, socket };
}

describe("firecracker", () => {
  it.skipIf(!hasCurl)(
    "boots the default guest by the getting-started sequence (needs curl)",
    async () => {
      const at = fresh();
      const socket = at("firecracker.socket");
      const guest = await defaultGuest();
      const rootfs = at("rootfs.erofs");
      copyFileSync(guest.rootfs, rootfs);
      const [log, metrics, input] = ["log", "metrics", "input"].map((name) => fifo(at(name)));
      const stdin = openSync(input, constants.O_RDWR);
      const placeholder = at("drive_0");
      writeFileSync(placeholder, "");
      using vmm = new VmmProcess(["--api-sock", socket, "--boot-timer"], { socket, stdin });
      await vmm.ready();

      await curl(socket, "PUT", "/logger", {
        log_path: log,
        level: "Debug",
        show_level: true,
        show_log_origin: true,
      });
      await curl(socket, "PUT", "/metrics", { metrics_path: metrics });
      await curl(socket, "PUT", "/boot-source", {
        kernel_image_path: guest.kernel,
        boot_args: guest.bootArgs,
      });
      await curl(socket, "PUT", "/drives/rootfs", {
        drive_id: "rootfs",
        path_on_host: rootfs,
        is_root_device: true,
        is_read_only: false,
      });
      await curl(socket, "PUT", "/drives/drive_0", {
        drive_id: "drive_0",
        path_on_host: placeholder,
        is_root_device: false,
        rate_limiter: {},
      });
      await curl(socket, "PUT", "/actions", { action_type: "InstanceStart" });
      expect(vmm.threads()).toContain("fc_vcpu 0");
      await vmm.prints(/# (.\[6n)?$/);
      const run = async (command: string, wanted: RegExp) => {
        const from = vmm.stdout.length;
        writeSync(stdin, `${command}\n`);
        await vmm.prints(wanted, from);
      };
      await run("cat /sys/block/vdb/size; echo do''ne", /\n0\r\ndone/);

      // The same path, another inode: as a bind mount over it would have it.
      writeFileSync(at("other"), "");
      truncateSync(at("other"), 1 << 20);
      renameSync(at("other"), placeholder);
      await curl(socket, "PATCH", "/drives/drive_0", {
        drive_id: "drive_0",
        path_on_host: placeholder,
        rate_limiter: null,
      });
      await run("cat /sys/block/vdb/size; echo do''ne", /\n2048\r\ndone/);

      await curl(socket, "PATCH", "/vm", { state: "Paused" });
      await curl(socket, "PATCH", "/vm", { state: "Paused" });
      expect(await vmm.ok("GET", "/")).toMatchObject({ state: "Paused" });
      await curl(socket, "PATCH", "/vm", { state: "Resumed" });
      await run("echo af''ter", /\nafter\r\n/);

      await curl(socket, "PUT", "/actions", { action_type: "FlushMetrics" });
      const lines = metricsIn(openSync(metrics, constants.O_RDONLY | constants.O_NONBLOCK));
      // The first was written at the start; on a slow host some more were each minute, of what was new in it.
      const later = lines.slice(1);
      expect(later).not.toHaveLength(0);
      const sum = (of: (line: (typeof lines)[number]) => number) =>
        later.reduce((total, line) => total + of(line), 0);
      expect(sum((line) => line.block_rootfs.read_bytes)).toBeGreaterThan(100_000);
      expect(sum((line) => line.block_drive_0.update_count)).toBe(1);
      expect(sum((line) => line.block_drive_0.update_fails)).toBe(0);
      expect(sum((line) => line.uart.write_count)).toBeGreaterThan(100);
      expect(sum((line) => line.vcpu.exit_io_out)).toBeGreaterThan(100);
      expect(sum((line) => line.interrupts.config_updates)).toBeGreaterThan(0);
      expect(later.at(-1)?.latencies_us.pause_vm).toBeGreaterThan(0);
      const reader = openSync(log, constants.O_RDONLY | constants.O_NONBLOCK);
      const text = Buffer.alloc(65_536);
      expect(text.toString("utf8", 0, readSync(reader, text))).toMatch(
        /\[anonymous-instance:main:INFO:\S+:\d+\] Guest-boot-time = *\d+ us \d+ ms, *\d+ CPU us \d+ CPU ms\n/,
      );

      await curl(socket, "PUT", "/actions", { action_type: "SendCtrlAltDel" });
      expect(await vmm.end).toEqual({ status: 0, signal: null });
      expect(existsSync(socket)).toBe(false);
    },
  );

  it("takes the Go SDK's calls in their order, with FIFOs that nobody reads", async () => {
    const at = fresh();
    const socket = at("fc.sock");
    const disk = at("disk");
    writeFileSync(disk, new Uint8Array(4096));
    using vmm = new VmmProcess(["--api-sock", socket, "--id", "b9b2", "--no-seccomp"], { socket });
    await vmm.ready();
    // Its deadlines are 500 ms, and 250 ms for drives: ten times that on a machine that does other things too.
    const deadlineMs = 5000;
    const put = (path: string, body: object) => vmm.ok("PUT", path, body, deadlineMs);
    await put("/logger", {
      log_path: fifo(at("log.fifo")),
      level: "Debug",
      show_level: true,
      show_log_origin: false,
    });
    await put("/metrics", { metrics_path: fifo(at("metrics.fifo")) });
    const machine = { vcpu_count: 1, mem_size_mib: 64, smt: false, track_dirty_pages: true };
    await put("/machine-config", machine);
    expect(await vmm.ok("GET", "/machine-config", undefined, deadlineMs)).toMatchObject(machine);
    await put("/boot-source", { kernel_image_path: waiting, boot_args: "console=ttyS0" });
    for (const id of ["root", "ctrstub0", "ctrstub1"]) {
      await vmm.ok(
        "PUT",
        `/drives/${id}`,
        { drive_id: id, path_on_host: disk, is_root_device: id === "root", is_read_only: false },
        deadlineMs / 2,
      );
    }
    await put("/actions", { action_type: "InstanceStart" });
    for (const state of ["Paused", "Paused", "Resumed", "Resumed"]) {
      await vmm.ok("PATCH", "/vm", { state }, deadlineMs);
    }
    expect(await vmm.ok("GET", "/version")).toEqual({ firecracker_version: "1.16.1" });
    // StopVMM: SIGTERM, and a wait that wants to hear of it.
    vmm.child.kill("SIGTERM");
    expect(await vmm.end).toEqual({ status: null, signal: "SIGTERM" });
  });

  it("starts Kata's configuration file: placeholders, Running, thread names, metrics as numbers", async () => {
    const at = fresh();
    const socket = at("firecracker.socket");
    const [log, metrics] = [fifo(at("logs.fifo")), fifo(at("metrics.fifo"))];
    const reader = openSync(metrics, constants.O_RDONLY | constants.O_NONBLOCK);
    const drive = (drive_id: string, is_read_only: boolean) => {
      writeFileSync(at(drive_id), is_read_only ? new Uint8Array(1024) : "");
      return {
        drive_id,
        path_on_host: at(drive_id),
        is_root_device: false,
        is_read_only,
        cache_type: "Unsafe",
        rate_limiter: {},
      };
    };
    const placeholders = Array.from({ length: 8 }, (_, index) => drive(`drive_${index}`, false));
    const config = at("fcConfig.json");
    writeFileSync(
      config,
      JSON.stringify({
        "boot-source": { kernel_image_path: waiting, boot_args: "pci=off reboot=k panic=1" },
        "machine-config": { vcpu_count: 2, mem_size_mib: 64, smt: false },
        drives: [drive("rootfs", true), ...placeholders],
        logger: { log_path: log, level: "Error" },
        metrics: { metrics_path: metrics },
        "network-interfaces": [],
      }),
    );
    using vmm = new VmmProcess(["--api-sock", socket, "--config-file", config], { socket });
    const isRunning = async () => {
      const reply = await vmm.send("GET", "/").catch(() => undefined);
      return reply?.text.includes('"state":"Running"') ?? false;
    };
    await expect.poll(isRunning, { timeout: 60_000, interval: 10 }).toBe(true);
    expect(vmm.threads()).toEqual(expect.arrayContaining(["fc_vcpu 0", "fc_vcpu 1"]));

    await vmm.ok("PUT", "/actions", { action_type: "FlushMetrics" });
    const [line] = metricsIn(reader);
    for (const [name, group] of Object.entries(line)) {
      if (name === "utc_timestamp_ms") continue;
      for (const [field, value] of Object.entries(group)) {
        if (!field.endsWith("_agg"))
          expect([name, field, Number.isInteger(value)]).toEqual([name, field, true]);
      }
    }
    expect(Object.keys(line).filter((name) => name.startsWith("block_"))).toHaveLength(9);
    vmm.child.kill("SIGTERM");
    expect((await vmm.end).signal).toBe("SIGTERM");
    expect(metricsIn(reader).length).toBeGreaterThan(0);
  });

  it("takes relative paths from its working folder, as firecracker-containerd gives them", async () => {
    const at = fresh();
    writeFileSync(at("stub0"), new Uint8Array(512));
    copyFileSync(waiting, at("kernel"));
    using vmm = new VmmProcess(["--api-sock", "fc.sock", "--id", "vm-1"], {
      socket: at("fc.sock"),
      cwd: at(""),
    });
    await vmm.ready();
    await vmm.ok("PUT", "/boot-source", { kernel_image_path: "kernel" });
    await vmm.ok("PUT", "/drives/MN2HE43UOVRDA", {
      drive_id: "MN2HE43UOVRDA",
      path_on_host: "stub0",
      is_root_device: false,
    });
    await vmm.ok("PUT", "/actions", { action_type: "InstanceStart" });
    const patch = (path_on_host: string) =>
      vmm.ok("PATCH", "/drives/MN2HE43UOVRDA", { drive_id: "MN2HE43UOVRDA", path_on_host });
    await patch(at("stub0"));
    await patch("stub0");
  });

  it("is not held up by a log that is full, and counts what it lost", async () => {
    const at = fresh();
    const socket = at("fc.sock");
    const [log, metrics] = [fifo(at("log")), at("metrics")];
    const full = fill(log);
    using vmm = new VmmProcess(
      ["--api-sock", socket, "--log-path", log, "--metrics-path", metrics],
      { socket },
    );
    await vmm.ready();
    await vmm.ok("PUT", "/boot-source", { kernel_image_path: waiting });
    await vmm.ok("PUT", "/actions", { action_type: "InstanceStart" });
    const [first] = readFileSync(metrics, "utf8").split("\n");
    expect(JSON.parse(first).logger.missed_log_count).toBeGreaterThan(2);
    expect((await vmm.send("PUT", "/metrics", { metrics_path: metrics })).status).toBe(400);
    expect(full).toBeGreaterThan(0);
  });

  it("leaves a socket that is there to its owner", async () => {
    const { vmm: first, socket } = await started(waiting);
    using _first = first;
    using second = new VmmProcess(["--api-sock", socket], { socket });
    expect(await second.end).toEqual({ status: 1, signal: null });
    expect(second.stderr).toContain(`Failed to open the API socket at: ${socket}.`);
    expect(await first.ok("GET", "/")).toMatchObject({ id: "vm-1", state: "Running" });
    first.child.kill("SIGKILL");
    await first.end;
    // What SIGKILL leaves is the socket alone, and whoever comes next is told of it.
    using third = new VmmProcess(["--api-sock", socket], { socket });
    expect((await third.end).status).toBe(1);
  });

  it.each([
    ["SIGTERM", { status: null, signal: "SIGTERM" }],
    ["SIGINT", { status: null, signal: "SIGINT" }],
    ["SIGHUP", { status: 156, signal: null }],
    ["SIGXCPU", { status: 154, signal: null }],
    ["SIGXFSZ", { status: 151, signal: null }],
  ] as const)(
    "ends by %s with its last metrics written and its socket gone",
    async (signal, end) => {
      const metrics = fresh()("metrics");
      const { vmm, socket } = await started(waiting, ["--metrics-path", metrics]);
      using _ = vmm;
      vmm.child.kill(signal);
      expect(await vmm.end).toEqual(end);
      expect(existsSync(socket)).toBe(false);
      const lines = readFileSync(metrics, "utf8").trimEnd().split("\n");
      expect(lines).toHaveLength(2);
      const { signals } = JSON.parse(lines[1]);
      expect(signals.sighup).toBe(signal === "SIGHUP" ? 1 : 0);
    },
  );

  it.each(["poweroff", "reboot", "panic", "tripleFault"] as const)(
    "ends with 0 when its guest does, by %s",
    async (how) => {
      const kernel = scratch.guest(`end-${how}`, print("bye\n", TINY_GUESTS[how]));
      const config = fresh()("vm.json");
      writeFileSync(
        config,
        JSON.stringify({ "boot-source": { kernel_image_path: kernel }, drives: [] }),
      );
      using vmm = new VmmProcess(["--no-api", "--config-file", config, "--level", "Off"]);
      expect([await vmm.end, vmm.stdout, vmm.stderr]).toEqual([
        { status: 0, signal: null },
        "bye\n",
        "",
      ]);
    },
  );

  it("sends the guest's output to a file when it is told to", async () => {
    const at = fresh();
    const socket = at("fc.sock");
    using vmm = new VmmProcess(["--api-sock", socket, "--level", "Off"], { socket });
    await vmm.ready();
    const text = "in a file\n";
    const kernel = scratch.guest("file", print(text, [...outByte(0x600, 0x34), ...SPIN]));
    await vmm.ok("PUT", "/serial", { serial_out_path: at("console") });
    await vmm.ok("PUT", "/boot-source", { kernel_image_path: kernel });
    await vmm.send("PUT", "/actions", { action_type: "InstanceStart" }).catch(() => {});
    expect((await vmm.end).status).toBe(0);
    expect(readFileSync(at("console"), "utf8")).toBe(text);
    expect(vmm.stdout).toBe("");
  });

  it.each([
    ["a configuration that is none", 152, ["--no-api", "--config-file", "BROKEN"], "Invalid JSON"],
    ["a configuration that is wrong", 152, ["--no-api", "--config-file", "WRONG"], "unknown field"],
    ["a configuration that is missing", 152, ["--no-api", "--config-file", "/nowhere"], "ENOENT"],
    ["a level that is none", 152, ["--level", "Loud"], "Invalid value for logger level: Loud"],
    ["an argument that is none", 153, ["--foo"], "Found argument 'foo' which wasn't expected"],
    [
      "a log that cannot be written",
      1,
      ["--log-path", "/nowhere/log"],
      "No such file or directory",
    ],
  ])("ends at once for %s", async (_what, status, args, text) => {
    const at = fresh();
    writeFileSync(at("BROKEN"), "{");
    writeFileSync(at("WRONG"), '{"boot-source": {"kernel": "k"}, "drives": []}');
    const words = args.map((word) => (/^[A-Z]+$/.test(word) ? at(word) : word));
    using vmm = new VmmProcess(
      ["--api-sock", at("fc.sock"), ...words].slice(args[0] === "--no-api" ? 2 : 0),
    );
    expect(await vmm.end).toEqual({ status, signal: null });
    expect(vmm.stderr).toContain(text);
  });

  it("prints versions as its clients read them, through a link too", () => {
    const link = fresh()("firecracker");
    symlinkSync(FIRECRACKER, link);
    const run = (flag: string) => execFileSync(link, [flag], { encoding: "utf8" });
    expect(run("--version").split("\n")[0]).toBe("Firecracker v1.16.1");
    expect(run("--snapshot-version")).toBe("v10.0.0\n");
    expect(run("--help")).toContain("--api-sock <PATH>");
  });
});
