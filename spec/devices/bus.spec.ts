import { describe, expect, it } from "vitest";
import { Bus } from "../../src/devices/bus.js";
import { type DeviceFront, LOCK_WORD } from "../../src/devices/device.js";

class RecordingFront implements DeviceFront {
  readonly accesses: string[] = [];
  readonly state = new Int32Array(new SharedArrayBuffer(4));
  value = 0;

  read(offset: number, sizeBytes: number): number {
    this.accesses.push(`read ${offset}/${sizeBytes} lock ${this.state[LOCK_WORD]}`);
    return this.value;
  }

  write(offset: number, sizeBytes: number, value: number): void {
    this.accesses.push(`write ${offset}/${sizeBytes} ${value} lock ${this.state[LOCK_WORD]}`);
  }
}

function busWith(...starts: number[]): { bus: Bus; fronts: RecordingFront[] } {
  const fronts = starts.map(() => new RecordingFront());
  const bus = new Bus(
    starts.map((start, i) => ({ start, sizeBytes: 8, front: fronts[i], state: fronts[i].state })),
  );
  return { bus, fronts };
}

describe("Bus", () => {
  it("gives the device its own offset and holds its lock meanwhile", () => {
    const { bus, fronts } = busWith(0x60, 0x3f8);
    bus.write(0x3fb, 1, 0x83);
    bus.read(0x3f8, 4);
    expect(fronts[1].accesses).toEqual(["write 3/1 131 lock 1", "read 0/4 lock 1"]);
    expect(fronts[1].state[LOCK_WORD]).toBe(0);
    expect(fronts[0].accesses).toEqual([]);
  });

  it("cuts values to the access's size, and keeps them unsigned", () => {
    const { bus, fronts } = busWith(0x1000);
    fronts[0].value = -1;
    expect(bus.read(0x1000, 1)).toBe(0xff);
    expect(bus.read(0x1000, 2)).toBe(0xffff);
    expect(bus.read(0x1000, 4)).toBe(0xffff_ffff);
    bus.write(0x1000, 2, 0x1_2345);
    bus.write(0x1000, 4, -2);
    expect(fronts[0].accesses.slice(3)).toEqual([
      `write 0/2 ${0x2345} lock 1`,
      `write 0/4 ${0xffff_fffe} lock 1`,
    ]);
  });

  it("reads 0 from and drops writes to what no window holds whole, and counts both", () => {
    const { bus, fronts } = busWith(0x100, 0x108);
    fronts[0].value = 7;
    fronts[1].value = 7;
    expect(bus.read(0x50, 1)).toBe(0);
    expect(bus.read(0x106, 4)).toBe(0);
    expect(bus.read(0x110, 1)).toBe(0);
    bus.write(0xff, 2, 1);
    bus.write(0x100, 8, 1);
    expect(bus.unclaimedReads).toBe(3);
    expect(bus.unclaimedWrites).toBe(2);
    expect([...fronts[0].accesses, ...fronts[1].accesses]).toEqual([]);
  });

  it("finds windows above 4 GiB, and the right one after another was hit", () => {
    const high = 2 ** 40;
    const { bus, fronts } = busWith(0xc000_1000, high);
    fronts[0].value = 1;
    fronts[1].value = 2;
    expect([bus.read(high, 4), bus.read(0xc000_1004, 4), bus.read(high + 4, 4)]).toEqual([2, 1, 2]);
  });

  it("releases the lock when a front throws", () => {
    const { bus, fronts } = busWith(0);
    fronts[0].read = () => {
      throw new Error("broken front");
    };
    expect(() => bus.read(0, 1)).toThrow("broken front");
    expect(fronts[0].state[LOCK_WORD]).toBe(0);
  });

  it("refuses windows that overlap, and forgets removed ones", () => {
    const { bus, fronts } = busWith(0x100);
    const window = { start: 0x107, sizeBytes: 2, front: fronts[0], state: fronts[0].state };
    expect(() => bus.add(window)).toThrowError(expect.objectContaining({ code: "ERR_ESTALO_BUG" }));
    fronts[0].value = 5;
    expect(bus.read(0x100, 1)).toBe(5);
    bus.remove(0x100);
    expect(bus.read(0x100, 1)).toBe(0);
    bus.add(window);
    expect(bus.read(0x108, 1)).toBe(5);
  });
});
