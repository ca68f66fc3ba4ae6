/**
 * Middleware: functions of a user's in the way of something, each of which passes it on, changes it, or does
 * not.
 *
 *     item ─▶ first(item, next) ─▶ next() ─▶ second(item, next) ─▶ next() ─▶ where it was going
 *
 * Those that are installed when an item comes are asked in the order in which they were installed. One that
 * does not call `next` keeps the item; one that throws or rejects is reported, at most once a second. One that
 * does not wait for `next` hears nothing of what fails behind it, and the item is done when all are. As many items
 * as `heldMax` may be on their way at once.
 */
import { EstaloError, toEstaloError } from "../errors.js";

/** Passes an item on; fulfilled when those behind are done with it. */
export type Next = () => Promise<void>;

type MiddlewareResult = void | Promise<void>;

/** One function in the way of items. */
export type Middleware<Item> = (item: Item, next: Next) => MiddlewareResult;

/** Functions in their order. */
export type MiddlewareFunctions<Item> = readonly { readonly run: Middleware<Item> }[];

/** What has become of the items. */
export interface MiddlewareMetrics {
  /** Items that came, that went on, that a function kept, and those of functions that threw. */
  seen: number;
  passed: number;
  kept: number;
  failed: number;
  /** Items refused because too many were on their way. */
  refused: number;
}

/** Told of failures: `where` is the chain's name. */
export type MiddlewareReporter = (where: string, error: EstaloError) => void;

const REPORT_EVERY_MS = 1000;

/** See the file's header. Thread: the device host's. */
export class MiddlewareChain<Item> {
  readonly metrics: MiddlewareMetrics = { seen: 0, passed: 0, kept: 0, failed: 0, refused: 0 };
  /** Hears when the first is installed, and when the last is gone. */
  onUse: (isUsed: boolean) => void = () => {};

  readonly #where: string;
  readonly #heldMax: number;
  readonly #report: MiddlewareReporter;
  #all: MiddlewareFunctions<Item> = [];
  #held = 0;
  #reportedAtMs = Number.NEGATIVE_INFINITY;

  constructor(where: string, heldMax: number, report: MiddlewareReporter) {
    this.#where = where;
    this.#heldMax = heldMax;
    this.#report = report;
  }

  /** Whether any is installed. */
  get isUsed(): boolean {
    return this.#all.length > 0;
  }

  /** Those that are installed now, for an item that is sent later. */
  get current(): MiddlewareFunctions<Item> {
    return this.#all;
  }

  /** Installs one behind the others; the returned function takes it out again. Items on their way go on. */
  use(run: Middleware<Item>): () => void {
    if (typeof run !== "function") {
      throw new EstaloError("ERR_ESTALO_CONFIG_INVALID", `${this.#where}: expected a function`);
    }
    const entry = { run };
    this.#all = [...this.#all, entry];
    if (this.#all.length === 1) this.onUse(true);
    return () => {
      if (!this.#all.includes(entry)) return;
      this.#all = this.#all.filter((other) => other !== entry);
      if (this.#all.length === 0) this.onUse(false);
    };
  }

  /**
   * Sends an item through, and to `last` at the end. Never rejects: "passed", "kept" by a function, "failed",
   * or "refused" at once. Functions that do not wait are done when this returns.
   */
  async send(
    item: Item,
    last: (item: Item) => MiddlewareResult,
    functions = this.#all,
  ): Promise<"passed" | "kept" | "failed" | "refused"> {
    this.metrics.seen++;
    if (this.#held >= this.#heldMax) {
      this.metrics.refused++;
      return "refused";
    }
    const all = functions;
    let hasPassed = false;
    const behind: Promise<void>[] = [];
    // Whoever waits for it hears of its failure; where nobody does, the process must not.
    const unheard = (rest: Promise<void>) => {
      behind.push(rest.catch(() => {}));
      return rest;
    };
    const pass = async (index: number): Promise<void> => {
      if (index < all.length) {
        let isCalled = false;
        const next = () => {
          const isSecond = isCalled;
          isCalled = true;
          return unheard(isSecond ? this.#refuseSecond() : pass(index + 1));
        };
        await all[index].run(item, next);
        return;
      }
      hasPassed = true;
      await last(item);
    };
    this.#held++;
    try {
      await pass(0);
      for (const rest of behind) await rest;
    } catch (error) {
      this.metrics.failed++;
      this.#failed(toEstaloError(error));
      return "failed";
    } finally {
      this.#held--;
    }
    const fate = hasPassed ? "passed" : "kept";
    this.metrics[fate]++;
    return fate;
  }

  /** Reported here: who calls it again may not wait for either. */
  #refuseSecond(): Promise<never> {
    const twice = new EstaloError("ERR_ESTALO_STATE", `${this.#where}: next() twice`);
    this.#failed(twice);
    return Promise.reject(twice);
  }

  #failed(error: EstaloError): void {
    const now = performance.now();
    if (now - this.#reportedAtMs < REPORT_EVERY_MS) return;
    this.#reportedAtMs = now;
    this.#report(`${this.#where} middleware`, error);
  }
}
