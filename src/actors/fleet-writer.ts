/**
 * What the fleet has to store and has not yet: batches of records, last runs and events, and their retry
 * when the disk has no room.
 *
 * `note` is for what happened anyway: it is stored with all else of this turn of the event loop, and tried
 * again every second until it can be. `commit` is for what a caller asks for: it is stored before the call
 * succeeds, or the call fails and nothing happened. Both keep the order in which they were told.
 */
import { type EstaloError, toEstaloError } from "../errors.js";
import type { FleetEvent, FleetRecord } from "./fleet-messages.js";
import type { FleetStore, IdempotencyKey, LastRun, StoredMicrovm } from "./fleet-store.js";

/** How long after a batch could not be stored it is tried again, ms. */
const RETRY_MS = 1000;

/** An event before it has its number. */
export type NewEvent = FleetEvent extends infer E
  ? E extends unknown
    ? Omit<E, "sequence">
    : never
  : never;

/** What changed; all of it is stored together. */
export interface FleetWrite {
  readonly microvm?: StoredMicrovm;
  readonly removed?: FleetRecord;
  readonly lastRun?: { readonly id: string; readonly run: LastRun };
  readonly key?: Omit<IdempotencyKey, "removed">;
  /** A key whose creation was taken back. */
  readonly forgottenKey?: string;
  readonly events?: readonly NewEvent[];
}

/** Numbers events, and hears of them when they are stored: the journal. */
export interface EventSink {
  /** As many as may wait for room on the disk; older ones are dropped. */
  readonly capacity: number;
  /** `dropped`: so many came before them and are gone; they take their numbers with them. */
  number(events: readonly NewEvent[], dropped: number): FleetEvent[];
  /** Events up to this one are to be forgotten with this batch; 0: none. */
  trimThrough(dropped: number): number;
  stored(events: readonly FleetEvent[]): void;
}

/** What is not stored yet. */
interface Waiting {
  readonly microvms: Map<string, StoredMicrovm>;
  readonly removed: Map<string, FleetRecord>;
  readonly lastRuns: Map<string, LastRun>;
  readonly forgottenKeys: string[];
  events: NewEvent[];
  /** Events that found no place to wait. */
  dropped: number;
}

function nothing(): Waiting {
  return {
    microvms: new Map(),
    removed: new Map(),
    lastRuns: new Map(),
    forgottenKeys: [],
    events: [],
    dropped: 0,
  };
}

/** See the file's header. */
export class FleetWriter {
  /** Batches that could not be stored. */
  errors = 0;
  /** Why the last batch is not stored; `undefined` when it is. */
  lastError: EstaloError | undefined;
  readonly #store: FleetStore;
  readonly #journal: EventSink;
  #waiting: Waiting = nothing();
  #turn: NodeJS.Immediate | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(store: FleetStore, journal: EventSink) {
    this.#store = store;
    this.#journal = journal;
  }

  /** The last run of a microVM that is not stored yet. */
  lastRun(id: string): LastRun | undefined {
    return this.#waiting.lastRuns.get(id);
  }

  /** A microVM whose removal is not stored yet. */
  removed(id: string): FleetRecord | undefined {
    return this.#waiting.removed.get(id);
  }

  /** Whether a key is to be forgotten, and that is not stored yet. */
  isForgotten(key: string): boolean {
    return this.#waiting.forgottenKeys.includes(key);
  }

  /** Stores what happened, at the end of this turn or when there is room. */
  note(write: FleetWrite): void {
    if (this.#isClosed) return;
    this.#add(write);
    if (this.#retry === undefined) this.#turn ??= setImmediate(() => this.#attempt());
  }

  /**
   * Stores what is to happen, and all that waits, now and on the disk.
   *
   * @throws ERR_ESTALO_STATE_WRITE, and then `write` is not stored, and never will be
   */
  commit(write: FleetWrite): void {
    const before = this.#waiting;
    this.#waiting = {
      microvms: new Map(before.microvms),
      removed: new Map(before.removed),
      lastRuns: new Map(before.lastRuns),
      forgottenKeys: [...before.forgottenKeys],
      events: [...before.events],
      dropped: before.dropped,
    };
    this.#add(write);
    try {
      this.#flush(write.key, true);
    } catch (error) {
      this.#waiting = before;
      throw error;
    }
  }

  /** Stores all that waits; the last try. What is noted afterwards is nobody's any more. */
  close(): void {
    this.#isClosed = true;
    this.#stopTimers();
    this.#flush(undefined, true);
  }

  #add({ microvm, removed, lastRun, forgottenKey, events }: FleetWrite): void {
    const waiting = this.#waiting;
    if (microvm !== undefined) waiting.microvms.set(microvm.record.id, microvm);
    if (lastRun !== undefined) waiting.lastRuns.set(lastRun.id, lastRun.run);
    if (forgottenKey !== undefined) waiting.forgottenKeys.push(forgottenKey);
    if (removed !== undefined) {
      waiting.removed.set(removed.id, removed);
      waiting.microvms.delete(removed.id);
      waiting.lastRuns.delete(removed.id);
    }
    if (events === undefined) return;
    waiting.events.push(...events);
    const { capacity } = this.#journal;
    if (waiting.events.length > 2 * capacity) {
      waiting.dropped += waiting.events.length - capacity;
      waiting.events = waiting.events.slice(-capacity);
    }
  }

  #attempt(): void {
    this.#stopTimers();
    try {
      this.#flush(undefined, false);
    } catch {
      // Counted; what waits is kept, and microVMs go on.
      this.#retry = setTimeout(() => this.#attempt(), RETRY_MS).unref();
    }
  }

  #flush(key: FleetWrite["key"], isDurable: boolean): void {
    const waiting = this.#waiting;
    const events = this.#journal.number(waiting.events, waiting.dropped);
    try {
      this.#store.commit(
        {
          microvms: [...waiting.microvms.values()],
          removed: [...waiting.removed.values()],
          lastRuns: waiting.lastRuns,
          keys: key === undefined ? [] : [key],
          forgottenKeys: waiting.forgottenKeys,
          events,
          trimThrough: this.#journal.trimThrough(waiting.dropped),
        },
        isDurable,
      );
    } catch (error) {
      this.errors += 1;
      this.lastError = toEstaloError(error);
      throw error;
    }
    this.lastError = undefined;
    this.#waiting = nothing();
    this.#stopTimers();
    this.#journal.stored(events);
  }

  #stopTimers(): void {
    clearImmediate(this.#turn);
    clearTimeout(this.#retry);
    this.#turn = undefined;
    this.#retry = undefined;
  }
}
