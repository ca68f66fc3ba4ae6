import { describe, expect, it } from "vitest";
import { defineMmioDevice, definePortDevice } from "../../src/actors/config-devices.js";
import { BusTester } from "../../src/testing/bus-tester.js";

describe("BusTester", () => {
  it("asks a synchronous device, also one that takes its time", async () => {
    let last = 0;
    const tester = new BusTester(
      definePortDevice({
        id: "adder",
        base: 0x510,
        sizeBytes: 4,
        irq: true,
        sync: true,
        async read(offset) {
          await new Promise((resolve) => setTimeout(resolve, 2));
          return last + offset;
        },
        write(_offset, _sizeBytes, value, device) {
          if (value === 13) throw new Error("unlucky");
          last = value;
          device.raiseIrq();
        },
      }),
    );
    await tester.write(0, 4, 0x1ff);
    expect(await Promise.all([tester.read(0, 4), tester.read(1, 1)])).toEqual([0x1ff, 0]);
    expect(tester.takeInterrupts()).toBe(1);
    await tester.write(0, 1, 13);
    expect(tester.failures.map(({ message }) => message)).toEqual([
      expect.stringContaining("unlucky"),
    ]);
    expect(await tester.read(3, 4)).toBe(0);
    expect(tester.metrics).toEqual({ reads: 2, writes: 2, timeouts: 0, failures: 1 });
  });

  it("shows the register image of one that is not, and ends who waits", async () => {
    const image = new BusTester(
      defineMmioDevice({
        id: "image",
        base: 0xd000_0000,
        sizeBytes: 8,
        write: (offset, _sizeBytes, value, device) =>
          device.setRegisters(Uint8Array.of(value + 1), offset),
      }),
    );
    await image.write(3, 1, 6);
    expect(await image.read(0, 4)).toBe(7 * 2 ** 24);
    const silent = new BusTester(
      definePortDevice({
        id: "silent",
        base: 0x510,
        sizeBytes: 1,
        sync: true,
        answerTimeoutMs: 60_000,
        read: () => new Promise<number>(() => {}),
      }),
    );
    const waiting = silent.read(0, 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    silent.close();
    expect(await waiting).toBe(0xff);
  });
});
