/**
 * The life of a rate limiter as streams: configuration changes and the ends of waits come in, what it did
 * goes out. The limiter itself is arithmetic in its device's data path and knows none of this.
 *
 *     configure ──▶ changes ─┬──────────────────────────▶ the device looks at its queue again
 *     limiter refuses ─▶ throttled ─▶ wait ─▶ released ──▶┘
 *                                                └─▶ wait ─▶ refilled
 */
import {
  EMPTY,
  endWith,
  expand,
  ignoreElements,
  map,
  merge,
  type Observable,
  Subject,
  switchMap,
  takeUntil,
  tap,
  timer,
} from "rxjs";
import type { RateLimiter, RateLimiterConfig } from "../devices/rate-limiter.js";
import { TIMER_MS_MAX } from "../units.js";

/**
 * What happened to a limiter: it has other limits (`config`: those in force), refused something that may pass
 * in `waitMs`, lets its device go on, has all its tokens again after it had to refuse.
 */
export type RateLimitEvent =
  | { readonly type: "configured"; readonly config: RateLimiterConfig }
  | { readonly type: "throttled"; readonly waitMs: number }
  | { readonly type: "released" }
  | { readonly type: "refilled" };

/**
 * As above, of one of a microVM's devices: `drive ID`, `interface ID rx` (to the guest), `interface ID tx`,
 * `pmem ID`, `entropy`, `serial`.
 */
export type DeviceRateLimitEvent = RateLimitEvent & {
  readonly device: string;
  /** Of a microVM in another process: events since the subscription that were lost on their way. */
  readonly dropped?: number;
};

/** A limiter that is being refilled is looked at no more often than this, ms. */
const REFILL_LOOK_MS = 100;

/** The clock of all limiters: microseconds, monotonic. */
export const nowUs = () => performance.now() * 1000;

/** Joins one limiter to time and to its device. Thread: the device host's. */
export class RateLimit {
  readonly limiter: RateLimiter;
  /** What happened, from the subscription on; completes with `close`. */
  readonly events$: Observable<RateLimitEvent>;

  readonly #changes = new Subject<RateLimiterConfig>();
  readonly #throttled = new Subject<number>();
  readonly #events = new Subject<RateLimitEvent>();
  readonly #closed = new Subject<void>();

  /** @param resume - has the device look at its queue again (default: it drops what is refused) */
  constructor(limiter: RateLimiter, resume: () => void = () => {}) {
    this.limiter = limiter;
    this.events$ = this.#events.asObservable();
    limiter.onThrottled = (waitUs) => this.#throttled.next(waitUs / 1000);
    const configured = this.#changes.pipe(
      tap((change) => limiter.configure(change)),
      map((): RateLimitEvent => ({ type: "configured", config: limiter.config })),
    );
    const throttled = this.#throttled.pipe(
      map((waitMs): RateLimitEvent => ({ type: "throttled", waitMs })),
    );
    // A later refusal, or a new configuration, replaces the wait.
    const released = merge(this.#throttled, this.#changes.pipe(map(() => undefined))).pipe(
      switchMap((waitMs) => (waitMs === undefined ? [] : wait(waitMs))),
      map((): RateLimitEvent => ({ type: "released" })),
    );
    // What happens before it is full replaces this wait, too.
    const refilled = this.#events.pipe(
      switchMap(({ type }) => (type === "released" ? untilFull(limiter) : EMPTY)),
    );
    merge(throttled, released, configured, refilled)
      .pipe(takeUntil(this.#closed))
      .subscribe((event) => {
        this.#events.next(event);
        if (event.type === "released") limiter.reopen();
        if (event.type === "released" || event.type === "configured") resume();
      });
  }

  /** Changes limits while the device runs; see {@link RateLimiter.configure}. */
  configure(change: RateLimiterConfig): void {
    this.#changes.next(change);
  }

  /** Ends every wait. Idempotent. */
  close(): void {
    this.#closed.next();
    this.#events.complete();
    this.limiter.onThrottled = undefined;
  }
}

/** After so long, or as long as a timer can: what waits longer is looked at in between. */
function wait(waitMs: number): Observable<0> {
  return timer(Math.min(TIMER_MS_MAX, Math.ceil(waitMs)));
}

/** Tells that the limiter is full, once it is: its device may take tokens meanwhile. */
function untilFull(limiter: RateLimiter): Observable<RateLimitEvent> {
  const look = () => wait(Math.max(REFILL_LOOK_MS, limiter.fullInUs / 1000));
  return look().pipe(
    // A clock in floating point leaves less than a microsecond over.
    expand(() => (limiter.fullInUs < 1 ? EMPTY : look())),
    ignoreElements(),
    endWith({ type: "refilled" } as const),
  );
}

/** The events of several limiters, by device, in one stream. */
export function limitsOf(limits: ReadonlyMap<string, RateLimit>): Observable<DeviceRateLimitEvent> {
  return merge(
    ...[...limits].map(([device, { events$ }]) =>
      events$.pipe(map((event) => ({ ...event, device }))),
    ),
  );
}
