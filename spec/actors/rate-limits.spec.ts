import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { RateLimit, type RateLimitEvent } from "../../src/actors/rate-limits.js";
import { RateLimiter } from "../../src/devices/rate-limiter.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A device that wants to send `pending` requests of 10 bytes, 100 bytes allowed in a second. */
function device(pending: number) {
  const nowUs = () => performance.now() * 1000;
  const limiter = new RateLimiter({ bandwidth: { size: 100, refillTimeMs: 1000 } }, nowUs);
  const state = { pending, sent: 0 };
  const process = () => {
    while (state.pending > 0 && limiter.admit(10)) {
      state.pending--;
      state.sent++;
    }
  };
  const limit = new RateLimit(limiter, process);
  const events: RateLimitEvent["type"][] = [];
  const watching = limit.events$.subscribe(({ type }) => events.push(type));
  return { state, process, limit, events, watching };
}

describe("RateLimit", () => {
  it("has the device go on when there are tokens again, for as long as it has something", async () => {
    const { state, process, events } = device(30);
    process();
    expect(state.sent).toBe(10);
    expect(events).toEqual(["throttled"]);
    await vi.advanceTimersByTimeAsync(1010);
    expect(state.sent).toBe(20);
    await vi.advanceTimersByTimeAsync(1010);
    expect(state.sent).toBe(30);
    expect(events.filter((type) => type === "released")).toHaveLength(20);
    expect(events).not.toContain("refilled");
    // The driver has nothing more: nobody is throttled, and nothing waits once the limiter is full.
    await vi.advanceTimersByTimeAsync(2000);
    expect(events.filter((type) => type === "refilled")).toHaveLength(1);
    expect(events.at(-1)).toBe("refilled");
    expect(vi.getTimerCount()).toBe(0);
  });

  it("is refilled when nothing is missing, however often its device takes something meanwhile", async () => {
    const { state, process, limit, events } = device(11);
    process();
    await vi.advanceTimersByTimeAsync(110);
    expect([state.sent, events]).toEqual([11, ["throttled", "released"]]);
    for (let round = 0; round < 20; round++) {
      await vi.advanceTimersByTimeAsync(110);
      expect(limit.limiter.admit(10)).toBe(true);
    }
    expect(events).toEqual(["throttled", "released"]);
    await vi.advanceTimersByTimeAsync(1500);
    expect(events).toEqual(["throttled", "released", "refilled"]);
    expect(state.sent).toBe(11);
  });

  it("tells once what a device drops, and that it may go on", async () => {
    const nowUs = () => performance.now() * 1000;
    const limiter = new RateLimiter({ bandwidth: { size: 10, refillTimeMs: 1000 } }, nowUs);
    const limit = new RateLimit(limiter);
    const events: RateLimitEvent[] = [];
    limit.events$.subscribe((event) => events.push(event));
    expect([limiter.admitUpTo(15), limiter.admitUpTo(5)]).toEqual([10, 0]);
    expect(events).toEqual([{ type: "throttled", waitMs: expect.closeTo(100) }]);
    await vi.advanceTimersByTimeAsync(3000);
    expect(events.map(({ type }) => type)).toEqual(["throttled", "released", "refilled"]);
    limit.close();
  });

  it("goes on also when a timer ends before its time", async () => {
    let nowUs = 0;
    const limiter = new RateLimiter({ ops: { size: 1, refillTimeMs: 10 } }, () => nowUs);
    let sent = 0;
    const limit = new RateLimit(limiter, () => {
      while (limiter.admit(0)) sent++;
    });
    while (limiter.admit(0)) sent++;
    for (let round = 0; round < 40; round++) {
      // The limiter's clock is behind the timers': each of these ends 2 ms early.
      await vi.advanceTimersByTimeAsync(10);
      nowUs += 8000;
    }
    limit.close();
    expect(sent).toBeGreaterThan(15);
  });

  it("waits for longer than a timer can, and does not look all the time meanwhile", async () => {
    const LONGEST_MS = 2 ** 31 - 1;
    const timers = vi.spyOn(globalThis, "setInterval");
    let nowUs = 0;
    const limiter = new RateLimiter({ ops: { size: 2, refillTimeMs: 2 ** 33 } }, () => nowUs);
    let looks = 0;
    const limit = new RateLimit(limiter, () => looks++);
    for (let count = 0; count < 3; count++) limiter.admit(0);
    await vi.advanceTimersByTimeAsync(100);
    expect([looks, timers.mock.calls.length]).toEqual([0, 1]);
    await vi.advanceTimersByTimeAsync(LONGEST_MS);
    // What it has to be full again takes as long.
    await vi.advanceTimersByTimeAsync(100);
    expect([looks, timers.mock.calls.length]).toEqual([1, 2]);
    limiter.admit(0);
    await vi.advanceTimersByTimeAsync(LONGEST_MS - 200);
    expect(looks).toBe(1);
    nowUs = 2 ** 32 * 1000;
    await vi.advanceTimersByTimeAsync(200);
    expect([looks, limiter.admit(0)]).toEqual([2, true]);
    limit.close();
    timers.mockRestore();
  });

  it("costs no timer while nothing is refused", () => {
    const { process } = device(10);
    process();
    expect(vi.getTimerCount()).toBe(0);
  });

  it("goes on at once when its limit is lifted, and does not wait for the old one", () => {
    const { state, process, limit, events } = device(1000);
    process();
    limit.configure({ bandwidth: { size: 0, refillTimeMs: 0 } });
    expect(state.sent).toBe(1000);
    expect(events).toEqual(["throttled", "configured"]);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("waits for nothing more once it is closed, and its events complete", async () => {
    const { state, process, limit, watching } = device(20);
    process();
    limit.close();
    limit.close();
    expect(watching.closed).toBe(true);
    await vi.advanceTimersByTimeAsync(5000);
    expect(state.sent).toBe(10);
    expect(vi.getTimerCount()).toBe(0);
  });
});
