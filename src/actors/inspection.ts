/**
 * Streams of what happens in a microVM: the only user of RxJS.
 *
 * Lifecycle events are few and must not be lost: each log keeps the last EVENTS_KEPT for who subscribes
 * late, and iterators buffer what their reader has not taken yet.
 */
import { Observable, ReplaySubject } from "rxjs";

/** Events that a late subscriber still sees. */
const EVENTS_KEPT = 256;

/** A log of events that can be watched as an observable or as an async iterable. */
export class EventLog<Event> {
  readonly #subject = new ReplaySubject<Event>(EVENTS_KEPT);

  emit(event: Event): void {
    this.#subject.next(event);
  }

  /** No more events: observables complete, iterators end. */
  complete(): void {
    this.#subject.complete();
  }

  get stream(): Observable<Event> {
    return this.#subject.asObservable();
  }

  /** The events as an async iterable; ends with the log, or when `signal` aborts. */
  iterate(signal?: AbortSignal): AsyncIterableIterator<Event> {
    return iterate(this.#subject, signal);
  }
}

/** What `subscribe` tells, as an observable that never completes; `subscribe` gives what ends it. */
export function observe<T>(subscribe: (listener: (value: T) => void) => () => void): Observable<T> {
  return new Observable((subscriber) => subscribe((value) => subscriber.next(value)));
}

/** An observable as an async iterator that buffers what was not taken yet. */
export function iterate<T>(source: Observable<T>, signal?: AbortSignal): AsyncIterableIterator<T> {
  const buffered: T[] = [];
  let ended = false;
  let failure: unknown;
  let waiting: (() => void)[] = [];
  const news = () => {
    const woken = waiting;
    waiting = [];
    for (const wake of woken) wake();
  };
  const end = (error?: unknown) => {
    ended = true;
    failure = error;
    subscription.unsubscribe();
    signal?.removeEventListener("abort", onAbort);
    news();
  };
  const onAbort = () => end();
  const subscription = source.subscribe({
    next: (value) => {
      buffered.push(value);
      news();
    },
    error: (error) => queueMicrotask(() => end(error)),
    complete: () => queueMicrotask(() => end()),
  });
  if (signal?.aborted) queueMicrotask(onAbort);
  else signal?.addEventListener("abort", onAbort, { once: true });
  return {
    async next(): Promise<IteratorResult<T>> {
      for (;;) {
        if (buffered.length > 0) return { done: false, value: buffered.shift() as T };
        if (failure !== undefined) throw failure;
        if (ended) return { done: true, value: undefined };
        await new Promise<void>((resolve) => {
          waiting.push(resolve);
        });
      }
    },
    async return(): Promise<IteratorResult<T>> {
      buffered.length = 0;
      end();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
