/**
 * The balloon with Linux' driver: what the guest gives is the host's again.
 */
import { MicroVm } from "estalo";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { GuestShell } from "../support/guest-shell.js";
import { heldMib } from "../support/held-memory.js";

/** Generous: a guest whose kernel mode is emulated gives a mebibyte in half a second. */
const PATIENCE = { timeout: 300_000, interval: 200 };

describe("balloon", () => {
  let vm: MicroVm;
  let guest: GuestShell;

  beforeAll(async () => {
    vm = await MicroVm.create({ memoryMib: 128, balloon: { statsIntervalS: 1 } });
    guest = new GuestShell(vm);
    await vm.start();
    await guest.ready(/# (.\[6n)?$/);
  });
  afterAll(async () => {
    await vm?.kill();
  });

  it("gives the host what the guest had used and can do without", async () => {
    const fill = "dd if=/dev/zero of=/tmp/fill bs=1M count=12 && rm /tmp/fill";
    expect((await guest.run(fill)).status).toBe(0);
    const before = heldMib();
    vm.balloon.setTarget(80);
    await vi.waitUntil(() => vm.balloon.report().actualMib === 80, PATIENCE);
    expect(before - heldMib()).toBeGreaterThan(4);
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
    vm.balloon.setTarget(70);
    await vi.waitUntil(() => vm.balloon.report().actualMib === 70, PATIENCE);
    const { status, output } = await guest.run(
      "dd if=/dev/zero of=/tmp/again bs=1M count=4 2>/dev/null; md5sum < /tmp/again; rm /tmp/again",
    );
    expect(status).toBe(0);
    expect(output).toContain("b5cfa9d6c8febd618f91ac2843d50a1c");
  });
});
