import { describe, expect, it } from "vitest";
import { VIRTIO_CONFIG_WRITE, VIRTIO_NOTIFY } from "../../../src/devices/events.js";
import type { FeatureBits, VirtioBack, VirtioHost } from "../../../src/devices/virtio/device.js";
import { featureBits, RING_FEATURES } from "../../../src/devices/virtio/features.js";
import * as regs from "../../../src/devices/virtio/mmio-transport.regs.js";
import * as words from "../../../src/devices/virtio/mmio-transport.state.js";
import type { VirtQueue } from "../../../src/devices/virtio/queue.js";
import { EstaloError } from "../../../src/errors.js";
import { createMemory } from "../../support/fake-memory.js";
import { RingDriver } from "../../support/ring-driver.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

/** A device with two queues that records what is asked of it. */
class RecordingDevice implements VirtioBack {
  readonly deviceType = 42;
  readonly features = featureBits([...RING_FEATURES, 3]);
  readonly queueSizes = [16, 8];
  readonly config = Uint8Array.of(1, 2, 3, 4);
  readonly writableConfig = { start: 2, end: 4 };
  readonly calls: string[] = [];
  readonly host: VirtioHost;
  queues: readonly (VirtQueue | undefined)[] = [];
  accepted: FeatureBits | undefined;
  resetting: Promise<void> | undefined;
  onProcess: (queueIndex: number) => void = () => {};

  constructor(host: VirtioHost) {
    this.host = host;
  }

  activate(accepted: FeatureBits, queues: readonly (VirtQueue | undefined)[]): void {
    this.calls.push("activate");
    this.accepted = accepted;
    this.queues = queues;
  }

  processQueue(queueIndex: number): void {
    this.calls.push(`process ${queueIndex}`);
    this.onProcess(queueIndex);
  }

  configWritten(offset: number, sizeBytes: number, value: number): void {
    this.calls.push(`config ${offset}/${sizeBytes} ${value}`);
  }

  reset(): Promise<void> | undefined {
    this.calls.push("reset");
    return this.resetting;
  }

  quiesce(): undefined {
    this.calls.push("quiesce");
  }
}

function machine(): VirtioMachine<RecordingDevice> {
  return new VirtioMachine(createMemory(), (host) => new RecordingDevice(host));
}

const statusOf = (m: VirtioMachine<RecordingDevice>): number => m.status;

describe("TransportBack bringing a device up", () => {
  it("publishes type, features, queue maxima and configuration", () => {
    const m = machine();
    expect(m.read(regs.DEVICE_ID_OFFSET)).toBe(42);
    expect(m.offered()).toEqual(m.device.features);
    m.write(regs.QUEUE_SEL_OFFSET, 1);
    expect(m.read(regs.QUEUE_NUM_MAX_OFFSET)).toBe(8);
    expect(m.read(regs.CONFIG_OFFSET)).toBe(0x04030201);
  });

  it("activates with accepted features and queues that were set up, and looks at those", () => {
    const m = machine();
    m.start(featureBits([32, 3]), { size: 16 });
    expect(m.device.accepted).toEqual({ low: 8, high: 1 });
    expect(m.device.queues.map((queue) => queue?.size)).toEqual([16, undefined]);
    expect(m.device.calls).toEqual(["activate", "process 0"]);
    expect(m.transport.active).toBe(true);
  });

  it("activates on a doorbell that overtook the post of DRIVER_OK, once", () => {
    const m = machine();
    m.negotiate();
    m.setUpQueue(0, new RingDriver(m.memory, { size: 16 }));
    m.fake.write32(regs.STATUS_OFFSET, m.status | regs.STATUS_DRIVER_OK_MASK);
    m.kick();
    m.deliver();
    expect(m.device.calls).toEqual(["activate", "process 0", "process 0"]);
  });

  it("ignores doorbells before DRIVER_OK, and of queues that are not set up", () => {
    const m = machine();
    m.kick();
    m.start(undefined, { size: 16 });
    m.device.calls.splice(0);
    m.kick(1);
    m.kick(7);
    m.kick(-1);
    m.transport.handleEvent(VIRTIO_NOTIFY, 0xffff_ffff);
    expect(m.device.calls).toEqual([]);
  });

  it("asks for a reset when a queue is set up wrongly, and works after one", () => {
    const m = machine();
    m.start(undefined, { size: 16, start: 1 });
    expect(m.device.calls).toEqual([]);
    expect(m.faults).toHaveLength(1);
    expect(statusOf(m) & regs.STATUS_NEEDS_RESET_MASK).not.toBe(0);
    m.reset();
    m.start(undefined, { size: 16 });
    expect(m.device.calls).toEqual(["reset", "activate", "process 0"]);
    expect(statusOf(m) & regs.STATUS_NEEDS_RESET_MASK).toBe(0);
  });
});

describe("TransportBack interrupting", () => {
  it("sets the cause, then pulses the line", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.device.host.interruptQueue(0);
    expect(m.read(regs.INTERRUPT_STATUS_OFFSET)).toBe(regs.INTERRUPT_USED_BUFFER_MASK);
    expect(m.fake.irq.take()).toBe(1);
  });

  it("shows new configuration under a new generation, with an interrupt to a ready driver", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    const generation = m.read(regs.CONFIG_GENERATION_OFFSET);
    m.device.host.updateConfig(Uint8Array.of(9, 9, 9, 9));
    expect(m.read(regs.CONFIG_OFFSET)).toBe(0x09090909);
    expect(m.read(regs.CONFIG_GENERATION_OFFSET)).toBe(generation + 1);
    expect(m.read(regs.INTERRUPT_STATUS_OFFSET)).toBe(regs.INTERRUPT_CONFIG_CHANGE_MASK);
    expect(m.fake.irq.take()).toBe(1);
  });

  it("keeps a change made during set-up for when the driver is ready", () => {
    const m = machine();
    m.negotiate();
    m.device.host.updateConfig(Uint8Array.of(9, 9, 9, 9));
    expect(m.fake.irq.take()).toBe(0);
    m.setUpQueue(0, new RingDriver(m.memory, { size: 16 }));
    m.driverOk();
    expect(m.fake.irq.take()).toBe(1);
    expect(m.read(regs.INTERRUPT_STATUS_OFFSET)).toBe(regs.INTERRUPT_CONFIG_CHANGE_MASK);
  });

  it("tells the device of writes to its configuration", () => {
    const m = machine();
    m.fake.front.write(regs.CONFIG_OFFSET + 2, 2, 0x1234);
    m.deliver();
    m.transport.handleEvent(VIRTIO_CONFIG_WRITE + 3, 7);
    expect(m.device.calls).toEqual([`config 2/2 ${0x1234}`, "config 3/1 7"]);
  });
});

describe("TransportBack facing faults", () => {
  it("answers a guest's fault with NEEDS_RESET and an interrupt, and serves no more", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.fake.irq.take();
    m.device.onProcess = () => {
      throw new EstaloError("ERR_ESTALO_GUEST_FAULT", "broken ring");
    };
    m.kick();
    expect(m.faults).toEqual(["broken ring"]);
    expect(statusOf(m) & regs.STATUS_NEEDS_RESET_MASK).not.toBe(0);
    expect(m.read(regs.INTERRUPT_STATUS_OFFSET)).toBe(regs.INTERRUPT_CONFIG_CHANGE_MASK);
    expect(m.fake.irq.take()).toBe(1);
    m.device.calls.splice(0);
    m.kick();
    expect(m.device.calls).toEqual([]);
  });

  it("tells of the device's own errors, whoever had it look at its queue, and fails it on request", async () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    const failures: unknown[] = [];
    m.onFailed = (error) => failures.push((error as Error).message);
    m.device.onProcess = () => {
      throw new TypeError("our mistake");
    };
    m.kick();
    m.device.host.notifyQueue(0);
    m.device.host.deferQueue(0);
    m.runDeferred();
    void m.transport.quiesce();
    m.transport.resume();
    expect(failures).toEqual(new Array(4).fill("our mistake"));
    expect(m.faults).toEqual([]);
    await m.transport.fail("our mistake");
    expect(m.faults).toEqual(["our mistake"]);
    expect(m.device.calls).toContain("reset");
    expect(statusOf(m) & regs.STATUS_NEEDS_RESET_MASK).not.toBe(0);
  });

  it("fails a device that calls itself when all of its code is left", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    const log: string[] = [];
    m.onFailed = (error) => log.push((error as Error).message);
    let depth = 0;
    m.device.onProcess = () => {
      if (depth++ > 0) throw new TypeError("our mistake");
      try {
        m.device.host.notifyQueue(0);
      } finally {
        log.push("left");
      }
    };
    m.kick();
    expect(log).toEqual(["left", "our mistake"]);
    m.kick();
    expect(log).toEqual(["left", "our mistake", "our mistake"]);
  });
});

describe("TransportBack resetting", () => {
  it("resets the device, clears the driver's choices and acknowledges", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.device.calls.splice(0);
    m.reset();
    expect(m.device.calls).toEqual(["reset"]);
    expect(m.status).toBe(0);
    expect(m.transport.active).toBe(false);
    m.start(undefined, { size: 16 });
    expect(m.device.calls).toEqual(["reset", "activate", "process 0"]);
  });

  it("waits for code of the device that is under way and has another queue looked at", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.device.calls.splice(0);
    m.device.onProcess = () => {
      m.device.onProcess = () => {};
      // Another vCPU resets the device meanwhile, and may use its rings for something else once it is told.
      Atomics.add(m.fake.state, words.RESET_REQUESTED_WORD, 1);
      m.device.host.notifyQueue(0);
      m.device.calls.push("adds to its ring");
    };
    m.kick();
    expect(m.device.calls).toEqual(["process 0", "process 0", "adds to its ring"]);
    m.kick();
    expect(m.device.calls.slice(3)).toEqual(["reset"]);
  });

  it("acknowledges only when transfers have ended; doorbells are ignored meanwhile", async () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.device.calls.splice(0);
    let finish = (): void => {};
    m.device.resetting = new Promise((resolve) => {
      finish = resolve;
    });
    m.reset();
    m.kick();
    m.transport.handleEvent(VIRTIO_NOTIFY, 0);
    expect(m.device.calls).toEqual(["reset"]);
    expect(m.fake.state[words.RESET_ACKNOWLEDGED_WORD]).toBe(0);
    finish();
    await m.device.resetting;
    await Promise.resolve();
    expect(m.fake.state[words.RESET_ACKNOWLEDGED_WORD]).toBe(1);
    expect(m.status).toBe(0);
  });

  it("settles when a reset is done, also one whose post was lost", async () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    expect(m.transport.settle()).toBeUndefined();
    let finish = (): void => {};
    m.device.resetting = new Promise((resolve) => {
      finish = resolve;
    });
    // Its vCPU is to leave the guest.
    m.fake.onWait = () => {};
    m.fake.write32(regs.STATUS_OFFSET, 0);
    m.fake.takePosts();
    const settled = m.transport.settle();
    expect(m.device.calls.at(-1)).toBe("reset");
    finish();
    await settled;
    expect(m.fake.state[words.RESET_ACKNOWLEDGED_WORD]).toBe(1);
    expect(m.transport.settle()).toBeUndefined();
  });
});

describe("TransportBack pausing", () => {
  it("drops doorbells during a pause and looks at every queue after it", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.device.calls.splice(0);
    expect(m.transport.quiesce()).toBeUndefined();
    m.kick();
    m.device.host.notifyQueue(0);
    expect(m.device.calls).toEqual(["quiesce"]);
    m.transport.resume();
    expect(m.device.calls).toEqual(["quiesce", "process 0"]);
  });

  it("runs deferred turns later, and drops them during a pause", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.device.calls.splice(0);
    m.device.host.deferQueue(0);
    expect(m.device.calls).toEqual([]);
    m.runDeferred();
    expect(m.device.calls).toEqual(["process 0"]);
    m.device.host.deferQueue(0);
    void m.transport.quiesce();
    m.runDeferred();
    expect(m.device.calls).toEqual(["process 0", "quiesce"]);
  });

  it("has a busy queue's next turn once, however often its driver rings", () => {
    const m = machine();
    m.start(undefined, { size: 16 });
    m.device.onProcess = (queueIndex) => m.device.host.deferQueue(queueIndex);
    for (let ring = 0; ring < 5; ring++) m.kick();
    m.device.host.deferQueue(1);
    expect(m.deferred).toHaveLength(2);
    m.device.onProcess = () => {};
    m.device.calls.splice(0);
    m.runDeferred();
    expect(m.device.calls).toEqual(["process 0"]);
    m.device.host.deferQueue(0);
    expect(m.deferred).toHaveLength(1);
  });

  it("comes up from a snapshot where its queues stood", () => {
    const m = machine();
    const ring = m.start(undefined, { size: 16 });
    const data = ring.endOfRings;
    for (let n = 0; n < 3; n++) ring.add({ address: data, length: 1, writable: true });
    const saved = words.saveMmioTransport(m.fake.state);
    const positions = [{ version: 1 as const, nextAvail: 2, nextUsed: 2 }, null];
    const restored = new VirtioMachine(m.memory, (host) => new RecordingDevice(host));
    words.restoreMmioTransport(restored.fake.state, saved);
    restored.transport.restoreQueues(positions);
    expect(restored.device.calls).toEqual(["activate"]);
    expect(restored.transport.saveQueues()).toEqual(positions);
    restored.transport.resume();
    expect(restored.device.calls).toEqual(["activate", "process 0"]);
  });
});
