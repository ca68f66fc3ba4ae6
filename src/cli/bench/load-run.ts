/**
 * A load: lives started when they are due, whatever became of those before (an open loop), as many at once as
 * allowed; what is beyond that is refused and counted, and never queued.
 */
import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import type { EstaloClient } from "../../api/client/client.js";
import type { MicrovmSpec } from "../../api/client/types.js";
import { inOrder } from "../fleet/each.js";
import type { Arrival } from "./arrivals.js";
import { GuestWatch } from "./guest-watch.js";
import { Latencies } from "./latencies.js";
import { type LifeEnd, live } from "./life.js";
import type { LoadOptions } from "./load-options.js";

/** Every microVM of a load has this label; its value is the load's name. */
export const LOAD_LABEL = "estalo.bench";

/** How far a load is. */
export interface LoadCounts {
  /** That were due. */
  readonly arrived: number;
  /** From the beginning to the last one that was due, ms. */
  readonly arrivingMs: number;
  readonly refused: number;
  /** Now. */
  readonly live: number;
  readonly liveMax: number;
  readonly completed: number;
  readonly failed: number;
}

/** Failures of one code. */
export interface FailureCount {
  readonly code: string;
  readonly count: number;
  /** Of the first one. */
  readonly message: string;
}

/** What a load is made of. */
export interface LoadPlan {
  /** Unique on the server: the value of the label, and the beginning of every name. */
  readonly name: string;
  readonly spec: MicrovmSpec;
  readonly arrivals: Iterable<Arrival>;
  readonly options: Pick<LoadOptions, "ready" | "timeoutMs" | "isGraceful" | "concurrency">;
  /** The server's newest event, behind which the load's begin. */
  readonly since: number | undefined;
}

const SWEEP_AT_ONCE = 16;
const SWEEP_ROUNDS = 50;
const SWEEP_PAUSE_MS = 100;

/** See the file's header. */
export class LoadRun {
  readonly latencies = new Latencies();
  readonly #client: EstaloClient;
  readonly #plan: LoadPlan;
  readonly #failures = new Map<string, { count: number; readonly message: string }>();
  readonly #lives = new Set<Promise<void>>();
  #arrived = 0;
  #arrivingMs = 0;
  #refused = 0;
  #liveMax = 0;
  #completed = 0;
  #failed = 0;

  constructor(client: EstaloClient, plan: LoadPlan) {
    this.#client = client;
    this.#plan = plan;
  }

  get counts(): LoadCounts {
    return {
      arrived: this.#arrived,
      arrivingMs: Math.round(this.#arrivingMs),
      refused: this.#refused,
      live: this.#lives.size,
      liveMax: this.#liveMax,
      completed: this.#completed,
      failed: this.#failed,
    };
  }

  /** The most frequent first. */
  get failures(): readonly FailureCount[] {
    return [...this.#failures]
      .map(([code, { count, message }]) => ({ code, count, message }))
      .sort((a, b) => b.count - a.count);
  }

  /**
   * Until all that were due have ended, or `signal` aborts; then whatever is left on the server is removed, and
   * what kept that from happening rejects.
   */
  async run(signal: AbortSignal): Promise<void> {
    const watching = new AbortController();
    const watch = new GuestWatch(this.#client);
    const watched = watch.run(this.#plan.since, watching.signal);
    try {
      await this.#arriveAll(watch, signal);
      await Promise.all(this.#lives);
    } finally {
      watching.abort();
      await watched;
    }
    await this.#sweep(signal.aborted);
  }

  async #arriveAll(watch: GuestWatch, signal: AbortSignal): Promise<void> {
    const beginMs = performance.now();
    for (const arrival of this.#plan.arrivals) {
      const dueMs = beginMs + arrival.atMs;
      const waitMs = dueMs - performance.now();
      // Behind the clock, what is under way gets its turn all the same.
      const wait = waitMs > 0 ? sleep(waitMs, undefined, { signal }) : nextTurn();
      await wait.catch(() => {});
      if (signal.aborted) return;
      this.#arrivingMs = performance.now() - beginMs;
      this.#arrive(watch, arrival, dueMs, signal);
    }
  }

  #arrive(watch: GuestWatch, arrival: Arrival, dueMs: number, signal: AbortSignal): void {
    const { name, spec, options } = this.#plan;
    this.#arrived++;
    if (this.#lives.size >= options.concurrency) {
      this.#refused++;
      return;
    }
    const context = { client: this.#client, watch, latencies: this.latencies, options, signal };
    const labels = { ...spec.labels, [LOAD_LABEL]: name };
    const end = live(
      { ...context, spec: { ...spec, labels } },
      `${name}-${this.#arrived}`,
      arrival,
      dueMs,
    );
    const life = end.then((ended) => {
      this.#lives.delete(life);
      this.#count(ended);
    });
    this.#lives.add(life);
    this.#liveMax = Math.max(this.#liveMax, this.#lives.size);
  }

  #count(end: LifeEnd): void {
    if (end.kind === "completed") this.#completed++;
    if (end.kind !== "failed") return;
    this.#failed++;
    const known = this.#failures.get(end.code);
    if (known === undefined) this.#failures.set(end.code, { count: 1, message: end.message });
    else known.count++;
  }

  /** Removes what has our label. After an interruption a request may still be on its way: it looks twice. */
  async #sweep(wasInterrupted: boolean): Promise<void> {
    const { microvms } = this.#client;
    const labels = { [LOAD_LABEL]: this.#plan.name };
    let empty = wasInterrupted ? 0 : 1;
    for (let round = 0; empty < 2 && round < SWEEP_ROUNDS; round++) {
      if (round > 0) await sleep(SWEEP_PAUSE_MS);
      const ids: string[] = [];
      for await (const { id } of microvms.all({ labels })) ids.push(id);
      empty = ids.length === 0 ? empty + 1 : 0;
      const removal = inOrder(ids, SWEEP_AT_ONCE, (id) => microvms.delete(id, { force: true }));
      for await (const [, outcome] of removal) {
        // One that is gone already, or only just comes, is met in the next round.
        if (outcome.status === "rejected" && round === SWEEP_ROUNDS - 1) throw outcome.reason;
      }
    }
  }
}
