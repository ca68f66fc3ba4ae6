/** A board without KVM: its vCPUs are fronts on this thread, its doorbells are rung by hand. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { definePortDevice, defineVirtioDevice } from "../../src/actors/config-devices.js";
import { Console } from "../../src/actors/console.js";
import {
  type BoardEvents,
  type BusDeviceRequest,
  DeviceBoard,
  type VirtioDeviceRequest,
} from "../../src/actors/device-board.js";
import { DeviceHost } from "../../src/actors/device-host.js";
import type { DeviceWindow } from "../../src/actors/messages.js";
import { createSharedBlock } from "../../src/actors/shared-block.js";
import { UserDevices } from "../../src/actors/user-devices.js";
import * as layout from "../../src/boot/layout.js";
import { I8042_RESET, PANICKED, REPORT_BOOTED } from "../../src/devices/events.js";
import { createFront } from "../../src/devices/fronts.js";
import type { VirtioHost } from "../../src/devices/virtio/device.js";
import * as mmio from "../../src/devices/virtio/mmio-transport.regs.js";
import { VirtioRng } from "../../src/devices/virtio/rng.js";
import { type NativeVm, native } from "../../src/native/binding.js";
import {
  EXIT_RING_BYTES,
  EXIT_RING_ENTRIES,
  ExitRingProducer,
} from "../../src/native/exit-ring.js";
import { createMemory } from "../support/fake-memory.js";
import { RingDriver } from "../support/ring-driver.js";

interface Doorbell {
  readonly fd: number;
  readonly address: number;
  readonly queue: number;
}

/** A board with everything it touches in reach. */
class Bench {
  readonly memory = createMemory();
  readonly console = new Console();
  readonly signals: number[][] = [];
  readonly failures: string[] = [];
  readonly needsReset: string[] = [];
  readonly fatal: string[] = [];
  readonly doorbells: Doorbell[] = [];
  readonly irqs = new Map<number, number>();
  readonly pulses: number[] = [];
  readonly board: DeviceBoard;
  readonly windows: readonly DeviceWindow[];
  readonly hostFd: number;
  readonly block;

  constructor(virtio: readonly VirtioDeviceRequest[] = [], bus: readonly BusDeviceRequest[] = []) {
    const events: BoardEvents = {
      onSignal: (event, value) => this.signals.push([event, value]),
      onDeviceFailed: (device, error) => this.failures.push(`${device}: ${error.code}`),
      onNeedsReset: (device, reason) => this.needsReset.push(`${device}: ${reason}`),
      onFatal: (error) => this.fatal.push(error.message),
    };
    this.board = new DeviceBoard(new DeviceHost(), { virtio, bus }, events);
    this.block = createSharedBlock(2, this.board.deviceWords);
    const vm = {
      irqfd: (fd: number, gsi: number) => this.irqs.set(gsi, fd),
      pulseIrq: (gsi: number) => this.pulses.push(gsi),
      ioeventfd: (fd: number, address: number, _sizeBytes: number, queue: number) =>
        this.doorbells.push({ fd, address, queue }),
    } as unknown as NativeVm;
    const attached = this.board.attach(vm, this.memory, this.block, {
      sink: this.console,
    });
    this.windows = attached.windows;
    this.hostFd = attached.hostFd;
  }

  /** A front of this device on one of the two vCPUs, as its thread would make it. */
  front(device: number, vcpu = 0) {
    const window = this.windows[device];
    const ring = new ExitRingProducer(
      new Int32Array(this.block.buffer, this.block.vcpus[vcpu].ringOffset, EXIT_RING_BYTES / 4),
      () => native().signalEventFd(this.hostFd),
      () => false,
    );
    const state = new Int32Array(this.block.buffer, window.stateOffset, window.stateWords);
    return createFront(window.kind, {
      state,
      post: (event, value) => ring.post(device, event, value),
      raiseIrq: () => {},
      waitWhile: () => this.board.drain(),
      waitAnswer: () => true,
    });
  }

  /** Brings a virtio device up as its driver does. */
  driver(device: number, start: number): RingDriver {
    const front = this.front(device);
    const write = (offset: number, value: number) => front.write(offset, 4, value);
    const ring = new RingDriver(this.memory, { size: 16, eventIdx: false, start });
    write(mmio.STATUS_OFFSET, 1);
    write(mmio.STATUS_OFFSET, 3);
    write(mmio.DRIVER_FEATURES_SEL_OFFSET, 1);
    write(mmio.DRIVER_FEATURES_OFFSET, 1);
    write(mmio.STATUS_OFFSET, 11);
    write(mmio.QUEUE_NUM_OFFSET, ring.size);
    write(mmio.QUEUE_DESC_LOW_OFFSET, ring.descriptorTable);
    write(mmio.QUEUE_DRIVER_LOW_OFFSET, ring.availRing);
    write(mmio.QUEUE_DEVICE_LOW_OFFSET, ring.usedRing);
    write(mmio.QUEUE_READY_OFFSET, 1);
    write(mmio.STATUS_OFFSET, 15);
    return ring;
  }
}

const [SERIAL, I8042, REPORT, PVPANIC, , FIRST_VIRTIO] = [0, 1, 2, 3, 4, 5];
const benches: Bench[] = [];
afterEach(() => {
  for (const { board } of benches.splice(0)) board.close();
});
function createBench(
  virtio: readonly VirtioDeviceRequest[] = [],
  bus: readonly BusDeviceRequest[] = [],
): Bench {
  const bench = new Bench(virtio, bus);
  benches.push(bench);
  return bench;
}

const turns = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 2));
};

/** An entropy device whose source does what it is told. */
function rng(name: string, fill: (bytes: Uint8Array) => void = (bytes) => bytes.fill(7)) {
  return { name, create: (host: VirtioHost) => new VirtioRng(host, { fill }) };
}

/** A device whose code throws whenever its queue is rung. */
function broken(name: string): VirtioDeviceRequest {
  const processQueue = () => {
    throw new RangeError("broken");
  };
  return { name, create: (host) => Object.assign(rng(name).create(host), { processQueue }) };
}

describe("DeviceBoard", () => {
  it("gives virtio devices a window and an interrupt each, one after the other", () => {
    const { board, windows, doorbells, irqs } = createBench([rng("a"), rng("b")]);
    expect(board.virtioWindows).toEqual([
      { base: layout.VIRTIO_MMIO_GPA, gsi: layout.DEVICE_GSI_FIRST },
      {
        base: layout.VIRTIO_MMIO_GPA + layout.VIRTIO_MMIO_WINDOW_BYTES,
        gsi: layout.DEVICE_GSI_FIRST + 1,
      },
    ]);
    expect(board.generationGsis).toEqual({
      vmGenId: layout.DEVICE_GSI_FIRST + 2,
      vmClock: layout.DEVICE_GSI_FIRST + 3,
    });
    expect(windows.map(({ device }) => device)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(windows.slice(FIRST_VIRTIO).map(({ start }) => start)).toEqual(
      board.virtioWindows.map(({ base }) => base),
    );
    expect(doorbells.map(({ address, queue }) => [address, queue])).toEqual(
      board.virtioWindows.map(({ base }) => [base + mmio.QUEUE_NOTIFY_OFFSET, 0]),
    );
    expect([...irqs.keys()].sort((a, b) => a - b)).toEqual(
      [layout.I8042_GSI, layout.SERIAL_GSI].sort((a, b) => a - b),
    );
  });

  it("raises a virtio device's own line for what its queue has used, and no other", async () => {
    const bench = createBench([rng("a"), rng("b")]);
    const ring = bench.driver(FIRST_VIRTIO + 1, 4096);
    ring.add({ address: 0x20000, length: 16, writable: true });
    native().signalEventFd(bench.doorbells[1].fd);
    await vi.waitFor(() => expect(ring.takeUsed()).toHaveLength(1), { timeout: 20_000 });
    expect(bench.pulses).toEqual([layout.DEVICE_GSI_FIRST + 1]);
    expect(bench.windows.slice(FIRST_VIRTIO).map(({ irqFd }) => irqFd)).toEqual([-1, -1]);
  });

  it("tells of a doorbell with how often it rang, on its way to the device", async () => {
    const { board, doorbells } = createBench([rng("a"), rng("b")]);
    const heard: unknown[] = [];
    board.onDoorbell = ({ address, queue, eventFd }) =>
      heard.push([address, queue, eventFd.take()]);
    expect(board.doorbells).toMatchObject(
      doorbells.map(({ address, queue }) => ({ address, queue })),
    );
    for (let i = 0; i < 3; i++) native().signalEventFd(doorbells[1].fd);
    await vi.waitFor(() => expect(heard).toHaveLength(1), { timeout: 20_000 });
    expect(heard).toEqual([[doorbells[1].address, 0, 3]]);
    expect(board.exitWindows.map(({ name }) => name)).toEqual([
      ...["serial", "i8042", "report page", "pvpanic", "acpi power", "a", "b"],
    ]);
  });

  it("lays no two windows of one space over each other", () => {
    const { windows } = createBench([rng("a")]);
    for (const a of windows) {
      for (const b of windows) {
        const apart = a.start + a.sizeBytes <= b.start || b.start + b.sizeBytes <= a.start;
        expect(a === b || a.space !== b.space || apart).toBe(true);
      }
    }
  });

  it("has an interrupt for each device but two, and refuses more", () => {
    const most = layout.DEVICE_GSI_LAST - layout.DEVICE_GSI_FIRST - 1;
    const requests = (count: number) => Array.from({ length: count }, (_, i) => rng(`${i}`));
    const last = createBench(requests(most)).board.generationGsis.vmClock;
    expect(last).toBe(layout.DEVICE_GSI_LAST);
    expect(() => new Bench(requests(most + 1))).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_DEVICE_LIMIT", data: { most, asked: most + 1 } }),
    );
  });

  it("wakes for what a vCPU posts, of each vCPU, and brings the guest's output to the console", async () => {
    const bench = createBench();
    for (const [index, letter] of [..."ab"].entries()) {
      bench.front(SERIAL, index).write(0, 1, letter.charCodeAt(0));
      await turns();
    }
    expect(Buffer.from(bench.console.history()).toString()).toBe("ab");
  });

  it("brings a first byte at once, and what follows a millisecond later, together", () => {
    vi.useFakeTimers({ toFake: ["performance", "setTimeout"] });
    try {
      const bench = createBench();
      const { board, console } = bench;
      const front = bench.front(SERIAL);
      const say = (letter: string) => {
        front.write(0, 1, letter.charCodeAt(0));
        board.drain();
        return Buffer.from(console.history()).toString();
      };
      expect(say("a")).toBe("a");
      expect([say("b"), say("c")]).toEqual(["a", "a"]);
      vi.advanceTimersByTime(1);
      expect(Buffer.from(console.history()).toString()).toBe("abc");
      vi.advanceTimersByTime(20);
      expect(say("d")).toBe("abcd");
    } finally {
      vi.useRealTimers();
    }
  });

  it("leaves its turn to others while the guest sends, and readers take their time", () => {
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    let nowMs = 1000;
    const now = vi.spyOn(performance, "now").mockImplementation(() => nowMs);
    try {
      const bench = createBench();
      const front = bench.front(SERIAL);
      let taken = 0;
      bench.console.read(() => {
        taken++;
        nowMs += 100;
        if (taken < 50) front.write(0, 1, 65);
      });
      front.write(0, 1, 65);
      bench.board.drain();
      expect(taken).toBe(1);
      vi.advanceTimersByTime(1);
      expect(taken).toBe(2);
      vi.runAllTimers();
      expect(taken).toBe(50);
    } finally {
      now.mockRestore();
      vi.useRealTimers();
    }
  });

  it("tells its supervisor what concerns the whole machine", async () => {
    const bench = createBench();
    bench.front(REPORT).write(0, 1, 123);
    bench.front(I8042).write(4, 1, 0xfe);
    bench.front(PVPANIC, 1).write(0, 1, 1);
    await turns();
    const events = bench.signals.map(([event]) => event);
    expect(events.sort()).toEqual([I8042_RESET, REPORT_BOOTED, PANICKED].sort());
  });

  it("serves a queue when its doorbell rings, and raises the device's interrupt", async () => {
    const bench = createBench([rng("a"), rng("b")]);
    const rings = [0, 1].map((i) => bench.driver(FIRST_VIRTIO + i, 4096 * (1 + 8 * i)));
    await turns();
    rings[1].add({ address: 0x20000, length: 64, writable: true });
    native().signalEventFd(bench.doorbells[1].fd);
    await turns();
    expect(rings.map((ring) => ring.takeUsed().length)).toEqual([0, 1]);
    expect(bench.memory.read(0x20000, 64).every((byte) => byte === 7)).toBe(true);
    expect(bench.board.transports.map(({ interruptCount }) => interruptCount)).toEqual([0, 1]);
  });

  it("resets a device whose code fails, and ends the microVM when it fails again soon", async () => {
    const bench = createBench([broken("entropy")]);
    const fail = async () => {
      bench.driver(FIRST_VIRTIO, 4096).add({ address: 0x20000, length: 4, writable: true });
      native().signalEventFd(bench.doorbells[0].fd);
      await turns();
    };
    await fail();
    expect(bench.failures).toEqual(["entropy: ERR_ESTALO_DEVICE_FAILED"]);
    expect(bench.needsReset).toHaveLength(1);
    expect(bench.front(FIRST_VIRTIO).read(mmio.STATUS_OFFSET, 4)).toBe(15 | 64);
    expect(bench.fatal).toEqual([]);
    bench.front(FIRST_VIRTIO).write(mmio.STATUS_OFFSET, 4, 0);
    await fail();
    expect(bench.fatal[0]).toMatch(/^entropy: RangeError: broken/);
  });

  it("resets a device that fails when its host has it look at its queue, and throws nothing there", () => {
    let host: VirtioHost | undefined;
    let isBroken = false;
    const processQueue = () => {
      if (isBroken) throw new RangeError("broken");
    };
    const create = (its: VirtioHost) => {
      host = its;
      return Object.assign(rng("entropy").create(its), { processQueue });
    };
    const bench = createBench([{ name: "entropy", create }]);
    bench.driver(FIRST_VIRTIO, 4096);
    bench.board.drain();
    isBroken = true;
    expect(() => host?.notifyQueue(0)).not.toThrow();
    expect(bench.failures).toEqual(["entropy: ERR_ESTALO_DEVICE_FAILED"]);
    expect(bench.needsReset).toHaveLength(1);
    expect(bench.front(FIRST_VIRTIO).read(mmio.STATUS_OFFSET, 4)).toBe(15 | 64);
    expect(bench.fatal).toEqual([]);
  });

  it("forgives a device that fails again after a long time", async () => {
    const bench = createBench([broken("entropy")]);
    const now = vi.spyOn(performance, "now");
    for (const atMs of [1_000, 11_001, 21_002]) {
      now.mockReturnValue(atMs);
      bench.front(FIRST_VIRTIO).write(mmio.STATUS_OFFSET, 4, 0);
      bench.driver(FIRST_VIRTIO, 4096).add({ address: 0x20000, length: 4, writable: true });
      native().signalEventFd(bench.doorbells[0].fd);
      await turns();
    }
    now.mockRestore();
    expect(bench.failures).toHaveLength(3);
    expect(bench.fatal).toEqual([]);
  });

  it("resets a user's device whose promise rejects, and reports it", async () => {
    const definition = defineVirtioDevice({
      id: "own",
      deviceType: 60,
      queues: [16],
      onChain: () => Promise.reject(new Error("own bug")),
    });
    const { requests } = new UserDevices([definition]);
    const bench = createBench(requests);
    const ring = bench.driver(FIRST_VIRTIO, 4096);
    ring.add({ address: 65_536, length: 4 });
    native().signalEventFd(bench.doorbells[0].fd);
    await turns();
    expect(bench.failures).toEqual(["device own: ERR_ESTALO_DEVICE_FAILED"]);
    expect(bench.needsReset).toEqual([expect.stringMatching(/^device own: Error: own bug/)]);
    expect(bench.fatal).toEqual([]);
    expect(bench.front(FIRST_VIRTIO).read(mmio.STATUS_OFFSET, 4)).toBe(15 | 64);
  });

  it("places a user's device on a bus, and restarts it when it fails", async () => {
    const resets: string[] = [];
    const { busRequests } = new UserDevices([
      definePortDevice({
        id: "port",
        base: 0x510,
        sizeBytes: 4,
        irq: true,
        write: () => {
          throw new Error("own bug");
        },
        onReset: ({ id, gsi }) => resets.push(`${id} ${gsi}`),
      }),
    ]);
    const bench = createBench([rng("a")], busRequests);
    const index = FIRST_VIRTIO + 1;
    expect(bench.windows[index]).toMatchObject({ kind: "mailbox", space: "pio", start: 0x510 });
    expect([...bench.irqs.keys()]).toContain(layout.DEVICE_GSI_FIRST + 1);
    expect(bench.board.generationGsis.vmGenId).toBe(layout.DEVICE_GSI_FIRST + 2);
    bench.front(index).write(0, 1, 1);
    await turns();
    expect(bench.failures).toEqual(["device port: ERR_ESTALO_DEVICE_FAILED"]);
    expect(resets).toEqual([`port ${layout.DEVICE_GSI_FIRST + 1}`]);
    expect(bench.fatal).toEqual([]);
    bench.front(index).write(0, 1, 1);
    await turns();
    expect(bench.fatal).toEqual([expect.stringContaining("own bug")]);
  });

  it("leaves its turn to others while a vCPU goes on posting, and takes all of it", async () => {
    let written = 0;
    const more = 4 * EXIT_RING_ENTRIES;
    const write = () => {
      if (++written < more) bench.front(FIRST_VIRTIO).write(0, 1, 1);
    };
    const port = definePortDevice({ id: "port", base: 0x510, sizeBytes: 4, write });
    const bench = createBench([], new UserDevices([port]).busRequests);
    bench.front(FIRST_VIRTIO).write(0, 1, 1);
    bench.board.drain();
    expect(written).toBe(EXIT_RING_ENTRIES);
    await vi.waitFor(() => expect(written).toBe(more), { timeout: 20_000 });
  });

  it("ends the microVM when a reader of its console throws, and nothing else", async () => {
    const bench = createBench();
    bench.console.read(() => {
      throw new Error("reader");
    });
    bench.front(SERIAL).write(0, 1, 65);
    await turns();
    expect(bench.failures).toEqual(["serial: ERR_ESTALO_DEVICE_FAILED"]);
    expect(bench.fatal).toEqual([expect.stringMatching(/^serial: Error: reader\n/)]);
  });

  it("takes nothing from queues between quiesce and resume, and all of it then", async () => {
    const bench = createBench([rng("a")]);
    const ring = bench.driver(FIRST_VIRTIO, 4096);
    await turns();
    await bench.board.quiesce();
    ring.add({ address: 0x20000, length: 8, writable: true });
    native().signalEventFd(bench.doorbells[0].fd);
    await turns();
    expect(ring.takeUsed()).toEqual([]);
    bench.board.resume();
    expect(ring.takeUsed()).toHaveLength(1);
  });

  it("drains what was posted before it is quiet", async () => {
    const bench = createBench();
    bench.front(PVPANIC).write(0, 1, 1);
    await bench.board.quiesce();
    expect(bench.signals).toEqual([[PANICKED, 1]]);
  });

  it("hears nothing once it is closed, and closes twice", async () => {
    const bench = createBench();
    const front = bench.front(PVPANIC);
    bench.board.close();
    bench.board.close();
    expect(() => front.write(0, 1, 1)).toThrow(expect.objectContaining({ code: "EBADF" }));
    await turns();
    expect(bench.signals).toEqual([]);
  });
});
