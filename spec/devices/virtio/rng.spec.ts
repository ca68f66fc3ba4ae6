import { describe, expect, it } from "vitest";
import type { EntropySource } from "../../../src/devices/backend.js";
import { RateLimiter } from "../../../src/devices/rate-limiter.js";
import { VirtioRng } from "../../../src/devices/virtio/rng.js";
import { KIB } from "../../../src/units.js";
import { createMemory } from "../../support/fake-memory.js";
import type { RingDriver } from "../../support/ring-driver.js";
import { VirtioMachine } from "../../support/virtio-machine.js";

const DATA = 256 * KIB;

/** Gives 1, 2, 3 … so that what went where can be seen; fails after `limit` bytes. */
class CountingSource implements EntropySource {
  given = 0;
  limit = Number.POSITIVE_INFINITY;

  fill(bytes: Uint8Array, count: number): void {
    if (this.given + count > this.limit) throw new Error("no entropy");
    for (let index = 0; index < count; index++) bytes[index] = 1 + (this.given++ % 255);
  }
}

function started(): { m: VirtioMachine<VirtioRng>; ring: RingDriver; source: CountingSource } {
  const source = new CountingSource();
  const m = new VirtioMachine(createMemory(1024 * KIB), (host) => new VirtioRng(host, source));
  return { m, ring: m.start(), source };
}

describe("VirtioRng", () => {
  it("fills all writable segments and says how much it wrote", () => {
    const { m, ring } = started();
    const head = ring.add(
      { address: DATA + 100, length: 5 },
      { address: DATA, length: 3, writable: true },
      { address: DATA + 10, length: 2, writable: true },
    );
    m.kick();
    expect(ring.takeUsed()).toEqual([{ head, length: 5 }]);
    expect([...m.memory.read(DATA, 12)]).toEqual([1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 4, 5]);
    expect([...m.memory.read(DATA + 100, 5)]).toEqual([0, 0, 0, 0, 0]);
    expect(m.fake.irq.take()).toBe(1);
    expect(m.device.metrics.entropy_bytes).toBe(5);
  });

  it("gives 64 KiB at most for a request, however its segments overlap", () => {
    const { m, ring } = started();
    const segment = { address: DATA, length: 40 * KIB, writable: true };
    ring.add(segment, segment, segment);
    m.kick();
    expect(ring.takeUsed()[0].length).toBe(64 * KIB);
  });

  it("gives a mebibyte in one turn, and others have theirs before the rest", () => {
    const { m, ring, source } = started();
    for (let request = 0; request < 40; request++) {
      ring.add({ address: DATA, length: 64 * KIB, writable: true });
    }
    m.kick();
    expect(source.given).toBe(1024 * KIB);
    expect(ring.takeUsed()).toHaveLength(16);
    m.runDeferred(1);
    expect(ring.takeUsed()).toHaveLength(16);
    m.runDeferred();
    expect(ring.takeUsed()).toHaveLength(8);
  });

  it("gives back unused what has no room for bytes", () => {
    const { m, ring } = started();
    ring.add({ address: DATA, length: 8 });
    m.kick();
    expect(ring.takeUsed()[0].length).toBe(0);
    expect(m.device.metrics.entropy_event_fails).toBe(1);
    expect(m.faults).toEqual([]);
  });

  it("gives what it has when the host's source fails, and counts it", () => {
    const { m, ring, source } = started();
    source.limit = 4 * KIB;
    ring.add({ address: DATA, length: 10 * KIB, writable: true });
    m.kick();
    expect(ring.takeUsed()[0].length).toBe(4 * KIB);
    expect(m.device.metrics.host_rng_fails).toBe(1);
  });

  it("gives other devices their turn after a queue's worth of requests", () => {
    const { m, ring } = started();
    const head = ring.add({ address: DATA, length: 1, writable: true });
    for (let index = 1; index < 256; index++) ring.offer(head);
    m.kick();
    expect(m.deferred).toHaveLength(1);
    m.runDeferred();
    expect(ring.takeUsed()).toHaveLength(256);
    expect(m.deferred).toHaveLength(0);
  });

  it("needs a reset after a broken chain and works again after it", () => {
    const { m, ring } = started();
    ring.offer(256);
    m.kick();
    expect(m.faults).toHaveLength(1);
    m.reset();
    const again = m.start();
    again.startAt(0);
    again.add({ address: DATA, length: 1, writable: true });
    m.kick();
    expect(again.takeUsed()).toHaveLength(1);
  });

  it("gives no more than its limiter admits until it is told to go on", () => {
    const clock = { us: 0 };
    const limiter = new RateLimiter(
      { bandwidth: { size: 100, refillTimeMs: 1000 } },
      () => clock.us,
    );
    const m = new VirtioMachine(
      createMemory(1024 * KIB),
      (host) => new VirtioRng(host, new CountingSource(), limiter),
    );
    const ring = m.start();
    for (let round = 0; round < 3; round++) ring.add({ address: DATA, length: 50, writable: true });
    m.kick();
    expect(ring.takeUsed()).toHaveLength(2);
    expect(m.device.metrics.entropy_rate_limiter_throttled).toBe(1);
    clock.us = 500_000;
    limiter.reopen();
    m.device.resumeThrottled();
    expect(ring.takeUsed()).toHaveLength(1);
    expect(m.device.metrics.entropy_bytes).toBe(150);
  });
});

describe("VirtioRng in a snapshot", () => {
  it("has a version, and nothing to offer again", () => {
    const { m, ring } = started();
    ring.add({ address: DATA, length: 5, writable: true });
    m.kick();
    expect(m.device.save()).toEqual({ version: 1 });
  });
});
