import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { TimingsRecorder } from "../../src/actors/timings.js";

describe("TimingsRecorder", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["performance"] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const pass = (ms: number) => vi.advanceTimersByTime(ms);

  it("gives each step the time since the mark before it", () => {
    pass(100);
    const recorder = new TimingsRecorder();
    pass(5);
    recorder.end("machineMs");
    pass(7);
    recorder.end("kernelMs");
    pass(2);
    recorder.end("vcpusMs");
    expect(recorder.timings).toEqual({ processMs: 100, machineMs: 5, kernelMs: 7, vcpusMs: 2 });
  });

  it("leaves out what nobody spent between two steps", () => {
    const recorder = new TimingsRecorder();
    pass(3);
    recorder.end("vcpusMs");
    pass(60_000);
    recorder.begin();
    pass(4);
    recorder.end("threadsMs");
    recorder.entered();
    pass(50);
    recorder.booted();
    expect(recorder.timings).toMatchObject({ threadsMs: 4, oursMs: 7, guestBootMs: 50 });
  });

  it("counts the first entry and the first boot only", () => {
    const recorder = new TimingsRecorder();
    recorder.entered();
    pass(10);
    recorder.booted();
    pass(10);
    recorder.entered();
    recorder.booted();
    expect(recorder.timings.guestBootMs).toBe(10);
  });

  it("says nothing of what a microVM did not reach", () => {
    const recorder = new TimingsRecorder();
    recorder.booted();
    expect(Object.keys(recorder.timings)).toEqual(["processMs"]);
  });
});
