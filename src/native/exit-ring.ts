/**
 * The exit ring: what a vCPU's device fronts tell the backs, in order, without waiting.
 *
 * One ring per vCPU; the vCPU thread is its only producer, the device host its only consumer.
 *
 *     word  0        head      next entry to take      written by the consumer
 *     word 16        tail      next entry to fill      written by the producer
 *     word 17        asleep    1: the consumer may be waiting for its eventfd   (exchanged by both)
 *     word 32 …      entries   two words each: device << 16 | event, value
 *
 * head and tail count entries for ever and wrap at 2^32; they lie on cache lines of their own. A full ring
 * makes the producer wait: a front posts a bounded number of entries for each register access and devices
 * post only changes, so that happens only while the consumer's thread is stalled.
 */

const HEAD = 0;
const TAIL = 16;
const ASLEEP = 17;
const ENTRIES = 32;
const ENTRY_WORDS = 2;

/** Entries in one ring, a power of two. */
export const EXIT_RING_ENTRIES = 512;
const MASK = EXIT_RING_ENTRIES - 1;

export const EXIT_RING_BYTES = (ENTRIES + EXIT_RING_ENTRIES * ENTRY_WORDS) * 4;

/** How long a producer sleeps on a full ring before it looks whether anybody drains it, ms. */
const FULL_WAIT_MS = 10;

/** The vCPU thread's end. */
export class ExitRingProducer {
  readonly #words: Int32Array;
  readonly #wake: () => void;
  readonly #deserted: () => boolean;

  /**
   * @param words - the ring's words in the microVM's shared block
   * @param wake - signals the consumer's eventfd
   * @param deserted - whether nobody drains it any more: then a full ring drops instead of waiting
   */
  constructor(words: Int32Array, wake: () => void, deserted: () => boolean) {
    this.#words = words;
    this.#wake = wake;
    this.#deserted = deserted;
  }

  post(device: number, event: number, value: number): void {
    const words = this.#words;
    const tail = words[TAIL];
    while (((tail - Atomics.load(words, HEAD)) | 0) >= EXIT_RING_ENTRIES) {
      if (this.#deserted()) return;
      this.#wake();
      Atomics.wait(words, HEAD, Atomics.load(words, HEAD), FULL_WAIT_MS);
    }
    const at = ENTRIES + (tail & MASK) * ENTRY_WORDS;
    words[at] = (device << 16) | event;
    words[at + 1] = value | 0;
    Atomics.store(words, TAIL, (tail + 1) | 0);
    if (Atomics.exchange(words, ASLEEP, 0) === 1) this.#wake();
  }
}

/** The device host's end. */
export class ExitRingConsumer {
  readonly #words: Int32Array;

  constructor(words: Int32Array) {
    this.#words = words;
    // Nobody drains yet: the first post has to wake the consumer.
    Atomics.store(words, ASLEEP, 1);
  }

  /**
   * Takes every entry there is, at most as many as the ring has, then declares itself asleep, so that the next
   * post signals. When `take` throws, its entry is gone and the others stay for the next call.
   *
   * @param take - called once for each entry, in the order of the posts
   * @returns how many entries were taken; EXIT_RING_ENTRIES: there may be more, which nobody tells of
   */
  drain(take: (device: number, event: number, value: number) => void): number {
    try {
      return this.#takeAll(take);
    } catch (error) {
      Atomics.store(this.#words, ASLEEP, 1);
      throw error;
    }
  }

  #takeAll(take: (device: number, event: number, value: number) => void): number {
    const words = this.#words;
    Atomics.store(words, ASLEEP, 0);
    let taken = 0;
    for (;;) {
      const head = words[HEAD];
      const isOver = taken === EXIT_RING_ENTRIES;
      if (isOver || head === Atomics.load(words, TAIL)) {
        if (taken > 0) Atomics.notify(words, HEAD);
        Atomics.store(words, ASLEEP, 1);
        // A post between the look and the store saw "awake" and did not signal: look once more.
        if (isOver || head === Atomics.load(words, TAIL)) return taken;
        Atomics.store(words, ASLEEP, 0);
        continue;
      }
      const at = ENTRIES + (head & MASK) * ENTRY_WORDS;
      const source = words[at];
      const value = words[at + 1];
      Atomics.store(words, HEAD, (head + 1) | 0);
      taken += 1;
      take(source >>> 16, source & 0xffff, value >>> 0);
    }
  }
}
