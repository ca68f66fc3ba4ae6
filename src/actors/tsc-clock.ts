/**
 * The host's TSC as time: ticks of trace records become nanoseconds on CLOCK_MONOTONIC.
 *
 * The rate is measured between two samples of both clocks; the longer ago the first one, the better: after
 * 10 ms it is right to about 20 in a million. Times are counted from the newest sample, so that CLOCK_MONOTONIC
 * being slewed does not add up.
 */
import { native } from "../native/binding.js";

const HIGH_WORD = 2 ** 32;

/** Fills TSC and nanoseconds, low word and high word of each. */
export type SampleClocks = (words: Uint32Array) => void;

/** See the file's header. */
export class TscClock {
  readonly #sampleClocks: SampleClocks;
  readonly #first = new Uint32Array(4);
  readonly #now = new Uint32Array(4);
  #nsPerTick = 0;
  #nowNs = 0;

  constructor(sampleClocks: SampleClocks = (words) => native().sampleClocks(words)) {
    this.#sampleClocks = sampleClocks;
    sampleClocks(this.#first);
  }

  /** Looks at both clocks; the times below are counted from here. Returns now, in nanoseconds. */
  sample(): number {
    const [first, now] = [this.#first, this.#now];
    this.#sampleClocks(now);
    this.#nowNs = now[3] * HIGH_WORD + now[2];
    const ticks = (now[1] - first[1]) * HIGH_WORD + (now[0] - first[0]);
    const ns = (now[3] - first[3]) * HIGH_WORD + (now[2] - first[2]);
    if (ticks > 0) this.#nsPerTick = ns / ticks;
    return this.#nowNs;
  }

  /** The TSC of the last sample. */
  get tscLow(): number {
    return this.#now[0];
  }

  get tscHigh(): number {
    return this.#now[1];
  }

  /** Nanoseconds on CLOCK_MONOTONIC of a TSC, not before 0. */
  atNs(low: number, high: number): number {
    const ticks = (high - this.#now[1]) * HIGH_WORD + (low - this.#now[0]);
    return Math.max(0, Math.round(this.#nowNs + ticks * this.#nsPerTick));
  }

  /** Nanoseconds that so many ticks take. */
  durationNs(low: number, high: number): number {
    return (high * HIGH_WORD + low) * this.#nsPerTick;
  }
}
