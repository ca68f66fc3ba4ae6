/** Streams over vCPUs that are played; polls happen when the spec says, or by the timer where it is the point. */
import { describe, expect, it, vi } from "vitest";
import type { ExitBatch } from "../../src/actors/exit-batch.js";
import type { ExitCounts } from "../../src/actors/exit-counts.js";
import * as k from "../../src/native/layouts.js";
import { PlayedVcpus } from "../support/played-exits.js";

const numbers = (batches: readonly ExitBatch[]) =>
  batches.flatMap((batch) => [...batch.sequence].map((n) => n));

/** A watcher that keeps what it is given. */
function watch(vcpus: PlayedVcpus, options: Parameters<PlayedVcpus["stream"]["batches"]>[0] = {}) {
  const batches: ExitBatch[] = [];
  const seen = { batches, isComplete: false, unsubscribe: () => {} };
  const subscription = vcpus.stream.batches(options).subscribe({
    next: (batch) => batches.push(batch),
    complete: () => {
      seen.isComplete = true;
    },
  });
  seen.unsubscribe = () => subscription.unsubscribe();
  return seen;
}

describe("a watcher", () => {
  it("gets the exits from its subscription on, each once, until the microVM ends", () => {
    const vcpus = new PlayedVcpus();
    vcpus.exits(0, 3);
    const seen = watch(vcpus);
    vcpus.exits(0, 2);
    vcpus.stream.poll();
    vcpus.stream.poll();
    vcpus.exits(0, 1);
    vcpus.stream.close();
    vcpus.stream.close();
    expect(numbers(seen.batches)).toEqual([3, 4, 5]);
    expect(seen.isComplete).toBe(true);
    expect(vcpus.watch()).toBe(0);
  });

  it("that comes after the end sees the end", () => {
    const vcpus = new PlayedVcpus();
    vcpus.stream.close();
    expect(watch(vcpus)).toMatchObject({ batches: [], isComplete: true });
  });

  it("begins in the past when it asks for history, without doubles", () => {
    const vcpus = new PlayedVcpus();
    vcpus.exits(0, 10, { atNs: 0 });
    const first = watch(vcpus, { history: 4 });
    vcpus.exits(0, 5);
    const second = watch(vcpus, { history: 2 });
    vcpus.exits(0, 1);
    vcpus.stream.close();
    expect(numbers(first.batches)).toEqual([6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    expect(numbers(second.batches)).toEqual([13, 14, 15]);
  });

  it("gets what its filter lets through, and one in so many of it", () => {
    const vcpus = new PlayedVcpus(2);
    const second = watch(vcpus, { vcpus: [1] });
    const third = watch(vcpus, { sampleEvery: 3, vcpus: [0] });
    vcpus.exits(0, 7);
    vcpus.exits(1, 2);
    vcpus.stream.close();
    expect(second.batches.flatMap((batch) => [...batch.vcpu])).toEqual([1, 1]);
    expect(numbers(third.batches)).toEqual([0, 3, 6]);
  });

  it("gets RIP when it asks, and others not", () => {
    const vcpus = new PlayedVcpus();
    const [plain, asking] = [watch(vcpus), watch(vcpus, { rip: true })];
    expect(vcpus.watch()).toBe(k.WATCH_TIME | k.WATCH_RIP);
    vcpus.exit(0, { rip: 77n });
    vcpus.stream.poll();
    expect(asking.batches[0].get(0).rip).toBe(77n);
    expect(plain.batches[0].rip).toBeUndefined();
    asking.unsubscribe();
    expect(vcpus.watch()).toBe(k.WATCH_TIME);
    plain.unsubscribe();
    expect(vcpus.watch()).toBe(0);
  });

  it("is refused RIP where KVM cannot tell it", () => {
    const { stream } = new PlayedVcpus(1, false);
    expect(() => stream.batches({ rip: true })).toThrow(
      expect.objectContaining({ code: "ERR_ESTALO_KVM_CAPABILITY" }),
    );
  });

  it("learns what was lost since it began", () => {
    const vcpus = new PlayedVcpus();
    const first = watch(vcpus);
    vcpus.exits(0, k.TRACE_RECORDS + 4);
    vcpus.stream.poll();
    const second = watch(vcpus);
    vcpus.exits(0, 1);
    vcpus.stream.poll();
    expect(first.batches.at(-1)?.lost).toBe(5);
    expect(second.batches.at(-1)?.lost).toBe(0);
  });

  it("that is not ready gets nothing, and then how much that was", () => {
    const vcpus = new PlayedVcpus();
    let isReady = true;
    const slow = watch(vcpus, { isReady: () => isReady });
    const other = watch(vcpus);
    for (const ready of [true, false, false, true]) {
      isReady = ready;
      vcpus.exits(0, 10);
      vcpus.stream.poll();
    }
    expect(slow.batches.map(({ length, dropped }) => [length, dropped])).toEqual([
      [10, 0],
      [10, 20],
    ]);
    expect(other.batches.map(({ length }) => length)).toEqual([10, 10, 10, 10]);
  });

  it("gets batches of at most 1024 exits", () => {
    const vcpus = new PlayedVcpus(3);
    const seen = watch(vcpus);
    for (const vcpu of [0, 1, 2]) vcpus.exits(vcpu, 1000);
    vcpus.stream.close();
    expect(seen.batches.map(({ length }) => length)).toEqual([1024, 1024, 952]);
    expect(seen.batches.map((batch) => batch.buffer.byteLength)).toEqual([45056, 45056, 41888]);
  });

  it("may subscribe and unsubscribe in the middle of a batch", () => {
    const vcpus = new PlayedVcpus();
    const late: ExitBatch[] = [];
    const subscription = vcpus.stream.batches().subscribe(() => {
      subscription.unsubscribe();
      vcpus.stream.batches({ history: 1023 }).subscribe((batch) => late.push(batch));
    });
    const steady = watch(vcpus);
    vcpus.exits(0, 3);
    vcpus.stream.poll();
    vcpus.exits(0, 2);
    vcpus.stream.poll();
    expect(numbers(steady.batches)).toEqual([0, 1, 2, 3, 4]);
    expect(numbers(late)).toEqual([0, 1, 2, 3, 4]);
  });
});

describe("the timer", () => {
  it("polls by itself while somebody watches, and not otherwise", async () => {
    const vcpus = new PlayedVcpus();
    const poll = vi.spyOn(vcpus.stream, "poll");
    const seen = watch(vcpus);
    vcpus.exits(0, 2);
    await vi.waitFor(() => expect(numbers(seen.batches)).toEqual([0, 1]), { timeout: 20_000 });
    seen.unsubscribe();
    const polls = poll.mock.calls.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(poll.mock.calls.length).toBe(polls);
  });
});

describe("iterate", () => {
  it("keeps 64 batches for a reader who is elsewhere, then drops and says so", async () => {
    const vcpus = new PlayedVcpus();
    const iterator = vcpus.stream.iterate();
    const addBatch = () => {
      vcpus.exit(0);
      vcpus.stream.poll();
    };
    for (let i = 0; i < 70; i++) addBatch();
    expect((await iterator.next()).value.dropped).toBe(0);
    addBatch();
    vcpus.stream.close();
    const rest: ExitBatch[] = [];
    for await (const batch of iterator) rest.push(batch);
    expect(rest).toHaveLength(64);
    expect(rest.at(-1)).toMatchObject({ dropped: 6 });
    expect(numbers(rest).at(-1)).toBe(70);
  });

  it("ends when its signal aborts, and lets go", async () => {
    const vcpus = new PlayedVcpus();
    const abort = new AbortController();
    const iterator = vcpus.stream.iterate({}, abort.signal);
    const next = iterator.next();
    abort.abort();
    expect((await next).done).toBe(true);
    expect(vcpus.watch()).toBe(0);
  });
});

describe("counts", () => {
  it("come for each window, and for what is left when the microVM ends", async () => {
    const vcpus = new PlayedVcpus();
    const windows: ExitCounts[] = [];
    let isComplete = false;
    vcpus.stream.counts({ by: ["device"], windowMs: 20 }).subscribe({
      next: (counts) => windows.push(counts),
      complete: () => {
        isComplete = true;
      },
    });
    vcpus.exits(0, 5);
    await vi.waitFor(() => expect(windows.length).toBeGreaterThan(2), { timeout: 20_000 });
    vcpus.nowNs += 1000;
    vcpus.exits(0, 2);
    vcpus.stream.close();
    expect(isComplete).toBe(true);
    const groups = windows.flatMap((window) => window.groups);
    expect(groups.reduce((sum, { exits }) => sum + exits, 0)).toBe(7);
    expect(groups.at(-1)).toMatchObject({ device: "serial", exits: 2 });
    expect(windows.at(-1)?.toNs).toBe(vcpus.nowNs);
    for (const [i, window] of windows.slice(1).entries()) {
      expect(window.fromNs).toBe(windows[i].toNs);
    }
  });
});
