/**
 * The guest that comes with Estalo, at its console: what it is, what its disks do, and how it ends.
 */
import { defaultGuest, MicroVm, type MicroVmConfig } from "estalo";
import { afterAll, describe, expect, it } from "vitest";
import { isKernelModeEmulated } from "../support/guest-host.js";
import { GuestShell } from "../support/guest-shell.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const MIB = 2 ** 20;
/** Every further vCPU is brought up in kernel mode, which takes seconds where that is emulated. */
const vcpuCount = isKernelModeEmulated() ? 1 : 2;

async function boot(config: MicroVmConfig) {
  const vm = await MicroVm.create(config);
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
    await using _ = vm;
    expect((await guest.run("uname -srm")).output).toMatch(/^Linux 6\.\S+ x86_64\n$/);
    expect((await guest.run("nproc")).output).toBe(`${vcpuCount}\n`);
    const memory = await guest.run("cat /proc/meminfo");
    expect(Number(/MemTotal:\s+(\d+) kB/.exec(memory.output)?.[1])).toBeGreaterThan(90 * 1024);
    const disks = await guest.run("lsblk");
    expect(disks.output).toMatch(/vda.*\n.*vdb.*\b8(\.0)?M/s);
    expect((await guest.run("mount")).output).toContain("overlay on / ");
    const write = await guest.run(
      "dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null && dd if=/tmp/data of=/dev/vdb bs=64k conv=fsync 2>/dev/null && sync",
    );
    expect(write.status).toBe(0);
    const read = await guest.run(
      "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vdb bs=64k count=16 2>/dev/null | cmp - /tmp/data && echo same",
    );
    expect(read.output).toBe("same\n");
    const { second } = vm.metrics.drives;
    expect(second.write_bytes).toBeGreaterThanOrEqual(MIB);
    expect(second.flush_count).toBeGreaterThan(0);

    await vm.pause();
    await vm.resume();
    expect((await guest.run("echo after the pause")).output).toBe("after the pause\n");

    await guest.type("exit 9");
    expect(await vm.wait()).toMatchObject({ reason: "poweroff", guestStatus: 9, exitCode: 9 });
    expect(vm.timings.guestBootMs).toBeGreaterThan(0);
  });

  it("reboots when asked at its shell, and that ends the microVM as a reboot", async () => {
    const { vm, guest } = await boot({ entropy: false });
    await using _ = vm;
    await guest.type("reboot");
    expect(await vm.wait()).toMatchObject({ reason: "reboot", error: undefined });
  });

  it("shuts down in order when it is stopped", async () => {
    const { vm } = await boot({});
    await using _ = vm;
    const exit = await vm.stop({ timeoutMs: 60_000 });
    expect(["reboot", "poweroff"]).toContain(exit.reason);
  });

  it.skipIf(isKernelModeEmulated())(
    "tells of its kernel's panic (needs ACPI, which is off where kernel mode is emulated)",
    async () => {
      // No init at this path.
      const { bootArgs } = await defaultGuest();
      await using vm = await MicroVm.create({ bootArgs: `${bootArgs} init=/nowhere` });
      await vm.start();
      expect(await vm.wait()).toMatchObject({ reason: "panic", exitCode: 121 });
    },
  );
});
