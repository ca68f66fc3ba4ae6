/**
 * A guest whose driver breaks every rule, in every virtio device at once (bare/rude-driver.c): its devices ask
 * for a reset and take one, no code of ours throws, and another microVM in the process notices nothing.
 */
import { MicroVm, type MicroVmEvent } from "estalo";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bareGuest } from "../support/bare-guest.js";
import { isKernelModeEmulated } from "../support/guest-host.js";
import { expectEnd } from "../support/guest-report.js";
import { tapPair } from "../support/tap-pair.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const taps = tapPair();
const rounds = isKernelModeEmulated() ? 30 : 60;
let kernel: string;
const disk = scratch.file("disk", new Uint8Array(4 * 2 ** 20));

beforeAll(() => {
  kernel = bareGuest(scratch, "rude-driver");
});

async function attack(seed: number) {
  await using vm = await MicroVm.create({
    kernel,
    bootArgs: `n=${rounds} depth=${seed}`,
    memoryMib: 128,
    drives: [{ id: "disk", path: disk }],
    ...(taps === undefined ? {} : { networkInterfaces: [{ tap: taps.first }] }),
    vsock: {},
    balloon: {
      deflateOnOom: true,
      statsIntervalS: 1,
      freePageHinting: true,
      freePageReporting: true,
    },
  });
  const events: MicroVmEvent[] = [];
  vm.events$.subscribe((event) => events.push(event));
  await vm.start();
  await expectEnd(vm, { reason: "poweroff" });
  return { console: Buffer.from(vm.console.history()).toString("latin1"), events };
}

describe("a driver that breaks every rule", () => {
  it.each([1, 2])("harms its own devices, which come back (seed %i)", async (seed) => {
    await using bystander = await MicroVm.create({
      memoryMib: 64,
      kernel,
      bootArgs: "n=1 depth=1",
    });
    const { console: text, events } = await attack(seed);
    const devices = taps === undefined ? 4 : 5;
    expect(text).toContain(`PASS ${devices} of ${devices} devices, stuck 0, served 1`);
    expect(events.filter(({ type }) => type === "device-failed")).toEqual([]);
    const asking = events.flatMap((event) =>
      event.type === "device-needs-reset" ? [event.device] : [],
    );
    expect(new Set(asking).size).toBeGreaterThanOrEqual(devices - 1);
    // The other one's devices are as good as new.
    await bystander.start();
    await expectEnd(bystander, { reason: "poweroff" });
  });
});
