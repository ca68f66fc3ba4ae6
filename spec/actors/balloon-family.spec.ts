/** A balloon over real guest memory: what the host has afterwards is what counts. */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BalloonFamily } from "../../src/actors/balloon-family.js";
import { type BalloonConfig, checkBalloon } from "../../src/actors/config-balloon.js";
import { DeviceHost } from "../../src/actors/device-host.js";
import type { VirtioBalloon } from "../../src/devices/virtio/balloon.js";
import { type NativeGuestMapping, type NativeVm, native } from "../../src/native/binding.js";
import { GuestMemory } from "../../src/native/guest-memory.js";
import { KIB, MIB } from "../../src/units.js";
import { RingDriver } from "../support/ring-driver.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const REGIONS = [{ start: 0, sizeBytes: 16 * MIB }];
const DATA = 64 * KIB;

describe("BalloonFamily", () => {
  let mapping: NativeGuestMapping;
  let memory: GuestMemory;
  beforeEach(() => {
    mapping = new (native().GuestMapping)(REGIONS);
    memory = new GuestMemory(mapping.buffer, REGIONS);
  });
  afterEach(() => {
    vi.useRealTimers();
    mapping.close();
  });

  function started(config: BalloonConfig = {}) {
    const family = new BalloonFamily(checkBalloon(config, 16), 16);
    family.connect({
      vm: {} as NativeVm,
      mapping,
      memory,
      host: new DeviceHost(),
      onError: () => {},
    });
    const m = new VirtioMachine(memory, (host) => family.requests[0].create(host) as VirtioBalloon);
    m.negotiate();
    const rings = [0, 1, 2].map((index) => {
      const ring = new RingDriver(memory, { eventIdx: true, start: 4096 + index * 16 * KIB });
      if (index < m.device.queueSizes.length) m.setUpQueue(index, ring);
      return ring;
    });
    m.driverOk();
    return { family, m, rings };
  }

  it("gives pages back to the host, which read as zeros and can be used again", () => {
    const { family, m, rings } = started();
    memory.fill(8 * MIB, MIB, 7);
    for (let page = 0; page < 256; page++) {
      memory.writeU32(DATA + 4 * page, (8 * MIB) / 4096 + page);
    }
    rings[0].add({ address: DATA, length: 1024 });
    m.kick(0);
    expect(memory.read(8 * MIB, MIB).every((byte) => byte === 0)).toBe(true);
    expect(memory.readU8(8 * MIB - 1)).toBe(0);
    memory.fill(8 * MIB, 4096, 9);
    expect(memory.readU8(8 * MIB + 4095)).toBe(9);
    expect(family.metrics).toMatchObject({ inflate_count: 1, event_fails: 0 });
    family.close();
  });

  it("frees them also below a kernel that is mapped there", () => {
    const image = new (native().ImageFile)(8192);
    image.seal();
    mapping.mapImage(image, MIB);
    memory.fill(MIB - 4096, 16 * KIB, 5);
    const freed = mapping.reclaim(Float64Array.of(MIB - 4096), Float64Array.of(16 * KIB), 1);
    expect(freed).toBe(16 * KIB);
    expect(memory.read(MIB - 4096, 16 * KIB).every((byte) => byte === 0)).toBe(true);
    image.close();
  });

  it("sets its target and tells it", () => {
    const { family, m } = started({ amountMib: 2, statsIntervalS: 1 });
    expect(family.report()).toMatchObject({ targetMib: 2, actualMib: 0, statistics: {} });
    family.setTarget(5);
    expect(m.device.targetPages).toBe(1280);
    expect(() => family.setTarget(17)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
    family.close();
  });

  it("asks for statistics as often as it is told, and no more when it is closed", async () => {
    vi.useFakeTimers();
    const { family, m } = started({ statsIntervalS: 2 });
    const ask = vi.spyOn(m.device, "requestStatistics");
    await vi.advanceTimersByTimeAsync(5000);
    expect(ask).toHaveBeenCalledTimes(2);
    family.setStatsInterval(1);
    await vi.advanceTimersByTimeAsync(3000);
    expect(ask).toHaveBeenCalledTimes(5);
    family.close();
    expect(vi.getTimerCount()).toBe(0);
  });

  it("says what it was made without", () => {
    const { family } = started();
    for (const call of [() => family.report(), () => family.startHinting(), () => family.hinting]) {
      expect(call).toThrow(expect.objectContaining({ code: "ERR_ESTALO_STATE" }));
    }
    family.close();
  });
});
