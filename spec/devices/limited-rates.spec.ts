/**
 * Devices behind their rate limiters, asked for far more than they may, on a clock that the spec moves: within
 * 5 % of the limit, above and below, reading and writing, sending and receiving; and nobody at another's cost.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { nowUs, RateLimit } from "../../src/actors/rate-limits.js";
import { RateLimiter, type RateLimiterConfig } from "../../src/devices/rate-limiter.js";
import * as serial from "../../src/devices/serial-16550.regs.js";
import { SerialBack } from "../../src/devices/serial-16550-back.js";
import * as block from "../../src/devices/virtio/block.regs.js";
import { VirtioNet } from "../../src/devices/virtio/net.js";
import { RECEIVE_QUEUE, TRANSMIT_QUEUE } from "../../src/devices/virtio/net.regs.js";
import { VirtioRng } from "../../src/devices/virtio/rng.js";
import { KIB, MIB } from "../../src/units.js";
import { BlockMachine, DATA, into, out } from "../support/block-machine.js";
import { FakeFront } from "../support/fake-front.js";
import { FakeIrq } from "../support/fake-irq.js";
import { createMemory } from "../support/fake-memory.js";
import { FakeNetBackend } from "../support/fake-net-backend.js";
import { RingDriver } from "../support/ring-driver.js";
import { VirtioMachine } from "../support/virtio-machine.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A limited device whose driver, asked once a millisecond, never lets it run dry. */
interface Limited {
  /** Gives the device as much to do as it will take. */
  feed(): void;
  /** Bytes and operations done until now. */
  done(): { readonly bytes: number; readonly ops: number };
}

const SECONDS = 10;

/** What each of these does in a second, once the first filling of its bucket is spent. */
async function ratesOf(devices: readonly Limited[], seconds = SECONDS) {
  const run = async (ms: number) => {
    for (let passed = 0; passed < ms; passed++) {
      for (const device of devices) device.feed();
      await vi.advanceTimersByTimeAsync(1);
    }
    return devices.map((device) => device.done());
  };
  const before = await run(1000);
  const after = await run(seconds * 1000);
  return after.map(({ bytes, ops }, index) => ({
    bytes: (bytes - before[index].bytes) / seconds,
    ops: (ops - before[index].ops) / seconds,
  }));
}

/** A limiter in its stream, whose device is there later. */
function limitOf(config: RateLimiterConfig) {
  const device = { resume: () => {} };
  const limit = new RateLimit(new RateLimiter(config, nowUs), () => device.resume());
  return { limiter: limit.limiter, device };
}

function disk(
  config: RateLimiterConfig,
  type: number,
  requestBytes: number,
  depth: number,
): Limited {
  const { limiter, device } = limitOf(config);
  const m = BlockMachine.started({}, { limiter });
  device.resume = () => m.device.resumeThrottled();
  const data = type === block.TYPE_IN ? into(requestBytes) : out(requestBytes);
  let waiting = 0;
  let ops = 0;
  return {
    feed: () => {
      const used = m.ring.takeUsed().length;
      waiting -= used;
      ops += used;
      for (; waiting < depth; waiting++) m.request(type, 0, data);
      m.kick();
    },
    done: () => {
      const { read_bytes, write_bytes } = m.device.metrics;
      return { bytes: read_bytes + write_bytes, ops };
    },
  };
}

const FRAME_BYTES = 500;

function network(config: RateLimiterConfig, direction: "receive" | "transmit"): Limited {
  const { limiter, device } = limitOf(config);
  const memory = createMemory(MIB);
  const backend = new FakeNetBackend(memory);
  const limits = { [`${direction}Limiter`]: limiter };
  const m = new VirtioMachine(
    memory,
    (host) => new VirtioNet(host, { backends: [backend], mac: new Uint8Array(6), ...limits }),
  );
  device.resume = () => m.device.resumeThrottled(direction);
  m.negotiate(m.offered());
  const receive = new RingDriver(memory, { eventIdx: true });
  const transmit = new RingDriver(memory, { eventIdx: true, start: 64 * KIB });
  m.setUpQueue(RECEIVE_QUEUE, receive);
  m.setUpQueue(TRANSMIT_QUEUE, transmit);
  m.driverOk();
  const [ring, queue] =
    direction === "receive" ? [receive, RECEIVE_QUEUE] : [transmit, TRANSMIT_QUEUE];
  let ops = 0;
  let waiting = 0;
  return {
    feed: () => {
      const used = ring.takeUsed().length;
      ops += used;
      waiting -= used;
      for (; waiting < 32; waiting++) {
        ring.add({ address: DATA, length: FRAME_BYTES, writable: direction === "receive" });
      }
      m.kick(queue);
      if (direction === "receive" && backend.waiting.length < 32) {
        backend.arrive(...Array.from({ length: 32 }, () => new Uint8Array(FRAME_BYTES)));
      }
    },
    done: () => ({ bytes: ops * FRAME_BYTES, ops }),
  };
}

function entropy(config: RateLimiterConfig): Limited {
  const { limiter, device } = limitOf(config);
  const source = { fill: (bytes: Uint8Array) => bytes.fill(1) };
  const m = new VirtioMachine(createMemory(MIB), (host) => new VirtioRng(host, source, limiter));
  device.resume = () => m.device.resumeThrottled();
  const ring = m.start();
  let ops = 0;
  let waiting = 0;
  return {
    feed: () => {
      const used = ring.takeUsed().length;
      ops += used;
      waiting -= used;
      for (; waiting < 32; waiting++) ring.add({ address: DATA, length: 64, writable: true });
      m.kick();
    },
    done: () => ({ bytes: m.device.metrics.entropy_bytes, ops }),
  };
}

function serialOutput(size: number, refillTimeMs: number): Limited {
  const fake = new FakeFront("serial-16550");
  let bytes = 0;
  const sink = {
    write: (part: Uint8Array) => {
      bytes += part.length;
      return true;
    },
  };
  const limit = new RateLimiter({ bandwidth: { size, refillTimeMs } }, nowUs);
  const back = new SerialBack(fake.state, { irq: new FakeIrq(), sink, waitForRts: false, limit });
  return {
    feed: () => {
      for (let byte = 0; byte < 10; byte++) fake.write8(serial.TRANSMIT_OFFSET, byte);
      for (const { event } of fake.takePosts()) back.handleEvent(event);
    },
    done: () => ({ bytes, ops: bytes }),
  };
}

/** 102,400 bytes, or 200 operations, a second. */
const BANDWIDTH: RateLimiterConfig = { bandwidth: { size: 20_480, refillTimeMs: 200 } };
const OPS: RateLimiterConfig = { ops: { size: 40, refillTimeMs: 200 } };
const BYTES_PER_S = 102_400;
const OPS_PER_S = 200;

function expectNear(rate: number, limit: number): void {
  expect(rate).toBeGreaterThanOrEqual(limit * 0.95);
  expect(rate).toBeLessThanOrEqual(limit * 1.05);
}

describe("a limited device keeps within 5 % of its limit", () => {
  it.each([
    ["reading a disk", (limits) => disk(limits, block.TYPE_IN, 1024, 16)],
    ["writing a disk", (limits) => disk(limits, block.TYPE_OUT, 1024, 16)],
    ["sending", (limits) => network(limits, "transmit")],
    ["receiving", (limits) => network(limits, "receive")],
    ["random numbers", entropy],
  ] as [string, (limits: RateLimiterConfig) => Limited][])("%s", async (_what, make) => {
    const [byBytes, byOps] = await ratesOf([make(BANDWIDTH), make(OPS)]);
    expectNear(byBytes.bytes, BYTES_PER_S);
    expectNear(byOps.ops, OPS_PER_S);
  });

  it("the serial port's output", async () => {
    const [{ bytes }] = await ratesOf([serialOutput(500, 250)]);
    expectNear(bytes, 2000);
  });

  it("the slower of two limits", async () => {
    const both = { ...BANDWIDTH, ops: { size: 10, refillTimeMs: 200 } };
    const [{ ops }] = await ratesOf([disk(both, block.TYPE_IN, 512, 16)]);
    expectNear(ops, 50);
  });
});

describe("two microVMs with the same limit", () => {
  it("have the same share, however much one asks for at a time", async () => {
    const modest = disk(BANDWIDTH, block.TYPE_IN, 512, 4);
    const greedy = disk(BANDWIDTH, block.TYPE_OUT, 8192, 64);
    const [one, other] = await ratesOf([modest, greedy]);
    expectNear(one.bytes, BYTES_PER_S);
    expectNear(other.bytes, BYTES_PER_S);
    expect(other.bytes / one.bytes).toBeGreaterThan(0.95);
    expect(other.bytes / one.bytes).toBeLessThan(1.05);
  });
});
