import { describe, expect, it } from "vitest";
import { checkConfig } from "../../src/actors/config.js";
import {
  checkDevices,
  defineMmioDevice,
  definePortDevice,
  defineVirtioDevice,
} from "../../src/actors/config-devices.js";
import { checkMicroVmConfig } from "../../src/actors/fleet-spec.js";
import type { BusDeviceDefinition } from "../../src/devices/mailbox-back.js";
import type { VirtioDeviceDefinition } from "../../src/devices/virtio/chain-device.js";
import { MAX_QUEUES } from "../../src/devices/virtio/mmio-transport.state.js";

const GOOD: VirtioDeviceDefinition = { id: "own", deviceType: 4, queues: [8], onChain() {} };

describe("defineVirtioDevice", () => {
  it("gives what a configuration takes, for any number of microVMs", () => {
    const device = defineVirtioDevice(GOOD);
    expect(Object.isFrozen(device)).toBe(true);
    for (let index = 0; index < 2; index++) {
      expect(checkConfig({ kernel: "vmlinux", devices: [device] }).devices).toEqual([device]);
    }
    expect(checkConfig({ kernel: "vmlinux" }).devices).toEqual([]);
  });

  it.each<[string, object, string]>([
    ["an id with a blank", { id: "a b" }, "device.id"],
    ["device type 0, which is none", { deviceType: 0 }, "device.deviceType"],
    ["no queue", { queues: [] }, "device.queues"],
    [
      "one queue more than there may be",
      { queues: Array(MAX_QUEUES + 1).fill(8) },
      "device.queues",
    ],
    ["a queue that is no power of two", { queues: [8, 6] }, "device.queues[1]"],
    ["a ring feature", { features: [29] }, "device.features[0]"],
    ["a feature beyond 63", { features: [1, 64] }, "device.features[1]"],
    ["configuration too large", { config: new Uint8Array(257) }, "device.config"],
    ["configuration that is no bytes", { config: "abc" }, "device.config"],
    [
      "a writable range beyond it",
      { writableConfig: { start: 0, end: 1 } },
      "device.writableConfig.end",
    ],
    ["no function for chains", { onChain: undefined }, "device.onChain"],
    ["a hook that is no function", { onReset: 1 }, "device.onReset"],
    ["a bound that is no number", { readableBytesMax: -1 }, "device.readableBytesMax"],
    ["a field that does not exist", { onchain() {} }, "device.onchain"],
  ])("refuses %s", (_what, change, field) => {
    expect(() => defineVirtioDevice({ ...GOOD, ...change })).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });
});

describe("definePortDevice and defineMmioDevice", () => {
  const PORT: BusDeviceDefinition = { id: "own", base: 0x510, sizeBytes: 4 };

  it("give what a configuration takes", () => {
    const port = definePortDevice(PORT);
    const mmio = defineMmioDevice({ ...PORT, id: "other", base: 0xd000_0000, sizeBytes: 4096 });
    expect(checkDevices([port, mmio])).toEqual([port, mmio]);
  });

  it.each<[string, object, string]>([
    ["no size", { sizeBytes: 0 }, "device.sizeBytes"],
    ["more than a page", { sizeBytes: 4097 }, "device.sizeBytes"],
    ["a port beyond the last", { base: 0xfffd }, "device.base"],
    ["the serial port's", { base: 0x3f0, sizeBytes: 9 }, "device.base"],
    ["one of the interrupt controller's", { base: 0x1f }, "device.base"],
    ["reads that wait without a function", { sync: true }, "device.read"],
    ["a function for reads that never wait", { read: () => 0 }, "device.read"],
    ["a word that sync does not know", { sync: "writes" }, "device.sync"],
    ["an interrupt of one's choice", { irq: 5 }, "device.irq"],
    ["more registers than the window", { registers: new Uint8Array(5) }, "device.registers"],
    ["no time to answer", { answerTimeoutMs: 0 }, "device.answerTimeoutMs"],
  ])("refuse %s", (_what, change, field) => {
    expect(() => definePortDevice({ ...PORT, ...change })).toThrow(
      expect.objectContaining({
        code: "ERR_ESTALO_CONFIG_INVALID",
        data: expect.objectContaining({ field }),
      }),
    );
  });

  it.each([0xc000_1000, 0xcfff_fffe, 0xeebf_ffff, 0xfee0_0000, 2 ** 32])(
    "refuse MMIO at %i, which is the machine's",
    (base) => {
      expect(() => defineMmioDevice({ ...PORT, base })).toThrow("device.base");
    },
  );

  it("are refused where they overlap, in one space", () => {
    const one = definePortDevice(PORT);
    const next = definePortDevice({ ...PORT, id: "next", base: 0x514 });
    const over = definePortDevice({ ...PORT, id: "over", base: 0x513 });
    expect(checkDevices([one, next]).length).toBe(2);
    expect(() => checkDevices([one, over])).toThrow("devices[1].base");
  });
});

describe("checkDevices", () => {
  it("refuses two of one id, and what nobody defined", () => {
    const device = defineVirtioDevice(GOOD);
    expect(() => checkDevices([device, device])).toThrow("devices[1].id");
    expect(() => checkDevices([GOOD as never])).toThrow("made by define");
    expect(() => checkDevices({} as never)).toThrow("a list");
  });

  it("keeps code out of what a fleet stores", () => {
    expect(() => checkMicroVmConfig({ devices: [defineVirtioDevice(GOOD)] })).toThrow(
      "none in a fleet",
    );
  });
});
