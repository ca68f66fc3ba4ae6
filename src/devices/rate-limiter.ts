/**
 * Token buckets that limit what a device may do: bytes and operations in a time.
 *
 * Pure arithmetic on a clock, in the data path; no timer. A device asks before each request and leaves what
 * was refused in its queue; `onThrottled` says when it is worth asking again, and who waits for that is not
 * decided here (actors/rate-limits.ts). Semantics as Firecracker's limiter (src/vmm/src/rate_limiter), but
 * for the time of waiting: until there are tokens for the refused request, not a fixed 100 ms, by which a
 * bucket that is refilled faster than that would stay below its rate.
 */

/** A bucket: `size` tokens come back every `refillTimeMs`, evenly. */
export interface TokenBucketConfig {
  /** Tokens it holds, bytes or operations; 0: no limit. */
  readonly size: number;
  /** Milliseconds in which an empty bucket is full again; 0: no limit. */
  readonly refillTimeMs: number;
  /** Tokens on top at the start, which never come back. Default 0. */
  readonly oneTimeBurst?: number;
}

/** Limits of one device or direction. Absent: no limit. */
export interface RateLimiterConfig {
  /** Bytes. */
  readonly bandwidth?: TokenBucketConfig;
  /** Requests or frames. */
  readonly ops?: TokenBucketConfig;
}

/** See {@link TokenBucketConfig}. Times are microseconds of a monotonic clock. */
export class TokenBucket {
  readonly config: TokenBucketConfig;
  readonly #tokensPerUs: number;
  #burst: number;
  /** Below 0 after a request that was larger than the bucket: a debt that refilling pays first. */
  #tokens: number;
  #filledAtUs: number;

  constructor(config: TokenBucketConfig, nowUs: number) {
    this.config = config;
    this.#tokensPerUs = config.size / (config.refillTimeMs * 1000);
    this.#burst = config.oneTimeBurst ?? 0;
    this.#tokens = config.size;
    this.#filledAtUs = nowUs;
  }

  /**
   * Takes `count` tokens, of the burst first; false: there are not enough, and none was taken. More than the
   * bucket can ever hold is granted when the bucket is full, and paid off afterwards.
   */
  take(count: number, nowUs: number): boolean {
    this.#refill(nowUs);
    const wanted = count - Math.min(count, this.#burst);
    if (wanted > 0 && this.#tokens < Math.min(wanted, this.config.size)) return false;
    this.#burst -= count - wanted;
    this.#tokens -= wanted;
    return true;
  }

  /** Takes as many tokens as there are, at most `count`; returns how many whole ones. */
  takeUpTo(count: number, nowUs: number): number {
    this.#refill(nowUs);
    const granted = Math.min(count, Math.floor(this.#burst + Math.max(0, this.#tokens)));
    const ofBurst = Math.min(granted, this.#burst);
    this.#burst -= ofBurst;
    this.#tokens -= granted - ofBurst;
    return granted;
  }

  /**
   * Puts back tokens that `take` gave and that were not used. While there is burst they came from it: of those that
   * ended it, what the bucket has no room for is lost, as in Firecracker.
   */
  give(count: number): void {
    const { size, oneTimeBurst = 0 } = this.config;
    if (this.#burst > 0) this.#burst = Math.min(oneTimeBurst, this.#burst + count);
    else this.#tokens = Math.min(size, this.#tokens + count);
  }

  /** Microseconds from `nowUs` until `take(count)` succeeds, if nobody else takes meanwhile. */
  waitUs(count: number, nowUs: number): number {
    this.#refill(nowUs);
    const wanted = Math.min(Math.max(0, count - this.#burst), this.config.size);
    return Math.max(0, (wanted - this.#tokens) / this.#tokensPerUs);
  }

  /** Microseconds from `nowUs` until it is full, if nobody takes meanwhile; the burst does not count. */
  fullInUs(nowUs: number): number {
    this.#refill(nowUs);
    return (this.config.size - this.#tokens) / this.#tokensPerUs;
  }

  #refill(nowUs: number): void {
    const fresh = (nowUs - this.#filledAtUs) * this.#tokensPerUs;
    this.#tokens = Math.min(this.config.size, this.#tokens + fresh);
    this.#filledAtUs = nowUs;
  }
}

function bucketOf(config: TokenBucketConfig | undefined, nowUs: number): TokenBucket | undefined {
  if (config === undefined || config.size === 0 || config.refillTimeMs === 0) return undefined;
  return new TokenBucket(config, nowUs);
}

/** Both buckets of a device or direction. Without any it admits everything. */
export class RateLimiter {
  /** Something was refused; something like it will pass after so many microseconds. Set by the actor. */
  onThrottled: ((waitUs: number) => void) | undefined;
  /** How often requests had to wait. */
  throttledCount = 0;

  readonly #nowUs: () => number;
  #bandwidth: TokenBucket | undefined;
  #ops: TokenBucket | undefined;
  /** Closed since something was refused: what comes later must not overtake it. */
  #isClosed = false;

  /** @param nowUs - microseconds of a monotonic clock */
  constructor(config: RateLimiterConfig, nowUs: () => number) {
    this.#nowUs = nowUs;
    this.configure(config);
  }

  /** The limits in force. */
  get config(): RateLimiterConfig {
    return {
      ...(this.#bandwidth === undefined ? {} : { bandwidth: this.#bandwidth.config }),
      ...(this.#ops === undefined ? {} : { ops: this.#ops.config }),
    };
  }

  /**
   * Changes limits: an absent bucket stays as it is, one of size or time 0 goes, any other is new and full.
   */
  configure(change: RateLimiterConfig): void {
    const nowUs = this.#nowUs();
    if (change.bandwidth !== undefined) this.#bandwidth = bucketOf(change.bandwidth, nowUs);
    if (change.ops !== undefined) this.#ops = bucketOf(change.ops, nowUs);
    this.#isClosed = false;
  }

  /** Whether one operation of `bytes` bytes may be done now; it is paid for when it may. */
  admit(bytes: number): boolean {
    if (this.#bandwidth === undefined && this.#ops === undefined) return true;
    if (this.#isClosed) return false;
    const nowUs = this.#nowUs();
    if (this.#ops !== undefined && !this.#ops.take(1, nowUs)) {
      this.#close(this.#ops.waitUs(1, nowUs));
      return false;
    }
    if (this.#bandwidth !== undefined && !this.#bandwidth.take(bytes, nowUs)) {
      this.#ops?.give(1);
      this.#close(this.#bandwidth.waitUs(bytes, nowUs));
      return false;
    }
    return true;
  }

  /**
   * For a device that drops what is too much: how many of `bytes` bytes may pass now. They are paid for.
   * `onThrottled` hears of the first that may not, and of no other before `reopen`.
   */
  admitUpTo(bytes: number): number {
    if (this.#bandwidth === undefined) return bytes;
    const nowUs = this.#nowUs();
    const granted = this.#bandwidth.takeUpTo(bytes, nowUs);
    if (granted < bytes && !this.#isClosed) this.#close(this.#bandwidth.waitUs(1, nowUs));
    return granted;
  }

  /** Microseconds until no bucket misses a token, if nothing is admitted meanwhile; 0: none does. */
  get fullInUs(): number {
    const nowUs = this.#nowUs();
    const waits = [this.#bandwidth, this.#ops].map((bucket) => bucket?.fullInUs(nowUs) ?? 0);
    return Math.max(...waits);
  }

  /** Gives back what `admit` took for an operation that was not done. */
  refund(bytes: number): void {
    this.#ops?.give(1);
    this.#bandwidth?.give(bytes);
  }

  /**
   * The wait that `onThrottled` told of is over. Whether it was long enough shows at the next request, which
   * closes the limiter again if it was not: a timer may end a little early.
   */
  reopen(): void {
    this.#isClosed = false;
  }

  #close(waitUs: number): void {
    this.#isClosed = true;
    this.throttledCount++;
    this.onThrottled?.(waitUs);
  }
}
