/**
 * /v1/events: every lifecycle event of the fleet as one JSON text a message, resumable without gap or
 * duplicate.
 *
 *     hello {oldest, newest} ─▶ what `since` missed, from the journal ─▶ live events
 *
 * An event is serialised once for all who get it. A reader that is slow is left alone until it has drained,
 * then catches up from the journal; when the journal no longer has what it needs it is closed with 1013.
 * A session remembers only the sequence number it has reached. The journal is read a page in a turn of the event
 * loop, for all readers together: a filter that lets nothing pass makes a reader of the whole journal cheap to ask for.
 */
import type { FleetEvent } from "../../actors/fleet-messages.js";
import { isEstaloError } from "../../errors.js";
import type { SocketPeer, SocketSession } from "../http.js";
import {
  CLOSE_GAP,
  CLOSE_GOING_AWAY,
  CLOSE_INTERNAL,
  CLOSE_POLICY,
  CLOSE_TOO_SLOW,
} from "./close-codes.js";
import type { Journal } from "./fleet.js";
import { eventJson } from "./microvm-json.js";

/** Events read from the journal at once. */
const CATCH_UP_EVENTS = 256;

/** Which events a reader wants; an absent filter lets all pass. */
export interface EventFilter {
  /** Ids of microVMs. */
  readonly microvms?: ReadonlySet<string>;
  readonly types?: ReadonlySet<string>;
}

/** Turns journal events into texts, each once while readers may still want it. */
class EventTexts {
  readonly #texts = new WeakMap<FleetEvent, string>();

  of(event: FleetEvent): string {
    let text = this.#texts.get(event);
    if (text === undefined) {
      text = JSON.stringify(eventJson(event));
      this.#texts.set(event, text);
    }
    return text;
  }
}

/** Tasks that wait, one in each turn of the event loop. */
class Turns {
  readonly #waiting: (() => void)[] = [];

  add(task: () => void): void {
    if (this.#waiting.push(task) === 1) setImmediate(this.#next);
  }

  readonly #next = () => {
    try {
      this.#waiting[0]();
    } finally {
      this.#waiting.shift();
      if (this.#waiting.length > 0) setImmediate(this.#next);
    }
  };
}

/** All readers of one fleet's events. */
export class EventsHub {
  readonly #journal: Journal;
  readonly #texts = new EventTexts();
  readonly #turns = new Turns();
  readonly #sessions = new Set<EventsSession>();
  #unsubscribe: (() => void) | undefined;

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** Readers that are connected. */
  get size(): number {
    return this.#sessions.size;
  }

  /** A new reader; from `since` on, or from now. */
  open(peer: SocketPeer, filter: EventFilter, since?: number): SocketSession {
    const { oldest, newest } = this.#journal;
    peer.send(JSON.stringify({ type: "hello", oldest, newest }));
    const session = new EventsSession({
      peer,
      filter,
      journal: this.#journal,
      texts: this.#texts,
      turns: this.#turns,
      reached: since ?? newest,
      onClose: () => this.#remove(session),
    });
    this.#add(session);
    session.catchUp(CLOSE_GAP, "gap");
    return session;
  }

  #add(session: EventsSession): void {
    this.#sessions.add(session);
    this.#unsubscribe ??= this.#journal.subscribe((event) => {
      for (const reader of this.#sessions) reader.take(event);
    });
  }

  #remove(session: EventsSession): void {
    this.#sessions.delete(session);
    if (this.#sessions.size > 0) return;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }
}

interface SessionParts {
  readonly peer: SocketPeer;
  readonly filter: EventFilter;
  readonly journal: Journal;
  readonly texts: EventTexts;
  readonly turns: Turns;
  /** Everything up to this sequence number was sent, or filtered out. */
  readonly reached: number;
  readonly onClose: () => void;
}

class EventsSession implements SocketSession {
  readonly #parts: SessionParts;
  #reached: number;
  /** Its queue is full: nothing is sent until it drained. */
  #isPaused = false;
  /** It goes on with the journal in a later turn. */
  #isCatchingUp = false;
  #isClosed = false;

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.#reached = parts.reached;
  }

  /** An event that was just written to the journal. */
  take(event: FleetEvent): void {
    if (this.#isClosed || event.sequence <= this.#reached) return;
    if (!this.#isPaused && event.sequence === this.#reached + 1) {
      this.#send(event);
    } else if (this.#isPaused && this.#reached + 1 < this.#parts.journal.oldest) {
      this.close(CLOSE_TOO_SLOW, "events are lost: this reader is too slow");
    } else if (!this.#isPaused) {
      this.catchUp();
    }
  }

  /** Sends what the journal has beyond `#reached`, as far as the peer takes it: a page now, the others later. */
  catchUp(gapCode = CLOSE_TOO_SLOW, gapReason = "events are lost: this reader is too slow"): void {
    if (this.#isCatchingUp) return;
    const events = this.#page();
    if (events === "closed") {
      this.close(CLOSE_GOING_AWAY, "server closes");
      return;
    }
    if (events === "gap") {
      this.close(gapCode, gapReason);
      return;
    }
    for (const event of events) {
      if (this.#isPaused || this.#isClosed) return;
      this.#send(event);
    }
    if (events.length < CATCH_UP_EVENTS) return;
    this.#isCatchingUp = true;
    this.#parts.turns.add(() => {
      this.#isCatchingUp = false;
      if (this.#isPaused || this.#isClosed) return;
      try {
        this.catchUp();
      } catch {
        // Nobody above this turn would catch that: it is this reader's end, not the process's.
        this.close(CLOSE_INTERNAL, "internal error");
      }
    });
  }

  /** "closed": a server that ends closes its fleet before its sockets. */
  #page(): ReturnType<Journal["since"]> | "closed" {
    try {
      return this.#parts.journal.since(this.#reached, CATCH_UP_EVENTS);
    } catch (error) {
      if (isEstaloError(error) && error.code === "ERR_ESTALO_STATE") return "closed";
      throw error;
    }
  }

  onDrain(): void {
    if (this.#isClosed) return;
    this.#isPaused = false;
    this.catchUp();
  }

  onMessage(): void {
    this.close(CLOSE_POLICY, "this socket takes no messages");
  }

  onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#parts.onClose();
  }

  close(code: number, reason: string): void {
    if (this.#isClosed) return;
    this.onClose();
    this.#parts.peer.close(code, reason);
  }

  #send(event: FleetEvent): void {
    const { filter, peer, texts } = this.#parts;
    this.#reached = event.sequence;
    if (filter.types !== undefined && !filter.types.has(event.type)) return;
    if (filter.microvms !== undefined && !filter.microvms.has(event.microvm)) return;
    if (!peer.send(texts.of(event))) this.#isPaused = true;
  }
}
