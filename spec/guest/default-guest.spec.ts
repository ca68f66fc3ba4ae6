/**
 * The guest that comes with Estalo, at its console: what it is, what its disks do, and how it ends.
 */
import { defaultGuest, MicroVm, type MicroVmConfig } from "estalo";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import { isKernelModeEmulated } from "../support/guest-host.js";
import { expectEnd, GUEST_PATIENCE_MS, guestReport } from "../support/guest-report.js";
import { GuestShell } from "../support/guest-shell.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const MIB = 2 ** 20;
/** Every further vCPU is brought up in kernel mode, which takes seconds where that is emulated. */
const vcpuCount = isKernelModeEmulated() ? 1 : 2;

async function boot(config: MicroVmConfig) {
  const vm = await MicroVm.create(config);
  // A guest that does not get so far is nobody's to kill else.
  onTestFinished(async () => {
    await vm.kill();
  });
  const guest = new GuestShell(vm);
  await vm.start();
  await guest.ready(/# (.\[6n)?$/);
  return { vm, guest };
}

describe("the default guest", () => {
  it("shows its kernel, processors, memory and disks, and writes and reads the second one", async () => {
    const path = scratch.file("disk", new Uint8Array(8 * MIB));
    const { vm, guest } = await boot({
      vcpuCount,
      memoryMib: 128,
      drives: [{ id: "second", path }],
    });
    expect((await guest.run("uname -srm")).output).toMatch(/^Linux 6\.\S+ x86_64\n$/);
    expect((await guest.run("nproc")).output).toBe(`${vcpuCount}\n`);
    const memory = await guest.run("cat /proc/meminfo");
    expect(Number(/MemTotal:\s+(\d+) kB/.exec(memory.output)?.[1])).toBeGreaterThan(90 * 1024);
    const disks = await guest.run("lsblk");
    expect(disks.output).toMatch(/vda.*\n.*vdb.*\b8(\.0)?M/s);
    expect((await guest.run("mount")).output).toContain("overlay on / ");
    const write = await guest.run(
      "dd if=/dev/urandom of=/tmp/data bs=64k count=4 2>/dev/null && dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync 2>/dev/null && sync",
    );
    expect(write.status).toBe(0);
    const read = await guest.run(
      "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vdb bs=64k count=4 2>/dev/null | cmp - /tmp/data && echo same",
    );
    expect(read.output).toBe("same\n");
    const { second } = vm.metrics.drives;
    expect(second.write_bytes).toBeGreaterThanOrEqual(MIB / 4);
    expect(second.flush_count).toBeGreaterThan(0);

    await vm.pause();
    await vm.resume();
    expect((await guest.run("echo after the pause")).output).toBe("after the pause\n");

    // Functions in the way: what the second disk reads as, and what the console says.
    const asked: string[] = [];
    const leaveDisk = vm.drives.use(async (request, next) => {
      if (request.drive !== "second" || request.operation !== "read") return next();
      asked.push(request.operation);
      request.fill(Buffer.alloc(request.lengthBytes, "from the host. "));
    });
    const reading = "dd if=/dev/vdb bs=15 count=1 2>/dev/null";
    const changed = await guest.run(`echo 3 > /proc/sys/vm/drop_caches; ${reading}`);
    expect(changed.output).toBe("from the host. ");
    expect(asked.length).toBeGreaterThan(0);
    leaveDisk();
    const leaveConsole = vm.console.use((serial, next) => {
      const text = Buffer.from(serial.bytes).toString("latin1");
      if (serial.direction === "from-guest") {
        serial.bytes = Buffer.from(text.replaceAll("x", "y"), "latin1");
      }
      return next();
    });
    expect((await guest.run("echo xyz")).output).toBe("yyz\n");
    leaveConsole();
    expect((await guest.run("echo xyz")).output).toBe("xyz\n");

    await guest.type("exit 9");
    await expectEnd(vm, { reason: "poweroff", guestStatus: 9, exitCode: 9 });
    expect(vm.timings.guestBootMs).toBeGreaterThan(0);
  });

  it("reboots when asked at its shell, and that ends the microVM as a reboot", async () => {
    const { vm, guest } = await boot({ entropy: false });
    await guest.type("reboot");
    await expectEnd(vm, { reason: "reboot", error: undefined });
  });

  it("shuts down in order when it is stopped", async () => {
    const { vm } = await boot({});
    const exit = await vm.stop({ timeoutMs: GUEST_PATIENCE_MS });
    expect(["reboot", "poweroff"], guestReport(vm)).toContain(exit.reason);
  });

  it.skipIf(isKernelModeEmulated())(
    "tells of its kernel's panic (needs ACPI, which is off where kernel mode is emulated)",
    async () => {
      // No init at this path.
      const { bootArgs } = await defaultGuest();
      await using vm = await MicroVm.create({ bootArgs: `${bootArgs} init=/nowhere` });
      await vm.start();
      await expectEnd(vm, { reason: "panic", exitCode: 121 });
    },
  );
});
