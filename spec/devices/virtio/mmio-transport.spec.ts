import { describe, expect, it } from "vitest";
import {
  VIRTIO_CONFIG_WRITE,
  VIRTIO_DRIVER_OK,
  VIRTIO_NOTIFY,
  VIRTIO_RESET,
} from "../../../src/devices/events.js";
import * as regs from "../../../src/devices/virtio/mmio-transport.regs.js";
import * as words from "../../../src/devices/virtio/mmio-transport.state.js";
import { createState, FakeFront } from "../../support/fake-front.js";

const ACK = regs.STATUS_ACKNOWLEDGE_MASK;
const DRIVER = ACK | regs.STATUS_DRIVER_MASK;
const FEATURES_OK = DRIVER | regs.STATUS_FEATURES_OK_MASK;
const DRIVER_OK = FEATURES_OK | regs.STATUS_DRIVER_OK_MASK;

/** A front over a device with one queue of 16, features 5 and VERSION_1, and 12 bytes of config. */
function transport(): FakeFront {
  const fake = new FakeFront("virtio-mmio");
  const { state } = fake;
  state[words.DEVICE_TYPE_WORD] = 2;
  state[words.OFFERED_LOW_WORD] = 5;
  state[words.OFFERED_HIGH_WORD] = 1;
  state[words.queueWord(0) + words.QUEUE_MAX] = 16;
  state[words.CONFIG_LENGTH_WORD] = 12;
  words.configBytes(state).set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  return fake;
}

function setStatus(fake: FakeFront, ...steps: number[]): number {
  for (const step of steps) fake.write32(regs.STATUS_OFFSET, step);
  return fake.read32(regs.STATUS_OFFSET);
}

function acceptFeatures(fake: FakeFront, low: number, high: number): void {
  fake.write32(regs.DRIVER_FEATURES_SEL_OFFSET, 0);
  fake.write32(regs.DRIVER_FEATURES_OFFSET, low);
  fake.write32(regs.DRIVER_FEATURES_SEL_OFFSET, 1);
  fake.write32(regs.DRIVER_FEATURES_OFFSET, high);
}

/** Up to `status`, with VERSION_1 accepted on the way. */
function bringTo(status: number): FakeFront {
  const fake = transport();
  setStatus(fake, ACK, DRIVER);
  acceptFeatures(fake, 0, 1);
  if (status >= FEATURES_OK) setStatus(fake, FEATURES_OK);
  if (status >= DRIVER_OK) setStatus(fake, DRIVER_OK);
  return fake;
}

const ignoredWrites = (fake: FakeFront): number => fake.state[words.IGNORED_WRITE_COUNT_WORD];

describe("MmioTransportFront identity", () => {
  it("is a virtio-mmio device of version 2 with the device's type", () => {
    const fake = transport();
    expect(fake.read32(regs.MAGIC_VALUE_OFFSET)).toBe(0x74726976);
    expect(fake.read32(regs.VERSION_OFFSET)).toBe(2);
    expect(fake.read32(regs.DEVICE_ID_OFFSET)).toBe(2);
    expect(fake.read32(regs.VENDOR_ID_OFFSET)).toBe(0);
  });

  it("shows the offered features by halves, and 0 beyond", () => {
    const fake = transport();
    const halves = [0, 1, 2].map((half) => {
      fake.write32(regs.DEVICE_FEATURES_SEL_OFFSET, half);
      return fake.read32(regs.DEVICE_FEATURES_OFFSET);
    });
    expect(halves).toEqual([5, 1, 0]);
  });

  it("shows no shared memory region", () => {
    const fake = transport();
    fake.write32(regs.SHM_SEL_OFFSET, 0);
    expect(fake.read32(regs.SHM_LEN_LOW_OFFSET)).toBe(0xffff_ffff);
    expect(fake.read32(regs.SHM_LEN_HIGH_OFFSET)).toBe(0xffff_ffff);
  });

  it("reads 0 and counts for unknown registers and wrong sizes", () => {
    const fake = transport();
    expect(fake.read8(regs.MAGIC_VALUE_OFFSET)).toBe(0);
    expect(fake.read32(regs.MAGIC_VALUE_OFFSET + 2)).toBe(0);
    expect(fake.read32(0x0c8)).toBe(0);
    expect(fake.state[words.IGNORED_READ_COUNT_WORD]).toBe(3);
  });
});

describe("MmioTransportFront status", () => {
  it("goes up one bit at a time and tells the back of DRIVER_OK only", () => {
    const fake = bringTo(DRIVER_OK);
    expect(fake.read32(regs.STATUS_OFFSET)).toBe(DRIVER_OK);
    expect(fake.takePosts()).toEqual([{ event: VIRTIO_DRIVER_OK, value: 0 }]);
    expect(ignoredWrites(fake)).toBe(0);
  });

  it.each([
    ["DRIVER before ACKNOWLEDGE", [regs.STATUS_DRIVER_MASK], 0],
    ["two bits at once", [DRIVER], 0],
    ["a bit taken back", [ACK, DRIVER, regs.STATUS_DRIVER_MASK], DRIVER],
    ["DRIVER_OK before FEATURES_OK", [ACK, DRIVER, DRIVER | 4], DRIVER],
    ["an unknown bit", [ACK, ACK | 0x10], ACK],
  ])("ignores and counts %s", (_name, steps, status) => {
    const fake = transport();
    expect(setStatus(fake, ...steps)).toBe(status);
    expect(ignoredWrites(fake)).toBe(1);
  });

  it("takes FAILED at any time, and nothing but a reset after it", () => {
    const fake = transport();
    setStatus(fake, ACK, ACK | regs.STATUS_FAILED_MASK, DRIVER | regs.STATUS_FAILED_MASK);
    expect(fake.read32(regs.STATUS_OFFSET)).toBe(ACK | regs.STATUS_FAILED_MASK);
    expect(setStatus(fake, 0, ACK)).toBe(ACK);
  });

  it.each([
    ["features that were not offered", 2, 1],
    ["high features that were not offered", 5, 3],
    ["no VERSION_1", 5, 0],
  ])("refuses FEATURES_OK for %s", (_name, low, high) => {
    const fake = transport();
    setStatus(fake, ACK, DRIVER);
    acceptFeatures(fake, low, high);
    expect(setStatus(fake, FEATURES_OK)).toBe(DRIVER);
    acceptFeatures(fake, 5, 1);
    expect(setStatus(fake, FEATURES_OK)).toBe(FEATURES_OK);
  });

  it("ignores features written outside their phase, or by another half", () => {
    const fake = transport();
    acceptFeatures(fake, 1, 1);
    setStatus(fake, ACK, DRIVER);
    fake.write32(regs.DRIVER_FEATURES_SEL_OFFSET, 2);
    fake.write32(regs.DRIVER_FEATURES_OFFSET, 1);
    expect(ignoredWrites(fake)).toBe(3);
    expect(fake.state[words.ACCEPTED_LOW_WORD]).toBe(0);
  });
});

describe("MmioTransportFront queues", () => {
  it("shows the maximum of queues that exist, and 0 for others", () => {
    const fake = transport();
    const maxima = [0, 1, 8, 0xffff_ffff].map((queue) => {
      fake.write32(regs.QUEUE_SEL_OFFSET, queue);
      return fake.read32(regs.QUEUE_NUM_MAX_OFFSET);
    });
    expect(maxima).toEqual([16, 0, 0, 0]);
  });

  it("takes a queue's registers after FEATURES_OK, until it is ready", () => {
    const fake = bringTo(FEATURES_OK);
    fake.write32(regs.QUEUE_NUM_OFFSET, 8);
    fake.write32(regs.QUEUE_DESC_LOW_OFFSET, 0x1000);
    fake.write32(regs.QUEUE_DEVICE_HIGH_OFFSET, 1);
    fake.write32(regs.QUEUE_READY_OFFSET, 1);
    expect(fake.read32(regs.QUEUE_READY_OFFSET)).toBe(1);
    fake.write32(regs.QUEUE_NUM_OFFSET, 4);
    const queue = fake.state.subarray(words.queueWord(0), words.queueWord(1));
    expect([...queue]).toEqual([16, 8, 1, 0x1000, 0, 0, 0, 0, 1]);
    expect(ignoredWrites(fake)).toBe(1);
    fake.write32(regs.QUEUE_READY_OFFSET, 0);
    fake.write32(regs.QUEUE_NUM_OFFSET, 4);
    expect(queue[words.QUEUE_SIZE]).toBe(4);
  });

  it.each([
    ["before FEATURES_OK", DRIVER],
    ["after DRIVER_OK", DRIVER_OK],
  ])("ignores a queue's registers %s", (_name, status) => {
    const fake = bringTo(status);
    fake.write32(regs.QUEUE_NUM_OFFSET, 8);
    fake.write32(regs.QUEUE_READY_OFFSET, 1);
    expect(fake.read32(regs.QUEUE_READY_OFFSET)).toBe(0);
    expect(ignoredWrites(fake)).toBe(2);
  });

  it("posts a notification that left the guest, once the driver is ready", () => {
    const early = bringTo(FEATURES_OK);
    early.write32(regs.QUEUE_NOTIFY_OFFSET, 0);
    expect(early.takePosts()).toEqual([]);
    const fake = bringTo(DRIVER_OK);
    fake.takePosts();
    fake.write32(regs.QUEUE_NOTIFY_OFFSET, 3);
    expect(fake.takePosts()).toEqual([{ event: VIRTIO_NOTIFY, value: 3 }]);
  });
});

describe("MmioTransportFront interrupts", () => {
  it("shows causes until they are acknowledged one by one", () => {
    const fake = bringTo(DRIVER_OK);
    Atomics.or(fake.state, words.INTERRUPT_STATUS_WORD, 3);
    expect(fake.read32(regs.INTERRUPT_STATUS_OFFSET)).toBe(3);
    fake.write32(regs.INTERRUPT_ACK_OFFSET, 1);
    expect(fake.read32(regs.INTERRUPT_STATUS_OFFSET)).toBe(2);
    fake.write32(regs.INTERRUPT_ACK_OFFSET, 0xffff_ffff);
    expect(fake.read32(regs.INTERRUPT_STATUS_OFFSET)).toBe(0);
  });
});

describe("MmioTransportFront reset", () => {
  it("is immediate before DRIVER_OK and forgets all that the driver chose", () => {
    const fake = bringTo(FEATURES_OK);
    fake.write32(regs.QUEUE_NUM_OFFSET, 8);
    expect(setStatus(fake, 0)).toBe(0);
    expect(fake.takePosts()).toEqual([]);
    expect([...fake.state.subarray(words.queueWord(0), words.queueWord(1))]).toEqual([
      16, 0, 0, 0, 0, 0, 0, 0, 0,
    ]);
    expect(fake.state[words.ACCEPTED_HIGH_WORD]).toBe(0);
    expect(fake.read32(regs.DEVICE_ID_OFFSET)).toBe(2);
  });

  it("of a live device waits until the back has acknowledged it", () => {
    const fake = bringTo(DRIVER_OK);
    fake.takePosts();
    const waits: number[][] = [];
    fake.onWait = (word, value) => {
      waits.push([word, value]);
      words.clearDriverWords(fake.state);
      fake.state[words.RESET_ACKNOWLEDGED_WORD] = fake.state[words.RESET_REQUESTED_WORD];
    };
    expect(setStatus(fake, 0)).toBe(0);
    expect(waits).toEqual([[words.RESET_ACKNOWLEDGED_WORD, 0]]);
    expect(fake.takePosts()).toEqual([{ event: VIRTIO_RESET, value: 0 }]);
    expect(setStatus(fake, ACK)).toBe(ACK);
  });

  it("keeps other accesses away from a device whose reset is under way", () => {
    const fake = bringTo(DRIVER_OK);
    setStatus(fake, 0);
    fake.takePosts();
    fake.write32(regs.STATUS_OFFSET, 0);
    fake.write32(regs.QUEUE_NOTIFY_OFFSET, 0);
    expect(fake.read32(regs.STATUS_OFFSET)).toBe(0);
    expect(fake.takePosts()).toEqual([]);
    expect(ignoredWrites(fake)).toBe(2);
  });
});

describe("MmioTransportFront configuration space", () => {
  it("reads 1, 2 and 4 bytes, aligned, within its length", () => {
    const fake = transport();
    const read = (offset: number, sizeBytes: number): number =>
      fake.front.read(regs.CONFIG_OFFSET + offset, sizeBytes);
    expect([read(3, 1), read(2, 2), read(8, 4)]).toEqual([4, 0x0403, 0x0c0b0a09]);
    expect([read(1, 2), read(12, 1), read(0xeff, 1)]).toEqual([0, 0, 0]);
    expect(fake.state[words.IGNORED_READ_COUNT_WORD]).toBe(3);
  });

  it("reads the copy that its generation names", () => {
    const fake = transport();
    words.configBytes(fake.state)[regs.CONFIG_BYTES] = 99;
    const before = fake.read32(regs.CONFIG_GENERATION_OFFSET);
    fake.state[words.CONFIG_GENERATION_WORD]++;
    expect(fake.read8(regs.CONFIG_OFFSET)).toBe(99);
    expect(fake.read32(regs.CONFIG_GENERATION_OFFSET)).not.toBe(before);
  });

  it("takes writes to its writable part, shows them, and posts offset, size and value", () => {
    const fake = transport();
    fake.state[words.CONFIG_WRITABLE_START_WORD] = 4;
    fake.state[words.CONFIG_WRITABLE_END_WORD] = 8;
    fake.front.write(regs.CONFIG_OFFSET + 4, 4, 0xdead_beef);
    fake.front.write(regs.CONFIG_OFFSET + 6, 1, 7);
    fake.front.write(regs.CONFIG_OFFSET + 8, 1, 7);
    fake.front.write(regs.CONFIG_OFFSET + 5, 2, 7);
    expect(fake.takePosts()).toEqual([
      { event: VIRTIO_CONFIG_WRITE + 512 + 4, value: 0xdead_beef },
      { event: VIRTIO_CONFIG_WRITE + 6, value: 7 },
    ]);
    expect(fake.read32(regs.CONFIG_OFFSET + 4)).toBe(0xde07_beef);
    expect(ignoredWrites(fake)).toBe(2);
  });
});

describe("saveMmioTransport and restoreMmioTransport", () => {
  it("carry the driver's choices over", () => {
    const fake = bringTo(FEATURES_OK);
    fake.write32(regs.QUEUE_NUM_OFFSET, 8);
    fake.write32(regs.QUEUE_READY_OFFSET, 1);
    setStatus(fake, DRIVER_OK);
    const record = JSON.parse(JSON.stringify(words.saveMmioTransport(fake.state)));
    const state = createState("virtio-mmio");
    state[words.DEVICE_TYPE_WORD] = 2;
    words.restoreMmioTransport(state, record);
    expect(words.saveMmioTransport(state)).toEqual(record);
    expect(record).toMatchObject({ version: 1, status: DRIVER_OK });
  });
});
