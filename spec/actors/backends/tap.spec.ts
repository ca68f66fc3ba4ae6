import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openTap, TapBackend } from "../../../src/actors/backends/tap.js";
import { DeviceHost } from "../../../src/actors/device-host.js";
import type { FrameSegments } from "../../../src/devices/backend.js";
import * as net from "../../../src/devices/virtio/net.regs.js";
import { type NativeGuestMapping, native } from "../../../src/native/binding.js";
import { GuestMemory } from "../../../src/native/guest-memory.js";
import { MIB } from "../../../src/units.js";
import { type TapPair, tapPair, untilForwarding } from "../../support/tap-pair.js";

const REGIONS = [{ start: 0, sizeBytes: MIB }];
const taps = tapPair();

/** Chains of segments [address, length]. */
function segments(...chains: (readonly (readonly [number, number])[])[]): FrameSegments {
  const all = chains.flat();
  let end = 0;
  return {
    addresses: Float64Array.from(all, ([address]) => address),
    lengths: Uint32Array.from(all, ([, length]) => length),
    ends: Uint32Array.from(chains, (chain) => {
      end += chain.length;
      return end;
    }),
  };
}

/** A broadcast frame with its header, of an experimental type. */
function frame(bytes: number, seed: number): Uint8Array {
  const whole = Uint8Array.from({ length: bytes }, (_, index) => (index * 3 + seed) % 256);
  whole.fill(0, 0, net.HEADER_BYTES);
  whole.fill(0xff, net.HEADER_BYTES, net.HEADER_BYTES + net.MAC_BYTES);
  whole.set([2, 0, 0, 0, 0, seed % 100], net.HEADER_BYTES + net.MAC_BYTES);
  whole.set([0x88, 0xb5], net.HEADER_BYTES + 12);
  return whole;
}

/** As a tap gives it back: the header is the kernel's. */
const content = (bytes: Uint8Array) => [...bytes.subarray(net.HEADER_BYTES)];

describe("TapBackend", () => {
  it.each([
    ["an interface that does not exist", "estalo-nowhere", "ENODEV"],
    ["an interface that is no tap", "lo", "EINVAL"],
    ["a name that is too long", "a-name-of-more-than-15", "ENAMETOOLONG"],
  ])("refuses %s (needs /dev/net/tun)", (_what, name, errno) => {
    expect(() => new TapBackend(name)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_TAP", data: expect.objectContaining({ errno }) }),
    );
  });
});

describe.skipIf(taps === undefined)("TapBackend on a pair of taps (needs root)", () => {
  let mapping: NativeGuestMapping;
  let memory: GuestMemory;
  let ours: TapBackend;
  let other: TapBackend;
  const errors: unknown[] = [];
  const frameBytes = new Uint32Array(64);
  const frameBuffers = new Uint16Array(64);

  beforeEach(async () => {
    mapping = new (native().GuestMapping)(REGIONS);
    memory = new GuestMemory(mapping.buffer, REGIONS);
    const host = new DeviceHost();
    ours = new TapBackend(taps?.first as string);
    other = new TapBackend(taps?.second as string);
    for (const tap of [ours, other])
      tap.connect({ mapping, host: host, onError: (error) => errors.push(error) });
    await untilForwarding(taps as TapPair);
  });
  afterEach(() => {
    ours.close();
    other.close();
    mapping.close();
    expect(errors).toEqual([]);
  });

  /** The next frame that arrives at the other tap. */
  async function arrived(): Promise<Uint8Array> {
    const found = await vi.waitUntil(() => other.receiveBytes(), { timeout: 20_000, interval: 5 });
    return found as Uint8Array;
  }

  it("is in use while it is open", () => {
    expect(() => new TapBackend(taps?.first as string)).toThrow(
      expect.objectContaining({ data: expect.objectContaining({ errno: "EBUSY" }) }),
    );
  });

  it("sends frames from wherever their segments lie", async () => {
    const frames = [frame(200, 1), frame(1500, 2)];
    memory.write(1000, frames[0]);
    memory.write(5000, frames[1].subarray(0, 100));
    memory.write(9001, frames[1].subarray(100));
    const table = segments(
      [
        [1000, 12],
        [1012, 188],
      ],
      [
        [5000, 100],
        [9001, 1400],
      ],
    );
    expect(ours.send(table, 0, 2)).toBe(2);
    expect(ours.sendErrors).toBe(0);
    expect(content(await arrived())).toEqual(content(frames[0]));
    expect(content(await arrived())).toEqual(content(frames[1]));
  });

  it("loses a frame that the kernel refuses, says why, and sends the others", async () => {
    memory.write(2000, frame(100, 2));
    expect(ours.send(segments([[1000, 5]], [[2000, 100]]), 0, 2)).toBe(2);
    expect(ours.sendErrors).toBe(1);
    expect(ours.lastErrno).toBeGreaterThan(0);
    expect(content(await arrived())).toEqual(content(frame(100, 2)));
  });

  it("fills buffers, several for a frame where they are merged, and wakes its device", async () => {
    const woken = new Promise<void>((resolve) => {
      ours.onReadable = resolve;
    });
    expect(other.sendBytes(frame(300, 3))).toBe(true);
    expect(other.sendBytes(frame(100, 4))).toBe(true);
    await woken;
    const table = segments([[1000, 200]], [[2000, 200]], [[3000, 200]], [[4000, 200]]);
    const frames = ours.receive(table, 0, 4, true, frameBytes, frameBuffers);
    expect(frames).toBe(2);
    expect([...frameBytes.subarray(0, 2)]).toEqual([300, 100]);
    expect([...frameBuffers.subarray(0, 2)]).toEqual([2, 1]);
    const got = [...memory.read(1000, 200), ...memory.read(2000, 100)];
    expect(got.slice(12)).toEqual(content(frame(300, 3)));
    expect([...memory.read(3000, 100)].slice(12)).toEqual(content(frame(100, 4)));
    expect(ours.receive(table, 0, 4, true, frameBytes, frameBuffers)).toBe(0);
  });

  it("leaves a frame for which the buffers may be too few behind others, where they are merged", async () => {
    other.sendBytes(frame(300, 5));
    other.sendBytes(frame(300, 6));
    const table = segments([[1000, net.FRAME_BYTES_MAX]], [[70_000, 100]]);
    const receive = (buffers: FrameSegments, count: number) =>
      ours.receive(buffers, 0, count, true, frameBytes, frameBuffers);
    await vi.waitUntil(() => receive(table, 2) === 1, { timeout: 20_000, interval: 5 });
    const others = segments([[72_000, 200]], [[73_000, 200]]);
    await vi.waitUntil(() => receive(others, 2) === 1, { timeout: 20_000, interval: 5 });
    expect([frameBytes[0], frameBuffers[0], ours.receiveErrors]).toEqual([300, 2, 0]);
    expect([...memory.read(72_000, 200)].slice(12)).toEqual(content(frame(300, 6)).slice(0, 188));
  });

  it("loses a frame that is larger than its buffers, and gives the next", async () => {
    other.sendBytes(frame(900, 5));
    other.sendBytes(frame(90, 6));
    const table = segments([[1000, 200]], [[2000, 200]]);
    await vi.waitUntil(() => ours.receive(table, 0, 2, false, frameBytes, frameBuffers) === 1, {
      timeout: 20_000,
      interval: 5,
    });
    expect(frameBytes[0]).toBe(90);
    expect(ours.receiveErrors).toBe(1);
    expect([...memory.read(1000, 90)].slice(12)).toEqual(content(frame(90, 6)));
  });

  it("takes every combination of offloads that a driver may have accepted", () => {
    const bits = [
      net.FEATURE_GUEST_CSUM_BIT,
      net.FEATURE_GUEST_TSO4_BIT,
      net.FEATURE_GUEST_TSO6_BIT,
      net.FEATURE_GUEST_UFO_BIT,
    ];
    for (let mask = 0; mask < 16; mask++) {
      const features = bits.reduce((sum, bit, i) => sum | (((mask >> i) & 1) << bit), 0);
      expect(() => ours.setOffloads(features)).not.toThrow();
    }
  });

  it("loses a frame from outside guest memory, and takes a buffer there for the guest's fault", () => {
    expect(ours.send(segments([[MIB - 10, 100]]), 0, 1)).toBe(1);
    expect(ours.sendErrors).toBe(1);
    const outside = segments([[MIB, 100]]);
    expect(() => ours.receive(outside, 0, 1, true, frameBytes, frameBuffers)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_GUEST_FAULT" }),
    );
  });
});

const severalTaps = tapPair(1500, true);

describe.skipIf(severalTaps === undefined)("openTap with several queues (needs root)", () => {
  const { first, second } = severalTaps ?? { first: "", second: "" };
  const refusal = (errno: string) =>
    expect.objectContaining({
      code: "ERR_ESTALO_TAP",
      data: expect.objectContaining({ errno }),
      hint: expect.any(String),
    });

  it("has the tap for itself, and refuses one that was made otherwise", () => {
    const queues = openTap(first, 3);
    expect(queues).toHaveLength(3);
    expect(() => openTap(first, 3)).toThrow(refusal("EBUSY"));
    for (const queue of queues) queue.close();
    expect(() => openTap(first, 1)).toThrow(refusal("EINVAL"));
    expect(() => openTap(second, 2)).toThrow(refusal("EINVAL"));
    for (const queue of openTap(first, 8)) queue.close();
    openTap(second, 1)[0].close();
  });

  it("sends by every queue, and receives by those that take part", async () => {
    const mapping = new (native().GuestMapping)(REGIONS);
    const host = new DeviceHost();
    const [one, two] = openTap(first, 2);
    const other = new TapBackend(second);
    const all = [one, two, other];
    const errors: unknown[] = [];
    try {
      for (const tap of all) tap.connect({ mapping, host, onError: (e) => errors.push(e) });
      await untilForwarding(severalTaps as TapPair);
      const options = { timeout: 20_000, interval: 5 };
      two.setAttached(true);
      for (const [seed, queue] of [one, two].entries()) {
        expect(queue.sendBytes(frame(100, seed + 1))).toBe(true);
        const got = await vi.waitUntil(() => other.receiveBytes(), options);
        expect(content(got)).toEqual(content(frame(100, seed + 1)));
      }
      two.setAttached(false);
      // Flows that would be the other queue's come by this one.
      const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
      for (const seed of seeds) expect(other.sendBytes(frame(100, seed))).toBe(true);
      for (const seed of seeds) {
        const got = await vi.waitUntil(() => one.receiveBytes(), options);
        expect(content(got)).toEqual(content(frame(100, seed)));
      }
      expect(two.receiveBytes()).toBeUndefined();
      expect(errors).toEqual([]);
    } finally {
      for (const tap of all) tap.close();
      mapping.close();
    }
  });
});

describe.skipIf(severalTaps === undefined)(
  "a tap that is removed while it is open (needs root)",
  () => {
    it("is told once, then takes what is sent as lost and gives nothing", async () => {
      const name = `esg${process.pid % 1_000_000}`;
      execFileSync("ip", ["tuntap", "add", name, "mode", "tap", "vnet_hdr"]);
      execFileSync("ip", ["link", "set", name, "up"]);
      const mapping = new (native().GuestMapping)(REGIONS);
      const errors: unknown[] = [];
      const tap = new TapBackend(name);
      const table = segments([[1000, 2000]]);
      const receive = () => tap.receive(table, 0, 1, true, frameBytes, frameBuffers);
      let calls = 0;
      const [frameBytes, frameBuffers] = [new Uint32Array(64), new Uint16Array(64)];
      try {
        tap.connect({ mapping, host: new DeviceHost(), onError: (error) => errors.push(error) });
        tap.onReadable = () => {
          calls++;
          while (receive() > 0);
        };
        execFileSync("ip", ["link", "delete", name]);
        await vi.waitUntil(() => errors.length > 0, { timeout: 20_000, interval: 5 });
        expect(errors).toEqual([
          expect.objectContaining({ code: "ERR_ESTALO_TAP", message: `read tap ${name}: EBADFD` }),
        ]);
        const woken = calls;
        expect(receive()).toBe(0);
        expect(tap.receiveBytes()).toBeUndefined();
        expect(tap.send(table, 0, 1)).toBe(1);
        expect(tap.sendErrors).toBe(1);
        tap.setOffloads(0);
        await new Promise((resolve) => setTimeout(resolve, 50));
        expect([calls, errors.length]).toEqual([woken, 1]);
      } finally {
        tap.close();
        mapping.close();
      }
    });
  },
);

describe.skipIf(severalTaps === undefined)("queues of a tap that is removed (needs root)", () => {
  it("can be detached, as at every reset, and not attached", () => {
    const name = `esh${process.pid % 1_000_000}`;
    execFileSync("ip", ["tuntap", "add", name, "mode", "tap", "vnet_hdr", "multi_queue"]);
    const queues = openTap(name, 2);
    execFileSync("ip", ["link", "delete", name]);
    queues[1].setAttached(false);
    expect(() => queues[1].setAttached(true)).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_TAP" }),
    );
    for (const queue of queues) queue.close();
  });
});
