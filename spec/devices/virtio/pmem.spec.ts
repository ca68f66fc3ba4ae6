import { describe, expect, it } from "vitest";
import type { SyncBackend } from "../../../src/devices/backend.js";
import { RateLimiter } from "../../../src/devices/rate-limiter.js";
import { VirtioPmem } from "../../../src/devices/virtio/pmem.js";
import { GIB, KIB, MIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const DATA = 256 * KIB;
const OPTIONS = { start: 4 * GIB, sizeBytes: 6 * MIB };

/** Syncs that end when the spec says so. */
class PlayedFile implements SyncBackend {
  readonly sizeBytes = 1000;
  readonly waiting: ((isDone: boolean) => void)[] = [];

  sync(done: (isDone: boolean) => void): void {
    expect(this.waiting).toHaveLength(0);
    this.waiting.push(done);
  }

  end(isDone = true): void {
    this.waiting.shift()?.(isDone);
  }
}

function started(limiter?: RateLimiter) {
  const file = new PlayedFile();
  const m = new VirtioMachine(
    createMemory(1024 * KIB),
    (host) => new VirtioPmem(host, { ...OPTIONS, backend: file, ...(limiter && { limiter }) }),
  );
  const ring = m.start();
  /** A request of this type, and where its answer comes. */
  const request = (slot: number, type = 0) => {
    const at = DATA + slot * 64;
    m.memory.writeU32(at, type);
    m.memory.writeU32(at + 32, 0x55);
    ring.add({ address: at, length: 4 }, { address: at + 32, length: 4, writable: true });
    return at + 32;
  };
  return { file, m, ring, request };
}

describe("VirtioPmem", () => {
  it("tells where its memory is", () => {
    const { m } = started();
    const config = new DataView(m.device.config.buffer);
    expect([config.getBigUint64(0, true), config.getBigUint64(8, true)]).toEqual([
      BigInt(OPTIONS.start),
      BigInt(OPTIONS.sizeBytes),
    ]);
  });

  it("answers flushes of one batch after one sync, with one interrupt", () => {
    const { file, m, ring, request } = started();
    const answers = [0, 1, 2].map((slot) => request(slot));
    m.kick();
    expect(file.waiting).toHaveLength(1);
    expect(ring.takeUsed()).toEqual([]);
    file.end();
    expect(ring.takeUsed().map(({ length }) => length)).toEqual([4, 4, 4]);
    expect(answers.map((at) => m.memory.readU32(at))).toEqual([0, 0, 0]);
    expect(m.fake.irq.take()).toBe(1);
  });

  it("gives what comes during a sync the next one", () => {
    const { file, m, ring, request } = started();
    request(0);
    m.kick();
    const late = request(1);
    m.kick();
    file.end();
    expect(ring.takeUsed()).toHaveLength(1);
    expect(m.memory.readU32(late)).toBe(0x55);
    file.end();
    expect(ring.takeUsed()).toHaveLength(1);
    expect(m.memory.readU32(late)).toBe(0);
    expect(file.waiting).toEqual([]);
  });

  it("tells of a sync that failed, and of requests that are none", () => {
    const { file, m, ring, request } = started();
    const failed = request(0);
    const unknown = request(1, 7);
    ring.add({ address: DATA, length: 4 });
    m.kick();
    file.end(false);
    expect(m.memory.readU32(failed)).toBe(0xffff_ffff);
    expect(m.memory.readU32(unknown)).toBe(0xffff_ffff);
    expect(ring.takeUsed().map(({ length }) => length)).toEqual([4, 0, 4]);
    expect(m.device.metrics).toMatchObject({ event_fails: 3 });
  });

  it("takes requests and answers in pieces", () => {
    const { file, m, ring } = started();
    const piece = (address: number, writable = false) => ({ address, length: 1, writable });
    m.memory.fill(DATA, 64, 0x55);
    m.memory.writeU32(DATA, 0);
    ring.add(
      ...[piece(DATA), piece(DATA + 1), { address: DATA + 2, length: 2 }],
      ...[piece(DATA + 32, true), piece(DATA + 40, true)],
      { address: DATA + 48, length: 2, writable: true },
    );
    m.kick();
    file.end();
    expect([...m.memory.read(DATA + 32, 18)].filter((byte) => byte === 0)).toHaveLength(4);
    expect(ring.takeUsed()).toHaveLength(1);
  });

  it("forgets what a reset driver had asked for, and serves the next one", () => {
    const { file, m, ring, request } = started();
    const forgotten = request(0);
    m.kick();
    m.reset();
    const again = m.start();
    file.end();
    expect(ring.takeUsed()).toEqual([]);
    expect(m.memory.readU32(forgotten)).toBe(0x55);
    m.memory.writeU32(DATA, 0);
    again.add({ address: DATA, length: 4 }, { address: DATA + 32, length: 4, writable: true });
    m.kick();
    file.end();
    expect(again.takeUsed()).toHaveLength(1);
  });

  it("is quiet for a pause when its sync has ended", async () => {
    const { file, m, ring, request } = started();
    request(0);
    m.kick();
    const quiet = m.transport.quiesce();
    request(1);
    file.end();
    await quiet;
    expect(ring.takeUsed()).toHaveLength(1);
    expect(file.waiting).toEqual([]);
    m.transport.resume();
    expect(file.waiting).toHaveLength(1);
  });

  it("pays one operation and the file's length for a sync, whatever it answers", () => {
    const clock = { us: 0 };
    const limiter = new RateLimiter(
      { bandwidth: { size: 1000, refillTimeMs: 1000 } },
      () => clock.us,
    );
    const { file, m, ring, request } = started(limiter);
    for (const slot of [0, 1, 2]) request(slot);
    m.kick();
    file.end();
    expect(ring.takeUsed()).toHaveLength(3);
    request(3);
    m.kick();
    expect(file.waiting).toEqual([]);
    expect(m.device.metrics.rate_limiter_throttled_events).toBe(1);
    clock.us = 1_000_000;
    limiter.reopen();
    m.device.resumeThrottled();
    file.end();
    expect(ring.takeUsed()).toHaveLength(1);
  });
});

describe("VirtioPmem in a snapshot", () => {
  it("records what it must offer again", () => {
    expect(started().m.device.save()).toEqual({ version: 1, ...OPTIONS });
  });
});
