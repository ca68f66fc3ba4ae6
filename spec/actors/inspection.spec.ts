import { Subject } from "rxjs";
import { describe, expect, it } from "vitest";
import { EventLog, iterate } from "../../src/actors/inspection.js";

async function all<T>(iterable: AsyncIterable<T>): Promise<T[]> {
  const values: T[] = [];
  for await (const value of iterable) values.push(value);
  return values;
}

describe("EventLog", () => {
  it("shows a late subscriber what has happened, then what happens, then the end", () => {
    const log = new EventLog<number>();
    log.emit(1);
    const seen: (number | string)[] = [];
    log.stream.subscribe({ next: (n) => seen.push(n), complete: () => seen.push("end") });
    log.emit(2);
    log.complete();
    log.emit(3);
    expect(seen).toEqual([1, 2, "end"]);
  });

  it("keeps the last 256 events for who comes late", async () => {
    const log = new EventLog<number>();
    for (let i = 0; i < 300; i++) log.emit(i);
    log.complete();
    const kept = await all(log.iterate());
    expect(kept).toHaveLength(256);
    expect([kept[0], kept[255]]).toEqual([44, 299]);
  });

  it("gives every iterator all events, each at its own pace", async () => {
    const log = new EventLog<number>();
    const [slow, fast] = [log.iterate(), log.iterate()];
    log.emit(1);
    expect(await fast.next()).toEqual({ done: false, value: 1 });
    log.emit(2);
    log.complete();
    expect(await all(slow)).toEqual([1, 2]);
    expect(await all(fast)).toEqual([2]);
  });
});

describe("iterate", () => {
  it("keeps what comes while nobody asks, however much", async () => {
    const source = new Subject<number>();
    const iterator = iterate(source);
    for (let i = 0; i < 1000; i++) source.next(i);
    source.complete();
    expect(await all(iterator)).toHaveLength(1000);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it("answers a question when its value comes", async () => {
    const source = new Subject<string>();
    const iterator = iterate(source);
    const asked = iterator.next();
    source.next("value");
    expect(await asked).toEqual({ done: false, value: "value" });
  });

  it("answers questions that wait at the same time in their order, and all of them at the end", async () => {
    const source = new Subject<number>();
    const iterator = iterate(source);
    const asked = [iterator.next(), iterator.next(), iterator.next(), iterator.next()];
    source.next(1);
    source.next(2);
    source.complete();
    const answers = await Promise.all(asked);
    expect(answers.map(({ value }) => value)).toEqual([1, 2, undefined, undefined]);
    expect(answers.map(({ done }) => done)).toEqual([false, false, true, true]);
  });

  it("gives what came before a failure, then the failure", async () => {
    const source = new Subject<number>();
    const iterator = iterate(source);
    source.next(1);
    source.error(new Error("broken"));
    expect(await iterator.next()).toEqual({ done: false, value: 1 });
    await expect(iterator.next()).rejects.toThrow("broken");
  });

  it("ends at an abort, after what came before it", async () => {
    const source = new Subject<number>();
    const abort = new AbortController();
    const iterator = iterate(source, abort.signal);
    source.next(1);
    abort.abort();
    source.next(2);
    expect(await all(iterator)).toEqual([1]);
    expect(source.observed).toBe(false);
  });

  it("ends who waits at an abort", async () => {
    const abort = new AbortController();
    const asked = iterate(new Subject<number>(), abort.signal).next();
    abort.abort();
    expect(await asked).toEqual({ done: true, value: undefined });
  });

  it("ends at once with a signal that was aborted before", async () => {
    const source = new Subject<number>();
    expect(await all(iterate(source, AbortSignal.abort()))).toEqual([]);
    expect(source.observed).toBe(false);
  });

  it("stops listening when a loop is left", async () => {
    const source = new Subject<number>();
    const iterator = iterate(source);
    source.next(1);
    source.next(2);
    for await (const value of iterator) {
      expect(value).toBe(1);
      break;
    }
    expect(source.observed).toBe(false);
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it("ends with a source that ends while it is subscribed to", async () => {
    const log = new EventLog<number>();
    log.emit(1);
    log.complete();
    expect(await all(log.iterate())).toEqual([1]);
  });
});
