import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import type { FrameDetour } from "../../../src/devices/backend.js";
import { RateLimiter } from "../../../src/devices/rate-limiter.js";
import { featureBits, RING_FEATURES } from "../../../src/devices/virtio/features.js";
import * as transport from "../../../src/devices/virtio/mmio-transport.regs.js";
import { type NetOptions, VirtioNet } from "../../../src/devices/virtio/net.js";
import * as regs from "../../../src/devices/virtio/net.regs.js";
import { KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import { FakeNetBackend } from "../../support/fake-net-backend.js";
import { RingDriver, type Segment } from "../../support/ring-driver.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const MAC = Uint8Array.of(6, 0, 1, 2, 3, 4);
const DATA = 512 * KIB;
const { RECEIVE_QUEUE, TRANSMIT_QUEUE, HEADER_BYTES } = regs;

/** A frame of so many bytes with its header: header zeros, source ours. */
function frame(bytes: number, seed = 1): Uint8Array {
  const whole = Uint8Array.from({ length: bytes }, (_, index) => (index * 5 + seed) % 256);
  whole.fill(0, 0, HEADER_BYTES);
  whole.set(MAC, HEADER_BYTES + regs.ETHERNET_SOURCE_OFFSET);
  return whole;
}

class NetMachine extends VirtioMachine<VirtioNet> {
  readonly backend: FakeNetBackend;
  receive!: RingDriver;
  transmit!: RingDriver;

  constructor(options: Partial<NetOptions> = {}) {
    const memory = createMemory(MIB);
    const backend = new FakeNetBackend(memory);
    super(memory, (host) => new VirtioNet(host, { backends: [backend], mac: MAC, ...options }));
    this.backend = backend;
  }

  /** With all features, or those without some. */
  static started(options: Partial<NetOptions> = {}, without: readonly number[] = []): NetMachine {
    const m = new NetMachine(options);
    const offered = m.offered();
    const { low } = featureBits(without);
    m.negotiate({ low: (offered.low & ~low) >>> 0, high: offered.high });
    m.receive = new RingDriver(m.memory, { eventIdx: true });
    m.transmit = new RingDriver(m.memory, { eventIdx: true, start: 64 * KIB });
    m.setUpQueue(RECEIVE_QUEUE, m.receive);
    m.setUpQueue(TRANSMIT_QUEUE, m.transmit);
    m.driverOk();
    return m;
  }

  /** Offers a frame cut into segments of these lengths (the last takes the rest). */
  offer(bytes: Uint8Array, address: number, cuts: readonly number[] = []): number {
    this.memory.write(address, bytes);
    const segments: Segment[] = [];
    let at = 0;
    for (const cut of cuts) {
      segments.push({ address: address + at, length: cut });
      at += cut;
    }
    segments.push({ address: address + at, length: bytes.length - at });
    return this.transmit.add(...segments);
  }

  /** Offers receive buffers of these sizes, side by side. */
  buffers(...sizes: number[]): number[] {
    let at = DATA;
    const heads = sizes.map((length) => {
      const head = this.receive.add({ address: at, length, writable: true });
      at += length;
      return head;
    });
    this.kick(RECEIVE_QUEUE);
    return heads;
  }
}

const numBuffers = (m: NetMachine, at = DATA) =>
  m.memory.readU8(at + regs.HEADER_NUM_BUFFERS_OFFSET) +
  256 * m.memory.readU8(at + regs.HEADER_NUM_BUFFERS_OFFSET + 1);

describe("VirtioNet offers", () => {
  it("what its backend can, its address, link and MTU", () => {
    const m = new NetMachine({ mtu: 1400 });
    const bits = [0, 1, 3, 5, 7, 8, 10, 11, 12, 14, 15, 16];
    expect(m.offered()).toEqual(featureBits([...RING_FEATURES, ...bits]));
    const config = (offset: number) => m.fake.read8(transport.CONFIG_OFFSET + offset);
    expect([0, 1, 2, 3, 4, 5].map(config)).toEqual([...MAC]);
    expect(config(regs.CONFIG_STATUS_OFFSET)).toBe(regs.STATUS_LINK_UP_MASK);
    expect(config(regs.CONFIG_MTU_OFFSET) + 256 * config(regs.CONFIG_MTU_OFFSET + 1)).toBe(1400);
  });

  it("no offload where the backend has none", () => {
    const memory = createMemory(MIB);
    const backend = new FakeNetBackend(memory);
    backend.supportsOffloads = false;
    const m = new VirtioMachine(
      memory,
      (host) => new VirtioNet(host, { backends: [backend], mac: MAC }),
    );
    expect(m.offered()).toEqual(featureBits([...RING_FEATURES, 5, 15, 16]));
  });

  it("tells the backend what the driver took", () => {
    const m = NetMachine.started({}, [regs.FEATURE_GUEST_TSO6_BIT]);
    expect((m.backend.offloads >>> regs.FEATURE_GUEST_TSO4_BIT) & 1).toBe(1);
    expect((m.backend.offloads >>> regs.FEATURE_GUEST_TSO6_BIT) & 1).toBe(0);
  });
});

describe("VirtioNet transmitting", () => {
  it("sends frames in order, however they are cut, in one call", () => {
    const m = NetMachine.started();
    const frames = [frame(60), frame(1526, 2), frame(300, 3)];
    const heads = [
      m.offer(frames[0], DATA, [12]),
      m.offer(frames[1], DATA + 2048, [1, 2, 20]),
      m.offer(frames[2], DATA + 8192),
    ];
    m.kick(TRANSMIT_QUEUE);
    expect(m.backend.sent).toEqual(frames);
    expect(m.backend.sendCalls).toBe(1);
    expect(m.transmit.takeUsed()).toEqual(heads.map((head) => ({ head, length: 0 })));
    expect(m.device.metrics).toMatchObject({
      tx_packets_count: 3,
      tx_bytes_count: 60 + 1526 + 300,
      tx_spoofed_mac_count: 0,
    });
    expect(m.fake.irq.take()).toBe(1);
  });

  it.each([
    ["no Ethernet header", frame(25), 0],
    ["more bytes than a frame can have", frame(regs.FRAME_BYTES_MAX + 1), 0],
    ["buffers to be written", frame(60), 1],
  ])("drops and counts a frame with %s, and goes on", (_what, bad, extra) => {
    const m = NetMachine.started();
    m.memory.write(DATA, bad);
    const segments: Segment[] = [{ address: DATA, length: bad.length }];
    if (extra === 1) segments.push({ address: DATA, length: 1, writable: true });
    m.transmit.add(...segments);
    m.offer(frame(60), DATA + 128 * KIB);
    m.kick(TRANSMIT_QUEUE);
    expect(m.backend.sent).toEqual([frame(60)]);
    expect(m.transmit.takeUsed()).toHaveLength(2);
    expect(m.device.metrics.tx_malformed_frames).toBe(1);
    expect(m.faults).toEqual([]);
  });

  it("keeps what the host has no room for, and sends it when there is", () => {
    const m = NetMachine.started();
    m.backend.room = 2;
    for (let index = 0; index < 5; index++) m.offer(frame(60, index), DATA + index * 64);
    m.kick(TRANSMIT_QUEUE);
    expect(m.transmit.takeUsed()).toHaveLength(2);
    m.backend.room = 10;
    m.backend.onWritable?.();
    expect(m.transmit.takeUsed()).toHaveLength(3);
    expect(m.backend.sent).toEqual([0, 1, 2, 3, 4].map((seed) => frame(60, seed)));
  });

  it("gives what waits back to the queue for a pause", () => {
    const m = NetMachine.started();
    m.backend.room = 1;
    for (let index = 0; index < 3; index++) m.offer(frame(60, index), DATA + index * 64);
    m.kick(TRANSMIT_QUEUE);
    m.device.quiesce();
    m.backend.room = 10;
    m.kick(TRANSMIT_QUEUE);
    expect(m.backend.sent).toEqual([0, 1, 2].map((seed) => frame(60, seed)));
    expect(m.transmit.takeUsed()).toHaveLength(3);
  });

  it.each<[string, (m: NetMachine) => Uint8Array]>([
    ["is malformed", () => frame(25)],
    [
      "a detour takes",
      (m) => {
        m.device.addDetour({ transmit: (start) => (start[20] === 7 ? "charged" : false) });
        const taken = frame(60, 9);
        taken[HEADER_BYTES + 20] = 7;
        return taken;
      },
    ],
    [
      "is lost without a link",
      (m) => {
        m.device.setLink(false);
        return frame(60, 9);
      },
    ],
  ])(
    "loses what waits before one that %s, for a pause, and returns each chain once",
    (_what, make) => {
      const m = NetMachine.started();
      const heads: number[] = [];
      const offer = (bytes: Uint8Array) => {
        heads.push(m.offer(bytes, DATA + heads.length * 128));
        m.kick(TRANSMIT_QUEUE);
      };
      m.backend.room = 0;
      offer(frame(60, 1));
      offer(frame(60, 2));
      offer(make(m));
      expect(m.transmit.takeUsed().map(({ head }) => head)).toEqual([heads[2]]);
      const { tx_fails: before } = m.device.metrics;
      void m.transport.quiesce();
      expect(m.transport.saveQueues()[TRANSMIT_QUEUE]).toMatchObject({ nextAvail: 3, nextUsed: 3 });
      expect(m.device.metrics.tx_fails - before).toBe(2);
      m.transport.resume();
      m.backend.room = 10;
      m.backend.onWritable?.();
      expect(m.transmit.takeUsed().map(({ head }) => head)).toEqual(heads.slice(0, 2));
      expect(m.backend.sent).toEqual([]);
      // Those that come now go back for a pause, and are admitted again.
      m.device.setLink(true);
      m.backend.room = 0;
      offer(frame(60, 3));
      void m.transport.quiesce();
      expect(m.transport.saveQueues()[TRANSMIT_QUEUE]).toMatchObject({ nextAvail: 3, nextUsed: 3 });
      m.backend.room = 10;
      m.transport.resume();
      expect(m.backend.sent).toEqual([frame(60, 3)]);
    },
  );

  it("says that it is paused until it goes on", () => {
    const m = NetMachine.started();
    expect(m.device.isPaused).toBe(false);
    void m.transport.quiesce();
    m.kick(RECEIVE_QUEUE);
    m.device.sendToGuest(frame(60).subarray(HEADER_BYTES));
    expect(m.device.isPaused).toBe(true);
    m.transport.resume();
    expect(m.device.isPaused).toBe(false);
  });

  it("has what goes back for a pause off its limit", () => {
    const ops = { size: 1, refillTimeMs: 1_000_000 };
    const m = NetMachine.started({ transmitLimiter: new RateLimiter({ ops }, () => 0) });
    m.backend.room = 0;
    m.offer(frame(60), DATA);
    m.kick(TRANSMIT_QUEUE);
    void m.transport.quiesce();
    m.backend.room = 10;
    m.transport.resume();
    expect(m.backend.sent).toEqual([frame(60)]);
  });

  it("lets its limiter have it wait, in order", () => {
    const clock = { us: 0 };
    const limits = { bandwidth: { size: 120, refillTimeMs: 1000 } };
    const transmitLimiter = new RateLimiter(limits, () => clock.us);
    const m = NetMachine.started({ transmitLimiter });
    for (let index = 0; index < 3; index++) m.offer(frame(60, index), DATA + index * 64);
    m.kick(TRANSMIT_QUEUE);
    expect(m.transmit.takeUsed()).toHaveLength(2);
    clock.us = 500_000;
    transmitLimiter.reopen();
    m.device.resumeThrottled("transmit");
    expect(m.backend.sent).toEqual([0, 1, 2].map((seed) => frame(60, seed)));
    expect(m.device.metrics.tx_rate_limiter_throttled).toBe(1);
  });

  it("counts frames that are not from its own address", () => {
    const m = NetMachine.started();
    const spoofed = frame(60);
    spoofed[HEADER_BYTES + regs.ETHERNET_SOURCE_OFFSET + 5] ^= 1;
    m.offer(spoofed, DATA, [14]);
    m.kick(TRANSMIT_QUEUE);
    expect(m.device.metrics.tx_spoofed_mac_count).toBe(1);
    expect(m.backend.sent).toEqual([spoofed]);
  });

  it("loses frames while its link is down, and tells the driver of the link", () => {
    const m = NetMachine.started();
    m.device.setLink(false);
    expect(m.fake.read8(transport.CONFIG_OFFSET + regs.CONFIG_STATUS_OFFSET)).toBe(0);
    m.offer(frame(60), DATA);
    m.kick(TRANSMIT_QUEUE);
    expect(m.backend.sent).toEqual([]);
    expect(m.device.metrics.tx_fails).toBe(1);
    m.device.setLink(true);
    m.offer(frame(60), DATA);
    m.kick(TRANSMIT_QUEUE);
    expect(m.backend.sent).toHaveLength(1);
  });

  it("shows frames to a detour, which may take them", () => {
    const m = NetMachine.started();
    const taken: Uint8Array[] = [];
    const detour: FrameDetour = {
      transmit: (start, frameBytes, copy) => {
        if (start[20] === 7) return false;
        expect(start.length).toBe(Math.min(64, frameBytes));
        taken.push(copy());
        return true;
      },
    };
    m.device.addDetour(detour);
    const other = frame(100);
    other[HEADER_BYTES + 20] = 7;
    m.offer(frame(100), DATA, [12, 30]);
    m.offer(other, DATA + 4096);
    m.kick(TRANSMIT_QUEUE);
    expect(taken).toEqual([frame(100).subarray(HEADER_BYTES)]);
    expect(m.backend.sent).toEqual([other]);
    expect(m.transmit.takeUsed()).toHaveLength(2);
  });

  it("shows frames to each detour in turn, until one takes them or it goes", () => {
    const m = NetMachine.started();
    const seen: string[] = [];
    const detour = (name: string, takes: boolean): FrameDetour => ({
      transmit: () => {
        seen.push(name);
        return takes;
      },
    });
    const send = () => {
      m.offer(frame(60), DATA);
      m.kick(TRANSMIT_QUEUE);
      return seen.splice(0);
    };
    const removes = [
      m.device.addDetour(detour("first", false)),
      m.device.addDetour(detour("second", true)),
      m.device.addDetour({ receive: () => true }),
    ];
    expect(send()).toEqual(["first", "second"]);
    expect(m.backend.sent).toHaveLength(0);
    removes[1]();
    expect(send()).toEqual(["first"]);
    removes[0]();
    expect(send()).toEqual([]);
    expect(m.backend.sent).toHaveLength(2);
  });

  it("sends a frame of the host's own with an empty header", () => {
    const m = NetMachine.started();
    expect(m.device.sendToHost(Uint8Array.of(1, 2, 3))).toBe(true);
    expect([...m.backend.sent[0]]).toEqual([...new Array(HEADER_BYTES).fill(0), 1, 2, 3]);
  });
});

describe("VirtioNet receiving", () => {
  it("fills one buffer for each small frame, and says so in the header", () => {
    const m = NetMachine.started();
    const heads = m.buffers(1526, 1526, 1526);
    m.backend.arrive(frame(60), frame(1526, 2));
    expect(m.receive.takeUsed()).toEqual([
      { head: heads[0], length: 60 },
      { head: heads[1], length: 1526 },
    ]);
    expect(numBuffers(m)).toBe(1);
    expect(m.memory.read(DATA + 1526 + 12, 1514)).toEqual(frame(1526, 2).subarray(12));
    expect(m.device.metrics).toMatchObject({ rx_packets_count: 2, rx_bytes_count: 1586 });
  });

  it("spreads a large frame over buffers where the driver merges them", () => {
    const m = NetMachine.started();
    m.buffers(...new Array(50).fill(1526));
    m.backend.arrive(frame(4000));
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([1526, 1526, 948]);
    expect(numBuffers(m)).toBe(3);
  });

  it("loses a frame that does not fit where the driver does not", () => {
    const m = NetMachine.started({}, [regs.FEATURE_MRG_RXBUF_BIT]);
    m.buffers(1526, 1526);
    m.backend.arrive(frame(4000), frame(60));
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([60]);
    expect(m.device.metrics.rx_fails).toBe(1);
  });

  it("looks again after a turn in which it only lost frames", () => {
    const m = NetMachine.started({}, [regs.FEATURE_MRG_RXBUF_BIT]);
    m.buffers(1526);
    m.backend.arrive(frame(4000));
    // Nobody tells of this one: the backend had not been emptied.
    m.backend.waiting.push(frame(60));
    m.runDeferred();
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([60]);
  });

  it("waits for buffers, and for as many as a frame may need", () => {
    const m = NetMachine.started();
    m.buffers(...new Array(50).fill(1526));
    m.backend.arrive(frame(60_000));
    expect(m.receive.takeUsed()).toHaveLength(40);
    m.backend.arrive(frame(60_000));
    expect(m.receive.takeUsed()).toEqual([]);
    expect(m.device.metrics.no_rx_avail_buffer).toBeGreaterThan(0);
    m.buffers(...new Array(40).fill(1526));
    expect(m.receive.takeUsed()).toHaveLength(40);
  });

  it.each([
    ["", []],
    [", also where a detour sees them", [{ receive: () => false }]],
  ])(
    "loses no large frame of several for which there are too few buffers, and waits for others%s",
    (_how, detours) => {
      const m = NetMachine.started();
      for (const detour of detours) m.device.addDetour(detour);
      m.buffers(...new Array(50).fill(1526));
      m.backend.arrive(frame(60_000), frame(60_000, 2));
      expect(m.receive.takeUsed()).toHaveLength(40);
      m.buffers(...new Array(40).fill(1526));
      expect(m.receive.takeUsed()).toHaveLength(40);
      expect(m.device.metrics).toMatchObject({ rx_packets_count: 2, rx_fails: 0 });
    },
  );

  it("receives what had come before there was a driver", () => {
    const m = new NetMachine();
    m.backend.arrive(frame(60));
    m.negotiate();
    m.receive = new RingDriver(m.memory, { eventIdx: true });
    m.transmit = new RingDriver(m.memory, { eventIdx: true, start: 64 * KIB });
    m.receive.add({ address: DATA, length: 1526, writable: true });
    m.setUpQueue(RECEIVE_QUEUE, m.receive);
    m.setUpQueue(TRANSMIT_QUEUE, m.transmit);
    m.driverOk();
    m.runDeferred();
    expect(m.receive.takeUsed()).toHaveLength(1);
  });

  it("gives unused buffers back for a pause, and finds them again", () => {
    const m = NetMachine.started();
    const heads = m.buffers(1526, 1526);
    m.device.quiesce();
    m.backend.arrive(frame(60));
    m.kick(RECEIVE_QUEUE);
    expect(m.receive.takeUsed()).toEqual([{ head: heads[0], length: 60 }]);
  });

  it("lets its limiter have frames wait in their buffers", () => {
    const clock = { us: 0 };
    const receiveLimiter = new RateLimiter(
      { ops: { size: 2, refillTimeMs: 1000 } },
      () => clock.us,
    );
    const m = NetMachine.started({ receiveLimiter });
    m.buffers(...new Array(8).fill(1526));
    m.backend.arrive(frame(60), frame(61), frame(62), frame(63));
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([60, 61]);
    clock.us = 500_000;
    receiveLimiter.reopen();
    m.device.resumeThrottled("receive");
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([62]);
    clock.us = 1_000_000;
    receiveLimiter.reopen();
    m.device.resumeThrottled("receive");
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([63]);
  });

  it("gives the guest frames of the host's own, with an empty header, before others", () => {
    const m = NetMachine.started();
    m.buffers(...new Array(50).fill(100));
    const own = frame(160).subarray(HEADER_BYTES);
    m.device.sendToGuest(own);
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([100, 60]);
    expect(m.memory.read(DATA, 10)).toEqual(new Uint8Array(10));
    expect(numBuffers(m)).toBe(2);
    expect(m.memory.read(DATA + HEADER_BYTES, own.length)).toEqual(own);
  });

  it("takes frames through the host's memory for a detour", () => {
    const m = NetMachine.started();
    m.buffers(1526, 1526, 1526);
    m.device.addDetour({ receive: (start) => start[20] === frame(60, 9)[HEADER_BYTES + 20] });
    m.backend.arrive(frame(60, 1), frame(60, 9), frame(60, 2));
    expect(m.receive.takeUsed()).toHaveLength(2);
    expect(m.memory.read(DATA + 12, 48)).toEqual(frame(60, 1).subarray(12));
    expect(m.memory.read(DATA + 1526 + 12, 48)).toEqual(frame(60, 2).subarray(12));
  });

  it("skips buffers without room for a header", () => {
    const m = NetMachine.started();
    const heads = m.buffers(5, 1526);
    m.backend.arrive(frame(60));
    expect(m.receive.takeUsed()).toEqual([
      { head: heads[0], length: 0 },
      { head: heads[1], length: 60 },
    ]);
  });

  it("forgets everything at a reset", () => {
    const m = NetMachine.started();
    m.buffers(1526);
    m.reset();
    m.backend.arrive(frame(60));
    m.device.sendToGuest(frame(60));
    expect(m.receive.takeUsed()).toEqual([]);
    expect(m.faults).toEqual([]);
  });

  it("delivers every frame that fits, once, in order and whole, whatever the buffers are", () => {
    const sizes = fc.array(fc.integer({ min: 12, max: 3000 }), { minLength: 1, maxLength: 60 });
    const frames = fc.array(fc.integer({ min: 26, max: 5000 }), { maxLength: 20 });
    fc.assert(
      fc.property(sizes, frames, (buffers, lengths) => {
        const m = NetMachine.started();
        m.buffers(...buffers);
        m.backend.arrive(...lengths.map((length, index) => frame(length, index)));
        const used = m.receive.takeUsed();
        let at = DATA;
        let next = 0;
        for (let index = 0; index < used.length; ) {
          const count = numBuffers(m, at);
          const parts: number[] = [];
          for (let part = 0; part < count; part++, index++) {
            parts.push(...m.memory.read(at, used[index].length));
            at += buffers[index];
          }
          while (next < lengths.length && lengths[next] !== parts.length) next++;
          const content = Uint8Array.from(parts).subarray(HEADER_BYTES);
          expect(content).toEqual(frame(lengths[next], next).subarray(HEADER_BYTES));
          next++;
        }
        expect(m.faults).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});

describe("VirtioNet with a driver that misbehaves", () => {
  it("does not wait for room behind a buffer that it cannot take yet", () => {
    const m = NetMachine.started();
    m.buffers(3000);
    m.backend.arrive(frame(60));
    m.deliver();
    m.receive.takeUsed();
    // Less than there once was, and then one that holds no header.
    const heads = m.buffers(100, 5);
    m.backend.arrive(frame(60));
    m.deliver();
    expect(m.receive.takeUsed()).toEqual([
      { head: heads[0], length: 60 },
      { head: heads[1], length: 0 },
    ]);
    expect(m.faults).toEqual([]);
  });

  it("gives no more unusable buffers back in one turn than its queue has entries", () => {
    const m = NetMachine.started();
    const contains = m.memory.contains.bind(m.memory);
    let offers = 4 * m.receive.size;
    const offer = () => m.receive.add({ address: DATA, length: 5, writable: true });
    // While one is looked at, the driver offers the next.
    vi.spyOn(m.memory, "contains").mockImplementation((gpa, bytes) => {
      if (gpa === DATA && offers-- > 0) offer();
      return contains(gpa, bytes);
    });
    offer();
    m.kick(RECEIVE_QUEUE);
    expect(m.receive.takeUsed()).toHaveLength(m.receive.size);
    m.runDeferred(1);
    expect(m.receive.takeUsed()).toHaveLength(m.receive.size);
    offers = 0;
    m.runDeferred();
    m.receive.takeUsed();
    m.receive.add({ address: DATA + 64, length: 1526, writable: true });
    m.backend.arrive(frame(60));
    expect(m.receive.takeUsed().map(({ length }) => length)).toEqual([60]);
    expect(m.faults).toEqual([]);
  });

  it("forgets the host's own frames at a reset: they were for the driver that is gone", () => {
    const m = NetMachine.started();
    m.device.sendToGuest(frame(60));
    m.reset();
    expect(m.device.metrics.rx_fails).toBe(1);
  });
});
