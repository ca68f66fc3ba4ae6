/** Devices of the user's own, with guests that talk to them. */

import {
  type BusDeviceDefinition,
  defaultGuest,
  defineMmioDevice,
  definePortDevice,
  defineVirtioDevice,
  MicroVm,
  type MicroVmConfig,
} from "estalo";
import { afterAll, describe, expect, it } from "vitest";
import { outByte, print, Scratch, SPIN } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const PORT = 0x510;
const POWER_OFF = outByte(0x600, 0x34);
/** mov dx, port; in al, dx */
const inByte = (port: number) => [0x66, 0xba, port & 0xff, port >> 8, 0xec];
/** mov dx, 3f8h; out dx, al */
const PRINT_AL = [0x66, 0xba, 0xf8, 0x03, 0xee];

async function create(name: string, code: readonly number[], config: MicroVmConfig) {
  return MicroVm.create({ kernel: scratch.guest(name, code), memoryMib: 32, ...config });
}

const port = (definition: Partial<BusDeviceDefinition>) =>
  definePortDevice({ id: "port", base: PORT, sizeBytes: 2, ...definition });

const text = (vm: MicroVm) => Buffer.from(vm.console.history()).toString("latin1");

describe("a port device of one's own", () => {
  it("answers reads that wait, in order with writes, and has no thread left at the end", async () => {
    const log: string[] = [];
    const device = port({
      sync: "reads",
      async read(offset) {
        log.push(`read ${offset}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
        return offset + "A".charCodeAt(0);
      },
      write: (offset, sizeBytes, value) => void log.push(`write ${offset} ${sizeBytes} ${value}`),
      onAttach: ({ id }) => void log.push(`attach ${id}`),
      onClose: () => void log.push("close"),
    });
    const code = [
      ...outByte(PORT, 7),
      ...inByte(PORT),
      ...PRINT_AL,
      ...outByte(PORT + 1, 8),
      ...inByte(PORT + 1),
      ...PRINT_AL,
      ...POWER_OFF,
      ...SPIN,
    ];
    const vm = await create("reads", code, { devices: [device] });
    await vm.start();
    expect(await vm.wait()).toMatchObject({ reason: "poweroff" });
    expect(text(vm)).toBe("AB");
    expect(log).toEqual(["attach port", "write 0 1 7", "read 0", "write 1 1 8", "read 1", "close"]);
    expect(vm.metrics.devices.port).toEqual({ reads: 2, writes: 2, timeouts: 0, failures: 0 });
  });

  it("may be paused while a vCPU waits, and the guest gets the answer it was given", async () => {
    let answer: (value: number) => void = () => {};
    const asked = new Promise<void>((isAsked) => {
      answer = () => isAsked();
    });
    let settle: (value: number) => void = () => {};
    const device = port({
      sync: true,
      answerTimeoutMs: 30_000,
      read: () => {
        answer(0);
        return new Promise<number>((resolve) => {
          settle = resolve;
        });
      },
    });
    const code = [...inByte(PORT), ...PRINT_AL, ...POWER_OFF, ...SPIN];
    const vm = await create("paused", code, { devices: [device] });
    await vm.start();
    await asked;
    const paused = vm.pause();
    setTimeout(() => settle("P".charCodeAt(0)), 50);
    await paused;
    expect(vm.state).toBe("paused");
    await vm.resume();
    expect(await vm.wait()).toMatchObject({ reason: "poweroff" });
    expect(text(vm)).toBe("P");
  });

  it("that never answers holds its vCPU for its time only, and nobody at the end", async () => {
    let asks = 0;
    const device = (answerTimeoutMs: number) =>
      port({ sync: true, answerTimeoutMs, read: () => new Promise<number>(() => asks++) });
    const code = [...inByte(PORT), ...PRINT_AL, ...POWER_OFF, ...SPIN];
    const vm = await create("silent", code, { devices: [device(50)] });
    await vm.start();
    expect(await vm.wait()).toMatchObject({ reason: "poweroff" });
    expect(text(vm)).toBe("\xff");
    expect(vm.metrics.devices.port).toMatchObject({ timeouts: 1, failures: 0 });

    const killed = await create("killed", code, { devices: [device(60_000)] });
    await killed.start();
    while (asks < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await killed.kill()).toMatchObject({ reason: "killed" });
    expect(text(killed)).toBe("");
  });

  it("that throws is reported and starts over, and ends the microVM the second time", async () => {
    const log: string[] = [];
    const device = port({
      sync: true,
      read: () => {
        throw new Error("own bug");
      },
      onReset: () => void log.push("reset"),
    });
    const code = [...inByte(PORT), ...PRINT_AL, ...inByte(PORT), ...SPIN];
    const vm = await create("throws", code, { devices: [device] });
    vm.events$.subscribe((event) => {
      if (event.type === "device-failed") log.push(`${event.device}: ${event.error.code}`);
    });
    await vm.start();
    const { reason, error } = await vm.wait();
    expect([reason, error?.code]).toEqual(["failed", "ERR_ESTALO_DEVICE_FAILED"]);
    expect(error?.message).toContain("own bug");
    expect(text(vm)).toBe("\xff");
    expect(log).toEqual([
      "device port: ERR_ESTALO_DEVICE_FAILED",
      "reset",
      "device port: ERR_ESTALO_DEVICE_FAILED",
    ]);
  });

  it("leaves nothing behind when it cannot be attached", async () => {
    const device = port({
      onAttach: () => {
        throw new Error("not here");
      },
    });
    await expect(create("attach", SPIN, { devices: [device] })).rejects.toMatchObject({
      code: "ERR_ESTALO_DEVICE_FAILED",
      message: expect.stringContaining("not here"),
    });
  });
});

describe("devices of one's own and Linux", () => {
  it("reach its own driver and its memory accesses", async () => {
    const pattern = defineVirtioDevice({
      id: "pattern",
      deviceType: 4,
      queues: [8],
      async onChain(chain) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        return chain.write(Buffer.from("estalo ".repeat(Math.ceil(chain.writableBytes / 7))));
      },
    });
    const writes: number[] = [];
    const mmio = defineMmioDevice({
      id: "mmio",
      base: 0xd000_0000,
      sizeBytes: 4096,
      sync: true,
      read: (offset) => 0xe57a_1000 + offset,
      write: (_offset, _sizeBytes, value) => void writes.push(value),
    });
    const command = [
      "head -c 14 /dev/hwrng; echo",
      "devmem 0xd0000010 32; devmem 0xd0000010 32 0x1234",
    ].join("; ");
    const guest = await defaultGuest();
    const vm = await MicroVm.create({
      bootArgs: `${guest.bootArgs} estalo.cmd=sh,-c,${encodeURIComponent(command)}`,
      entropy: false,
      devices: [pattern, mmio],
    });
    await vm.start();
    expect(await vm.wait()).toMatchObject({ reason: "poweroff", guestStatus: 0 });
    expect(text(vm)).toContain("estalo estalo \r\n0xE57A1010\r\n");
    expect(writes).toEqual([0x1234]);
    expect(vm.metrics.devices.pattern).toMatchObject({ failures: 0, dropped: 0 });
  });
});

it("a tiny guest prints, so that what is missing above is missing", async () => {
  const vm = await create("prints", print("x", [...POWER_OFF, ...SPIN]), {});
  await vm.start();
  await vm.wait();
  expect(text(vm)).toBe("x");
});
