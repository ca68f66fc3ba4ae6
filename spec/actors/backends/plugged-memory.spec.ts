import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PluggedMemory } from "../../../src/actors/backends/plugged-memory.js";
import { type NativeGuestMapping, native } from "../../../src/native/binding.js";
import { GuestMemory } from "../../../src/native/guest-memory.js";
import { GIB, MIB } from "../../../src/units.js";

const REGIONS = [{ start: 0, sizeBytes: 2 * MIB }];
const LAYOUT = { start: 4 * GIB, sizeBytes: 16 * MIB, blockBytes: 2 * MIB, slotBytes: 4 * MIB };

describe("PluggedMemory", () => {
  let mapping: NativeGuestMapping;
  let memory: GuestMemory;
  let calls: (readonly [string, number])[];
  let plugged: PluggedMemory;
  let failsAt: number | undefined;

  beforeEach(() => {
    mapping = new (native().GuestMapping)([...REGIONS, LAYOUT]);
    memory = new GuestMemory(mapping.buffer, REGIONS, LAYOUT);
    calls = [];
    failsAt = undefined;
    const vm = {
      setMemorySlot: (slot: number) => {
        if (slot === failsAt) throw Object.assign(new Error("KVM"), { code: "ENOMEM" });
        calls.push(["set", slot]);
      },
      removeMemorySlot: (slot: number) => calls.push(["remove", slot]),
    };
    plugged = new PluggedMemory(vm, mapping, memory, LAYOUT);
  });
  afterEach(() => mapping.close());

  const at = (mib: number) => LAYOUT.start + mib * MIB;

  it("has a slot in KVM while a block of it is plugged", () => {
    expect(plugged.plug(at(2), 4 * MIB)).toBe(true);
    expect(plugged.plug(at(0), 2 * MIB)).toBe(true);
    expect(plugged.unplug(at(2), 2 * MIB)).toBe(true);
    expect(calls.splice(0)).toEqual([
      ["set", 32],
      ["set", 33],
    ]);
    expect(plugged.unplug(at(0), 2 * MIB)).toBe(true);
    expect(plugged.unplug(at(4), 2 * MIB)).toBe(true);
    expect(calls).toEqual([
      ["remove", 32],
      ["remove", 33],
    ]);
  });

  it("gives back a range in which not all is plugged, and counts each block once", () => {
    plugged.plug(at(0), 2 * MIB);
    plugged.plug(at(6), 2 * MIB);
    plugged.unplug(at(0), 16 * MIB);
    plugged.plug(at(4), 2 * MIB);
    plugged.unplug(at(4), 2 * MIB);
    expect(calls).toEqual([
      ["set", 32],
      ["set", 33],
      ["remove", 32],
      ["remove", 33],
      ["set", 33],
      ["remove", 33],
    ]);
    expect(memory.contains(at(0), 1)).toBe(false);
  });

  it("changes nothing when KVM has no slot", () => {
    failsAt = 34;
    expect(plugged.plug(at(2), 8 * MIB)).toBe(false);
    expect(calls).toEqual([
      ["set", 32],
      ["set", 33],
      ["remove", 32],
      ["remove", 33],
    ]);
    expect(memory.contains(at(2), 1)).toBe(false);
  });
});
