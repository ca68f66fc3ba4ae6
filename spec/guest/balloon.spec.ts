/**
 * The balloon with Linux' driver: what the guest gives is the host's again.
 */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { type BalloonStep, type MicroVm, memoryPolicy, pressure$ } from "estalo";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { isCutShort } from "../support/guest-host.js";
import type { GuestShell } from "../support/guest-shell.js";
import { heldMib } from "../support/held-memory.js";
import { bootLinux, isDebian } from "../support/linux-guest.js";
import { Scratch } from "../support/tiny-guest.js";

/** Generous: a guest whose kernel mode is emulated gives a mebibyte in half a second. */
const PATIENCE = { timeout: 300_000, interval: 200 };

describe("balloon", () => {
  /** The guest's memory, and what the balloon takes of it: much, and a little less. */
  const [MEMORY_MIB, MUCH_MIB, LESS_MIB] = isDebian ? [256, 100, 94] : [64, 28, 22];
  let vm: MicroVm;
  let guest: GuestShell;

  beforeAll(async () => {
    const balloon = { statsIntervalS: 1, deflateOnOom: true };
    [vm, guest] = await bootLinux({ memoryMib: MEMORY_MIB, balloon });
  });
  afterAll(async () => {
    await vm?.kill();
  });

  const reaches = (mib: number) =>
    vi.waitUntil(() => vm.balloon.amounts.actualMib === mib, PATIENCE);

  it("gives the host what the guest had used and can do without", async () => {
    const fill = "dd if=/dev/zero of=/tmp/fill bs=1M count=6 && rm /tmp/fill";
    expect((await guest.run(fill)).status).toBe(0);
    const before = heldMib();
    vm.balloon.setTarget(MUCH_MIB);
    await reaches(MUCH_MIB);
    expect(before - heldMib()).toBeGreaterThan(2);
    expect(vm.metrics.balloon).toMatchObject({ event_fails: 0 });
  });

  it("hears how the guest's memory is", async () => {
    const { output } = await guest.run("grep MemTotal /proc/meminfo");
    const total = Number(/(\d+) kB/.exec(output)?.[1]) * 1024;
    const told = () => vm.balloon.report().statistics;
    await vi.waitUntil(() => told().total_memory === total, PATIENCE);
    expect(told().free_memory).toBeGreaterThan(0);
    expect(told().free_memory).toBeLessThan(total);
  });

  it("gives the guest its memory back, and it works", async () => {
    vm.balloon.setTarget(LESS_MIB);
    await reaches(LESS_MIB);
    const { status, output } = await guest.run(
      "dd if=/dev/zero of=/tmp/again bs=1M count=2 2>/dev/null; md5sum < /tmp/again; rm /tmp/again",
    );
    expect(status).toBe(0);
    expect(output).toContain("b2d1236c286a3c0704224fe4105eca49");
  });

  it("follows the host's memory pressure, and goes back to what it was", async () => {
    const pressure = (percent: string) =>
      ["some", "full"]
        .map((kind) => `${kind} avg10=${percent} avg60=0.00 avg300=0.00 total=0\n`)
        .join("");
    using scratch = new Scratch();
    const path = scratch.file("pressure", pressure("55.00"));
    const options = { rateMibPerS: 4, minMib: MEMORY_MIB - MUCH_MIB, spareMib: 0, calmMs: 100 };
    const steps: BalloonStep[] = [];
    const watching = pressure$({ path, intervalMs: 50 })
      .pipe(memoryPolicy(() => [vm], options))
      .subscribe((step) => steps.push(step));
    try {
      await reaches(MUCH_MIB);
      writeFileSync(path, pressure("0.10"));
      await reaches(LESS_MIB);
    } finally {
      watching.unsubscribe();
    }
    expect(steps[0]).toMatchObject({ id: vm.id, direction: "inflate", fromMib: LESS_MIB });
    expect(steps.at(-1)).toMatchObject({ id: vm.id, direction: "deflate", toMib: LESS_MIB });
  });

  it.skipIf(isCutShort())("lets the guest have pages back before it kills for want", async () => {
    // What the guest told before the balloon last moved is not what it has.
    const told = () => vm.metrics.balloon?.stats_updates_count as number;
    const toldBefore = told();
    await vi.waitUntil(() => told() >= toldBefore + 2, PATIENCE);
    const targetMib = LESS_MIB + Math.floor((vm.balloon.amounts.availableMib as number) - 8);
    vm.balloon.setTarget(targetMib);
    await reaches(targetMib);
    const before = vm.metrics.balloon?.deflate_count as number;
    // A buffer that is larger than what is left.
    const { status, output } = await guest.run("dd if=/dev/zero of=/dev/null bs=12M count=1");
    expect(output).toContain("1+0 records out");
    expect(status).toBe(0);
    expect(vm.metrics.balloon?.deflate_count).toBeGreaterThan(before);
    expect((await guest.run("dmesg | grep -c 'Out of memory'")).output.trim()).toBe("0");
  });
});

// A file of 8 MiB is a minute of work where kernel mode is emulated.
describe.skipIf(isCutShort())("a balloon of free pages", () => {
  let vm: MicroVm;
  let guest: GuestShell;
  const count = 1_100_000;

  beforeAll(async () => {
    // Linux reports blocks of 4 MiB, and none while it has not 32 of them free.
    const balloon = { freePageHinting: true, freePageReporting: true };
    [vm, guest] = await bootLinux({ memoryMib: 256, balloon });
    expect((await guest.run(`seq 1 ${count} > /tmp/fill`)).status).toBe(0);
  });
  afterAll(async () => {
    await vm?.kill();
  });

  it("asks the guest for its free pages, and takes none that are in use", async () => {
    vm.balloon.startHinting();
    expect(vm.balloon.hinting.hostCommand).toBeGreaterThanOrEqual(2);
    // Through with its memory, the guest says stop, and is told that it is done.
    const isThrough = () => {
      const { hostCommand, guestCommand } = vm.balloon.hinting;
      return hostCommand === 1 && guestCommand === 0;
    };
    await vi.waitUntil(isThrough, PATIENCE);
    expect(vm.metrics.balloon).toMatchObject({ free_page_hint_fails: 0 });
    expect(vm.metrics.balloon?.free_page_hint_count).toBeGreaterThan(1);
    const hash = createHash("md5");
    for (let line = 1; line <= count; line++) hash.update(`${line}\n`);
    expect((await guest.run("md5sum < /tmp/fill")).output).toBe(`${hash.digest("hex")}  -\n`);
  });

  it("gives back what the guest frees, without being asked", async () => {
    // Large enough that whole blocks come free, wherever it lies.
    const fill = "dd if=/dev/zero of=/tmp/more bs=1M count=24 2>/dev/null";
    expect((await guest.run(fill)).status).toBe(0);
    const before = heldMib();
    const reported = vm.metrics.balloon?.free_page_report_freed as number;
    await guest.run("rm /tmp/more");
    await vi.waitUntil(() => before - heldMib() > 3, PATIENCE);
    expect(vm.metrics.balloon).toMatchObject({ free_page_report_fails: 0 });
    expect(vm.metrics.balloon?.free_page_report_freed).toBeGreaterThanOrEqual(
      reported + 4 * 2 ** 20,
    );
  });
});
