/**
 * The life of a rate limiter as streams: configuration changes and the ends of waits come in, what it did
 * goes out. The limiter itself is arithmetic in its device's data path and knows none of this.
 *
 *     configure ──▶ changes ─┬──────────────────────────▶ the device looks at its queue again
 *     limiter refuses ─▶ throttled ─▶ wait ─▶ released ──▶┘
 */
import { map, merge, type Observable, Subject, switchMap, takeUntil, tap, timer } from "rxjs";
import { type RateLimiter, type RateLimiterConfig, TokenBucket } from "../devices/rate-limiter.js";
import type { CheckedConfig } from "./config.js";

/** What happened to a limiter. */
export type RateLimitEvent =
  | { readonly type: "configured"; readonly config: RateLimiterConfig }
  | { readonly type: "throttled"; readonly waitMs: number }
  | { readonly type: "released" };

/** As above, of one of a microVM's devices. */
export type DeviceRateLimitEvent = RateLimitEvent & { readonly device: string };

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

  /** @param resume - has the device look at its queue again */
  constructor(limiter: RateLimiter, resume: () => void) {
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
      switchMap((waitMs) => (waitMs === undefined ? [] : timer(Math.ceil(waitMs)))),
      map((): RateLimitEvent => ({ type: "released" })),
    );
    merge(throttled, released, configured)
      .pipe(takeUntil(this.#closed))
      .subscribe((event) => {
        this.#events.next(event);
        if (event.type === "released") limiter.reopen();
        if (event.type !== "throttled") resume();
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

/** The events of several limiters, by device, in one stream. */
export function limitsOf(limits: ReadonlyMap<string, RateLimit>): Observable<DeviceRateLimitEvent> {
  return merge(
    ...[...limits].map(([device, { events$ }]) =>
      events$.pipe(map((event) => ({ ...event, device }))),
    ),
  );
}

/** The limit of the serial port's output, if there is one. */
export function serialLimit({ serial: { rateLimiter } }: CheckedConfig) {
  if (rateLimiter === undefined || rateLimiter.size === 0 || rateLimiter.refillTimeMs === 0)
    return {};
  return { limit: { bucket: new TokenBucket(rateLimiter, nowUs()), nowUs } };
}
