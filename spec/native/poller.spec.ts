import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type NativeEventFd, type NativePoller, native } from "../../src/native/binding.js";

const BATCH = 64;

/** A poller that notes every batch, and eventfds that are closed after the test. */
class Bench {
  readonly ready = new Uint32Array(BATCH);
  readonly batches: number[][] = [];
  onBatch: (tokens: number[]) => void = () => {};
  readonly poller: NativePoller;
  readonly #events: NativeEventFd[] = [];

  constructor() {
    this.poller = new (native().Poller)(this.ready, (count) => {
      const tokens = [...this.ready.subarray(0, count)];
      this.batches.push(tokens);
      this.onBatch(tokens);
    });
  }

  /** An eventfd under a token. */
  add(token: number): NativeEventFd {
    const event = new (native().EventFd)();
    this.#events.push(event);
    this.poller.add(event.fd, token);
    return event;
  }

  close(): void {
    this.poller.close();
    for (const event of this.#events) event.close();
  }
}

/** Some turns of the event loop: what was signalled has been delivered. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve, 1));
}

describe("Poller", () => {
  let bench: Bench;
  beforeEach(() => {
    bench = new Bench();
  });
  afterEach(() => bench.close());

  it("delivers the token of an eventfd that was signalled, once, although nobody reads it", async () => {
    const event = bench.add(42);
    event.signal();
    await turns();
    expect(bench.batches).toEqual([[42]]);
    event.signal();
    await turns();
    expect(bench.batches).toEqual([[42], [42]]);
  });

  it("delivers what was signalled before it was added", async () => {
    const event = new (native().EventFd)();
    event.signal();
    bench.poller.add(event.fd, 7);
    await turns();
    expect(bench.batches).toEqual([[7]]);
    event.close();
  });

  it("makes one delivery of signals that come in between", async () => {
    const event = bench.add(1);
    for (let i = 0; i < 100; i++) event.signal();
    await turns();
    expect(bench.batches).toEqual([[1]]);
  });

  it("delivers all of 200 at once, at most 64 in a batch", async () => {
    const tokens = Array.from({ length: 200 }, (_, token) => token);
    for (const event of tokens.map((token) => bench.add(token))) event.signal();
    await turns();
    expect(bench.batches.every((batch) => batch.length <= BATCH)).toBe(true);
    expect(bench.batches.flat().sort((a, b) => a - b)).toEqual(tokens);
  });

  it("misses nothing that is signalled while a batch is handled", async () => {
    const [first, second] = [bench.add(1), bench.add(2)];
    bench.onBatch = (tokens) => {
      if (tokens.includes(1) && bench.batches.length < 4) {
        first.signal();
        second.signal();
      }
    };
    first.signal();
    await turns();
    expect(bench.batches.flat().filter((token) => token === 1)).toHaveLength(4);
    expect(bench.batches.flat()).toContain(2);
  });

  it("delivers nothing of an eventfd that was removed, also from within a handler", async () => {
    const [first, second] = [bench.add(1), bench.add(2)];
    bench.onBatch = () => bench.poller.remove(second.fd);
    first.signal();
    await turns();
    bench.onBatch = () => {};
    second.signal();
    await turns();
    expect(bench.batches).toEqual([[1]]);
  });

  it("can be closed from within its own handler, and twice", async () => {
    const event = bench.add(1);
    bench.onBatch = () => bench.poller.close();
    event.signal();
    await turns();
    event.signal();
    await turns();
    expect(bench.batches).toEqual([[1]]);
    bench.poller.close();
  });

  it.each<[string, (thrown: Error) => void]>([
    [
      "its callback throws",
      (thrown) => {
        throw thrown;
      },
    ],
    [
      "Node runs after it throws",
      (thrown) =>
        process.nextTick(() => {
          throw thrown;
        }),
    ],
  ])(
    "has what %s be an uncaught exception, and not that of the next call into the addon",
    async (_what, fail) => {
      const others = process.listeners("uncaughtException");
      const caught: unknown[] = [];
      process
        .removeAllListeners("uncaughtException")
        .on("uncaughtException", (e) => caught.push(e));
      try {
        const event = bench.add(1);
        const thrown = new Error("of a user's own");
        bench.onBatch = () => fail(thrown);
        event.signal();
        await turns();
        bench.onBatch = () => {};
        event.signal();
        await turns();
        expect(caught).toEqual([thrown]);
        expect(bench.batches).toEqual([[1], [1]]);
      } finally {
        process.removeAllListeners("uncaughtException");
        for (const other of others) process.on("uncaughtException", other);
      }
    },
  );

  it("refuses a descriptor it has, one it has not, and one that is not open", () => {
    const event = bench.add(1);
    expect(() => bench.poller.add(event.fd, 2)).toThrow(
      expect.objectContaining({ code: "EEXIST" }),
    );
    bench.poller.remove(event.fd);
    expect(() => bench.poller.remove(event.fd)).toThrow(
      expect.objectContaining({ code: "ENOENT" }),
    );
    expect(() => bench.poller.add(-1, 3)).toThrow(expect.objectContaining({ code: "EBADF" }));
  });

  it("refuses a list of tokens that is shorter than its batch", () => {
    expect(() => new (native().Poller)(new Uint32Array(BATCH - 1), () => {})).toThrow(TypeError);
  });
});
