/** Memory that is plugged, over real guest memory; KVM's slots are played. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkMemoryHotplug } from "../../src/actors/config-memory-hotplug.js";
import { DeviceHost } from "../../src/actors/device-host.js";
import { MemoryHotplugFamily } from "../../src/actors/memory-hotplug.js";
import type { VirtioMem } from "../../src/devices/virtio/mem.js";
import { type NativeGuestMapping, type NativeVm, native } from "../../src/native/binding.js";
import { GuestMemory } from "../../src/native/guest-memory.js";
import { GIB, KIB, MIB } from "../../src/units.js";
import { heldMib } from "../support/held-memory.js";
import { VirtioMachine } from "../support/virtio-machine.js";

const REGIONS = [{ start: 0, sizeBytes: 16 * MIB }];
const START = 4 * GIB;
const DATA = 512 * KIB;

describe("MemoryHotplugFamily", () => {
  let mapping: NativeGuestMapping;
  let memory: GuestMemory;
  let slots: Map<number, number>;
  let family: MemoryHotplugFamily;
  /** Slots that KVM takes before it refuses one. */
  let slotsMax: number;

  beforeEach(() => {
    slots = new Map();
    slotsMax = 100;
    family = new MemoryHotplugFamily(checkMemoryHotplug({ totalSizeMib: 1024 }), START);
    mapping = new (native().GuestMapping)([...REGIONS, family.region]);
    memory = new GuestMemory(mapping.buffer, REGIONS, family.region);
  });
  afterEach(() => {
    family.close();
    mapping.close();
  });

  function started() {
    const vm = {
      setMemorySlot: (slot: number, gpa: number, sizeBytes: number) => {
        expect(sizeBytes).toBe(128 * MIB);
        if (slots.size >= slotsMax) throw Object.assign(new Error("no slot"), { code: "ENOMEM" });
        slots.set(slot, gpa);
      },
      removeMemorySlot: (slot: number) => expect(slots.delete(slot)).toBe(true),
    } as unknown as NativeVm;
    family.connect({ vm, mapping, memory, host: new DeviceHost(), onError: () => {} });
    const m = new VirtioMachine(memory, (host) => family.requests[0].create(host) as VirtioMem);
    const ring = m.start();
    const send = (type: number, firstMib: number, mib: number): number => {
      memory.fill(DATA, 64, 0);
      memory.writeU16(DATA, type);
      memory.writeU64(DATA + 8, START + firstMib * MIB);
      memory.writeU16(DATA + 16, mib / 2);
      ring.add({ address: DATA, length: 24 }, { address: DATA + 32, length: 10, writable: true });
      m.kick();
      m.runDeferred();
      ring.takeUsed();
      return memory.readU16(DATA + 32);
    };
    return { m, send, plug: send.bind(undefined, 0), unplug: send.bind(undefined, 1) };
  }

  it("makes memory of what is plugged, and of nothing else", () => {
    const { plug } = started();
    family.setRequestedSize(256);
    expect(memory.contains(START, 1)).toBe(false);
    expect(plug(126, 4)).toBe(0);
    expect([...slots]).toEqual([
      [32, START],
      [33, START + 128 * MIB],
    ]);
    memory.fill(START + 126 * MIB, 4 * MIB, 7);
    expect(memory.readU8(START + 130 * MIB - 1)).toBe(7);
    for (const [gpa, bytes] of [
      [START + 126 * MIB - 1, 2],
      [START + 130 * MIB - 1, 2],
      [START + 130 * MIB, 1],
      [START, 4096],
      [START + 1024 * MIB - 1, 1],
      [START + 1024 * MIB, 1],
    ]) {
      expect(() => memory.read(gpa, bytes)).toThrow("no guest memory");
    }
    expect(family.report()).toMatchObject({ pluggedSizeMib: 4, requestedSizeMib: 256 });
  });

  it("gives the host what is unplugged, and KVM no slot for it", () => {
    const { plug, unplug } = started();
    family.setRequestedSize(256);
    const before = heldMib();
    expect(plug(0, 256)).toBe(0);
    memory.fill(START, 256 * MIB, 1);
    expect(heldMib() - before).toBeGreaterThan(250);
    expect(unplug(0, 130)).toBe(0);
    expect(heldMib() - before).toBeLessThan(130);
    expect([...slots.keys()]).toEqual([33]);
    expect(unplug(130, 126)).toBe(0);
    expect(heldMib() - before).toBeLessThan(5);
    expect(slots.size).toBe(0);
    expect(family.metrics).toMatchObject({ unplug_bytes: 256 * MIB, unplug_discard_fails: 0 });
  });

  it("does not fault a view of memory that has gone", () => {
    const { plug, unplug } = started();
    family.setRequestedSize(2);
    plug(0, 2);
    const view = memory.ring32(START, 4096);
    view[3] = 9;
    unplug(0, 2);
    expect(view[3]).toBe(0);
    view[3] = 1;
    expect(memory.contains(START, 4)).toBe(false);
  });

  it("refuses it to the addon as well: a balloon cannot give back what is not there", () => {
    const { plug } = started();
    family.setRequestedSize(4);
    const reclaim = () => mapping.reclaim(Float64Array.of(START), Float64Array.of(2 * MIB), 1);
    expect(reclaim()).toBe(0);
    plug(0, 2);
    expect(reclaim()).toBe(2 * MIB);
    expect(() => mapping.setPlugged(START + 4096, 4096, true)).toThrow(TypeError);
    expect(() => mapping.setPlugged(0, 2 * MIB, true)).toThrow(TypeError);
    expect(() => mapping.discard(0, 2 * MIB)).toThrow(expect.objectContaining({ code: "EINVAL" }));
    expect(() => memory.setPlugged(0, 2 * MIB, true)).toThrow("no pluggable memory");
  });

  it("says no when KVM has no room, and takes back the slots it had", () => {
    const { plug } = started();
    family.setRequestedSize(512);
    slotsMax = 2;
    expect(plug(0, 512)).toBe(1);
    expect(slots.size).toBe(0);
    expect(plug(0, 256)).toBe(0);
    expect(memory.contains(START, 256 * MIB)).toBe(true);
  });

  it("checks what is asked for", () => {
    started();
    expect(() => family.setRequestedSize(1026)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_CONFIG_INVALID" }),
    );
    expect(family.report()).toMatchObject({ totalSizeMib: 1024, requestedSizeMib: 0 });
  });
});
