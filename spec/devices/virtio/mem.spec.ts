import { describe, expect, it } from "vitest";
import type { MemoryPlugger } from "../../../src/devices/backend.js";
import { VirtioMem } from "../../../src/devices/virtio/mem.js";
import { GIB, KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const DATA = 256 * KIB;
const START = 4 * GIB;
const BLOCK = 2 * MIB;
const [PLUG, UNPLUG, UNPLUG_ALL, STATE] = [0, 1, 2, 3];
const [ACK, NACK, ERROR] = [0, 1, 3];

/** Keeps what it was asked to do. */
class PlayedPlugger implements MemoryPlugger {
  readonly calls: [string, number, number][] = [];
  succeeds = true;

  plug(start: number, sizeBytes: number): boolean {
    this.calls.push(["plug", (start - START) / BLOCK, sizeBytes / BLOCK]);
    return this.succeeds;
  }

  unplug(start: number, sizeBytes: number): boolean {
    this.calls.push(["unplug", (start - START) / BLOCK, sizeBytes / BLOCK]);
    return this.succeeds;
  }
}

function started(requestedMib = 0) {
  const plugger = new PlayedPlugger();
  const m = new VirtioMachine(
    createMemory(1024 * KIB),
    (host) =>
      new VirtioMem(host, {
        plugger,
        start: START,
        sizeBytes: 1024 * MIB,
        blockBytes: BLOCK,
        slotBytes: 128 * MIB,
        nowUs: () => 5,
      }),
  );
  const ring = m.start();
  m.device.setRequested(requestedMib * MIB);
  /** Sends a request; gives the answer's type, with the state for one that asks for it. */
  const send = (type: number, address = START, blocks = 1): number | [number, number] => {
    m.memory.fill(DATA, 64, 0);
    m.memory.writeU16(DATA, type);
    m.memory.writeU64(DATA + 8, address);
    m.memory.writeU16(DATA + 16, blocks);
    m.memory.writeU16(DATA + 32, 0x55);
    ring.add({ address: DATA, length: 24 }, { address: DATA + 32, length: 10, writable: true });
    m.kick();
    m.runDeferred();
    expect(ring.takeUsed().map(({ length }) => length)).toEqual([10]);
    const answer = m.memory.readU16(DATA + 32);
    return type === STATE ? [answer, m.memory.readU16(DATA + 40)] : answer;
  };
  const config = (offset: number) =>
    Number(new DataView(m.device.config.buffer).getBigUint64(offset, true)) / MIB;
  return {
    plugger,
    m,
    ring,
    send,
    config,
    usable: () => config(0x20),
    plugged: () => config(0x28),
  };
}

describe("VirtioMem", () => {
  it("tells of its region, of which nothing is usable until memory is asked for", () => {
    const { m, config, usable, send } = started();
    expect([0, 0x10, 0x18, 0x20, 0x28, 0x30].map(config)).toEqual([2, START / MIB, 1024, 0, 0, 0]);
    expect(send(PLUG)).toBe(ERROR);
    m.fake.irq.take();
    m.device.setRequested(130 * MIB);
    expect(m.fake.irq.take()).toBe(1);
    expect([usable(), config(0x30)]).toEqual([256, 130]);
    m.device.setRequested(2 * MIB);
    expect(usable()).toBe(256);
  });

  it("plugs blocks as far as they are asked for, and tells of it without an interrupt", () => {
    const { m, plugger, send, plugged } = started(8);
    m.fake.irq.take();
    expect(send(PLUG, START, 3)).toBe(ACK);
    // The answer's.
    expect(m.fake.irq.take()).toBe(1);
    expect(plugged()).toBe(6);
    expect(send(PLUG, START + 3 * BLOCK, 2)).toBe(NACK);
    expect(send(PLUG, START + 10 * BLOCK, 1)).toBe(ACK);
    expect(plugger.calls).toEqual([
      ["plug", 0, 3],
      ["plug", 10, 1],
    ]);
    expect(m.device.metrics).toMatchObject({ plug_count: 3, plug_fails: 1, plug_bytes: 4 * BLOCK });
  });

  it("refuses ranges that are none, and blocks that are not as the request needs them", () => {
    const { m, send, plugger } = started(128);
    expect(send(PLUG, START + BLOCK, 2)).toBe(ACK);
    const calls = plugger.calls.length;
    for (const [address, blocks] of [
      [START + 4096, 1],
      [START - BLOCK, 1],
      [START, 0],
      [START + 63 * BLOCK, 2],
      [START + 64 * BLOCK, 1],
      [0, 1],
      [2 ** 64 - 2 ** 20, 1],
      [2 ** 63, 65_535],
    ]) {
      for (const type of [PLUG, UNPLUG]) expect(send(type, address, blocks)).toBe(ERROR);
      expect(send(STATE, address, blocks)).toEqual([ERROR, 0]);
    }
    expect(send(PLUG, START, 2)).toBe(ERROR);
    expect(send(UNPLUG, START, 2)).toBe(ERROR);
    expect(send(17)).toBe(ERROR);
    expect(plugger.calls).toHaveLength(calls);
    expect(m.device.pluggedBytes).toBe(2 * BLOCK);
    expect(m.device.metrics.queue_event_fails).toBe(1);
  });

  it("tells how blocks are", () => {
    const { send } = started(128);
    send(PLUG, START, 2);
    expect(send(STATE, START, 2)).toEqual([ACK, 0]);
    expect(send(STATE, START + 2 * BLOCK, 5)).toEqual([ACK, 1]);
    expect(send(STATE, START + BLOCK, 2)).toEqual([ACK, 2]);
  });

  it("gives blocks back before it answers, a slice in a turn", () => {
    const { m, plugger, ring, send, plugged } = started(512);
    expect(send(PLUG, START, 256)).toBe(ACK);
    m.memory.writeU16(DATA, UNPLUG);
    ring.add({ address: DATA, length: 24 }, { address: DATA + 32, length: 10, writable: true });
    m.kick();
    expect(ring.takeUsed()).toEqual([]);
    expect(plugged()).toBe(512 - 128);
    expect(m.deferred).toHaveLength(1);
    m.runDeferred();
    expect(ring.takeUsed()).toHaveLength(1);
    expect(plugger.calls.slice(1)).toEqual([
      ["unplug", 0, 64],
      ["unplug", 64, 64],
      ["unplug", 128, 64],
      ["unplug", 192, 64],
    ]);
    expect(m.device.metrics).toMatchObject({ unplug_count: 1, unplug_bytes: 512 * MIB });
  });

  it("carries out one plug or unplug in a turn, and looks at states beside it", () => {
    const { m, plugger, ring } = started(512);
    const requests = [
      [PLUG, 0, 64],
      [UNPLUG, 0, 64],
      [STATE, 0, 1],
      [STATE, 1, 1],
      [PLUG, 64, 64],
      [UNPLUG, 64, 64],
    ];
    for (const [index, [type, block, blocks]] of requests.entries()) {
      const at = DATA + index * 64;
      m.memory.fill(at, 64, 0);
      m.memory.writeU16(at, type);
      m.memory.writeU64(at + 8, START + block * BLOCK);
      m.memory.writeU16(at + 16, blocks);
      ring.add({ address: at, length: 24 }, { address: at + 32, length: 10, writable: true });
    }
    m.kick();
    const turns = [[plugger.calls.length, ring.takeUsed().length]];
    for (let turn = 0; turn < 4; turn++) {
      m.runDeferred(1);
      turns.push([plugger.calls.length, ring.takeUsed().length]);
    }
    expect(turns).toEqual([
      [1, 1],
      [2, 1],
      [3, 3],
      [4, 1],
      [4, 0],
    ]);
    expect(m.deferred).toEqual([]);
  });

  it("unplugs everything, and its usable part shrinks to what is asked for", () => {
    const { m, plugger, send, usable, plugged } = started(512);
    send(PLUG, START + 5 * BLOCK, 1);
    send(PLUG, START + 200 * BLOCK, 4);
    m.device.setRequested(100 * MIB);
    expect(usable()).toBe(512);
    expect(send(UNPLUG_ALL)).toBe(ACK);
    expect([usable(), plugged()]).toEqual([128, 0]);
    expect(plugger.calls.slice(2)).toEqual([
      ["unplug", 5, 64],
      ["unplug", 200, 64],
    ]);
    expect(send(PLUG, START + 100 * BLOCK)).toBe(ERROR);
    expect(m.device.metrics).toMatchObject({ unplug_all_count: 1, unplug_bytes: 5 * BLOCK });
  });

  it("says no when the host has no memory, and counts what the host did not take back", () => {
    const { m, plugger, send, plugged } = started(128);
    plugger.succeeds = false;
    expect(send(PLUG)).toBe(NACK);
    plugger.succeeds = true;
    send(PLUG);
    plugger.succeeds = false;
    expect(send(UNPLUG)).toBe(ACK);
    expect(plugged()).toBe(0);
    expect(m.device.metrics.unplug_discard_fails).toBe(1);
  });

  it("keeps blocks over a reset, and finishes what it was giving back", () => {
    const { m, plugger, ring, send } = started(512);
    send(PLUG, START, 256);
    m.memory.writeU16(DATA, UNPLUG_ALL);
    ring.add({ address: DATA, length: 24 }, { address: DATA + 32, length: 10, writable: true });
    m.kick();
    m.reset();
    m.runDeferred();
    expect(m.device.pluggedBytes).toBe(384 * MIB);
    const again = m.start();
    m.runDeferred();
    expect(m.device.pluggedBytes).toBe(0);
    expect(again.takeUsed()).toEqual([]);
    expect(plugger.calls.filter(([what]) => what === "unplug")).toHaveLength(4);
  });

  it("needs a driver that stays away from unplugged memory", () => {
    const { m } = started();
    m.reset();
    const { low, high } = m.offered();
    m.start({ low: low & ~2, high });
    expect(m.faults).toEqual([expect.stringContaining("not plugged")]);
  });

  it("answers requests without room for an answer, or cut short, with what there is room for", () => {
    const { m, ring } = started(128);
    m.memory.fill(DATA, 64, 0);
    ring.add({ address: DATA, length: 24 });
    ring.add({ address: DATA, length: 23 }, { address: DATA + 32, length: 4, writable: true });
    m.kick();
    expect(ring.takeUsed().map(({ length }) => length)).toEqual([0, 4]);
    expect(m.memory.readU16(DATA + 32)).toBe(ERROR);
    expect(m.device.metrics.queue_event_fails).toBe(2);
  });
});

describe("VirtioMem in a snapshot", () => {
  const region = {
    version: 1,
    start: START,
    sizeBytes: 1024 * MIB,
    blockBytes: BLOCK,
    slotBytes: 128 * MIB,
  };

  it("records what it must offer again, and which blocks are plugged", () => {
    const { m, send } = started(130);
    send(PLUG, START, 3);
    send(PLUG, START + 5 * BLOCK, 1);
    send(PLUG, START + 127 * BLOCK, 1);
    expect(m.device.save()).toEqual({
      ...region,
      requestedBytes: 130 * MIB,
      usableBytes: 256 * MIB,
      plugged: [
        [0, 3],
        [5, 1],
        [127, 1],
      ],
      unplugging: undefined,
    });
    m.device.setRequested(1024 * MIB);
    for (let block = 0; block < 512; block++) send(PLUG, START + block * BLOCK);
    expect(m.device.save().plugged).toEqual([[0, 512]]);
    send(UNPLUG_ALL);
    expect(m.device.save()).toMatchObject({ usableBytes: 1024 * MIB, plugged: [] });
  });

  it("records what is on its way back, and who waits for it", () => {
    const { m, ring, send } = started(512);
    send(PLUG, START, 256);
    m.memory.writeU16(DATA, UNPLUG);
    m.memory.writeU64(DATA + 8, START + BLOCK);
    m.memory.writeU16(DATA + 16, 200);
    const answer = { address: DATA + 32, length: 10, writable: true };
    const head = ring.add({ address: DATA, length: 24 }, answer);
    m.kick();
    expect(m.device.save()).toMatchObject({
      plugged: [
        [0, 1],
        [65, 191],
      ],
      unplugging: { request: "unplug", block: 65, endBlock: 201, head },
    });
    m.reset();
    expect(m.device.save().unplugging).toEqual({
      request: "unplug",
      block: 65,
      endBlock: 201,
      head: undefined,
    });
  });
});
