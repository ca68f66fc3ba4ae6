/**
 * The fleet's events, numbered and kept: who comes back asks for what came after the last one they saw.
 *
 * Invariants: an event is told only when it is stored, so no number is ever told twice, also after a
 * kill -9 of the server; numbers grow by one. While the disk has no room events wait, in order; should more
 * than `capacity` wait, the oldest are dropped with their numbers, and `since` answers "gap" for them.
 */
import type { Observable } from "rxjs";
import type { FleetEvent } from "./fleet-messages.js";
import type { FleetStore } from "./fleet-store.js";
import type { EventSink, NewEvent } from "./fleet-writer.js";
import { observe } from "./inspection.js";

/** Events that are kept at most. */
export const EVENTS_MAX = 100_000;
/** How long an event is kept, ms: seven days. */
export const EVENT_LIFE_MS = 7 * 24 * 3_600_000;
/** Old events are looked for once in so many new ones, or in an hour. */
const TRIM_EVERY = 1000;
const TRIM_EVERY_MS = 3_600_000;

/** What a journal keeps; others than the defaults only for specs. */
export interface JournalLimits {
  readonly eventsMax: number;
  readonly lifeMs: number;
}

/** Hears of events, in order, each once. */
export type FleetListener = (event: FleetEvent) => void;

/** See the file's header. Thread: main. */
export class EventJournal implements EventSink {
  readonly capacity: number;
  /** Events stored by this process. */
  count = 0;
  /** Listeners that threw; they are told of the next event all the same. */
  listenerErrors = 0;
  readonly #store: FleetStore;
  readonly #lifeMs: number;
  readonly #listeners = new Set<{ readonly after: number; readonly listener: FleetListener }>();
  #untold: FleetEvent[] = [];
  #oldest: number;
  #newest: number;
  #trimAt: number;
  #trimAtMs = 0;

  constructor(store: FleetStore, limits: Partial<JournalLimits> = {}) {
    this.#store = store;
    this.capacity = limits.eventsMax ?? EVENTS_MAX;
    this.#lifeMs = limits.lifeMs ?? EVENT_LIFE_MS;
    ({ oldest: this.#oldest, newest: this.#newest } = store.eventRange());
    this.#trimAt = this.#newest;
  }

  /** The first event that is kept; `newest + 1` when none is. */
  get oldest(): number {
    return this.#oldest;
  }

  /** The last event; 0 before the first. */
  get newest(): number {
    return this.#newest;
  }

  /**
   * What came after this event, oldest first; `"gap"` when some of that is not kept any more, or the number
   * was never given. With `subscribe` in the same turn nothing is missed and nothing comes twice.
   *
   * @param limit - events at most; ask again after the last of them for more
   */
  since(sequence: number, limit = EVENTS_MAX): FleetEvent[] | "gap" {
    if (!Number.isSafeInteger(sequence)) return "gap";
    if (sequence < this.#oldest - 1 || sequence > this.#newest) return "gap";
    return sequence === this.#newest ? [] : this.#store.eventsAfter(sequence, limit);
  }

  /** Calls `listener` with every event after `newest`, until the returned function is called. */
  subscribe(listener: FleetListener): () => void {
    const entry = { after: this.#newest, listener };
    this.#listeners.add(entry);
    return () => {
      this.#listeners.delete(entry);
    };
  }

  /** The events from now on, as an observable; it never completes. */
  get stream(): Observable<FleetEvent> {
    return observe<FleetEvent>((listener) => this.subscribe(listener));
  }

  number(events: readonly NewEvent[], dropped: number): FleetEvent[] {
    const first = this.#newest + dropped + 1;
    return events.map((event, index) => ({ sequence: first + index, ...event }) as FleetEvent);
  }

  trimThrough(dropped: number): number {
    if (dropped > 0) return this.#newest + dropped;
    const nowMs = Date.now();
    if (this.#newest < this.#trimAt && nowMs < this.#trimAtMs) return 0;
    this.#trimAt = this.#newest + Math.min(TRIM_EVERY, this.capacity);
    this.#trimAtMs = nowMs + TRIM_EVERY_MS;
    const tooMany = this.#newest - this.capacity;
    const tooOld = this.#store.lastEventBefore(nowMs - this.#lifeMs);
    // The last one stays, whatever its age: numbers go on from it.
    const through = Math.min(Math.max(tooMany, tooOld), this.#newest - 1);
    return through < this.#oldest ? 0 : through;
  }

  stored(events: readonly FleetEvent[]): void {
    this.#newest = events.at(-1)?.sequence ?? this.#newest;
    this.#oldest = this.#store.eventRange().oldest;
    this.count += events.length;
    if (events.length === 0) return;
    // One by one: so many may have waited for room that they are too many for one call.
    for (const event of events) this.#untold.push(event);
    // Not from within the call that made it happen: a listener may call the fleet.
    if (this.#untold.length === events.length) queueMicrotask(() => this.#tell());
  }

  #tell(): void {
    const events = this.#untold;
    this.#untold = [];
    for (const event of events) {
      for (const { after, listener } of this.#listeners) {
        if (event.sequence <= after) continue;
        try {
          listener(event);
        } catch {
          this.listenerErrors += 1;
        }
      }
    }
  }
}
