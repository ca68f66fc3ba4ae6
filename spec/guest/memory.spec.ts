/**
 * Memory that devices bring, with Linux' own drivers: Debian's kernel and a shell in its initramfs, on standard
 * hardware KVM. The default guest has no driver for any of it.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MicroVm } from "estalo";
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { isKernelModeEmulated, specHost } from "../support/guest-host.js";
import type { GuestShell } from "../support/guest-shell.js";
import { heldMib } from "../support/held-memory.js";
import { bootToShell, debianKernel, debianRoot } from "../support/linux-guest.js";

/** Why these specs cannot run here, or nothing. */
function reasonToSkip(): string {
  if (isKernelModeEmulated())
    return "KVM emulates kernel mode here, which an unchanged kernel is not made for";
  return process.getuid?.() === 0 ? "" : "needs root, to make Debian's image";
}

const why = reasonToSkip();
if (why !== "") console.log(`skipped on ${specHost}: ${why}`);

const MIB = 2 ** 20;
const PATIENCE = { timeout: 120_000, interval: 100 };

describe.skipIf(why !== "")("memory of devices", () => {
  let folder: string;
  let vm: MicroVm;
  let guest: GuestShell;

  const path = (name: string) => join(folder, name);
  const run = async (command: string) => (await guest.run(command)).output.trim();
  /** MiB of memory that the guest has in all. */
  const total = async () =>
    Number(/(\d+) kB/.exec(await run("grep MemTotal /proc/meminfo"))?.[1]) / 1024;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "estalo-memory-"));
    writeFileSync(path("store"), Buffer.alloc(16 * MIB, "from the host\n"));
    writeFileSync(path("fixed"), Buffer.alloc(4 * MIB + 100, "fixed\n"));
    const { bootArgs, ...kernel } = debianKernel();
    [vm, guest] = await bootToShell({
      ...kernel,
      bootArgs: `${bootArgs} initramfs=shell memhp_default_state=online_movable`,
      memoryMib: 192,
      entropy: false,
      pmem: [
        { id: "store", path: path("store") },
        { id: "fixed", path: path("fixed"), readOnly: true },
      ],
      memoryHotplug: { totalSizeMib: 1024 },
    });
  });

  afterAll(async () => {
    await vm?.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  it("sees each file's length in whole windows", async () => {
    expect(await run("blockdev --getsize64 /dev/pmem0; blockdev --getsize64 /dev/pmem1")).toBe(
      `${16 * MIB}\n${6 * MIB}`,
    );
  });

  it("reads what the host wrote, and what the guest syncs is in the host's file", async () => {
    expect(await run("head -c 13 /dev/pmem0; echo")).toBe("from the host");
    const write = "printf 'from the guest' | dd of=/dev/pmem0 bs=4096 seek=3 conv=notrunc,fsync";
    expect((await guest.run(`${write} 2>/dev/null`)).status).toBe(0);
    expect(
      readFileSync(path("store"))
        .subarray(3 * 4096, 3 * 4096 + 14)
        .toString(),
    ).toBe("from the guest");
    expect(vm.metrics.pmem.store).toMatchObject({ event_fails: 0 });
    expect(vm.metrics.pmem.store.queue_event_count).toBeGreaterThan(1);
  });

  it("drops what is written to a read-only one", async () => {
    const before = readFileSync(path("fixed"));
    await guest.run("dd if=/dev/zero of=/dev/pmem1 bs=512 count=1 conv=fsync 2>/dev/null");
    expect(readFileSync(path("fixed")).equals(before)).toBe(true);
  });

  it("gets memory while it runs and uses it, and gives it back to the host", async () => {
    const [before, heldBefore] = [await total(), heldMib()];
    vm.memoryHotplug.setRequestedSize(320);
    await vi.waitUntil(() => vm.memoryHotplug.report().pluggedSizeMib === 320, PATIENCE);
    await vi.waitUntil(async () => (await total()) - before > 310, PATIENCE);
    // More than it had from the start.
    const fill =
      "mkdir -p /tmp/f && mount -t tmpfs -o size=90% none /tmp/f && head -c 180m /dev/zero > /tmp/f/a";
    expect(await guest.run(fill)).toMatchObject({ status: 0 });
    const heldFull = heldMib();
    expect(heldFull - heldBefore).toBeGreaterThan(150);
    expect(await guest.run("umount /tmp/f")).toMatchObject({ status: 0 });
    vm.memoryHotplug.setRequestedSize(0);
    await vi.waitUntil(() => vm.memoryHotplug.report().pluggedSizeMib === 0, PATIENCE);
    const heldAfter = heldMib();
    console.log(`held by the host: ${[heldBefore, heldFull, heldAfter].map(Math.round)} MiB`);
    expect(heldFull - heldAfter).toBeGreaterThan(100);
    expect(await total()).toBe(before);
    expect(vm.metrics.memoryHotplug).toMatchObject({ plug_fails: 0, unplug_discard_fails: 0 });
  });

  it("has VMClock's page where ACPI says", async () => {
    expect(await run("ls /sys/bus/acpi/devices | grep AMZN")).toBe("AMZNC10C:00");
    expect(await run("dd if=/dev/mem bs=4096 skip=222 count=1 2>/dev/null | head -c 4; echo")).toBe(
      "VCLK",
    );
  });

  it("carries a root file system", async () => {
    const pmem = [{ path: debianRoot(), isRoot: true, readOnly: true }];
    const [own, shell] = await bootToShell({ ...debianKernel(), memoryMib: 256, pmem });
    onTestFinished(async () => void (await own.kill()));
    expect((await shell.run("findmnt --noheadings --output SOURCE,FSTYPE /")).output).toMatch(
      /^\/dev\/pmem0 +ext4\n$/,
    );
    expect((await shell.run("sha256sum /usr/bin/bash")).status).toBe(0);
  });
});
