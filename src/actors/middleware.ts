/**
 * Middleware: functions of a user's in the way of something, each of which passes it on, changes it, or does
 * not.
 *
 *     item ─▶ first(item, next) ─▶ next() ─▶ second(item, next) ─▶ next() ─▶ where it was going
 *
 * Those that are installed when an item comes are asked in the order in which they were installed. One that
 * does not call `next` keeps the item; one that throws or rejects is reported, at most once a second. One that
 * does not wait for `next` hears nothing of what fails behind it: the item is done when all are, and fails if a
 * function behind did. As many items as `heldMax` may be on their way at once.
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

/** What `next` gives: where nobody waits for it, a failure is no unhandled rejection, and is found here. */
class Passing extends Promise<void> {
  /** Somebody waits: what fails is theirs. */
  isHeard = false;
  /** Fulfilled when it is settled. */
  readonly failed: Promise<{ readonly error: unknown } | undefined>;

  constructor(executor: ConstructorParameters<typeof Promise<void>>[0]) {
    super(executor);
    this.failed = super.then(
      () => undefined,
      (error) => ({ error }),
    );
  }

  static override get [Symbol.species]() {
    return Promise;
  }

  // `await` comes by here as well: this is no promise of the language's own class.
  // biome-ignore lint/suspicious/noThenProperty: it is a promise
  override then<A = void, B = never>(
    // biome-ignore lint/suspicious/noConfusingVoidType: as in the class above it
    done?: ((value: void) => A | PromiseLike<A>) | null,
    failed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.isHeard = true;
    return super.then(done, failed);
  }
}

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
    const behind: Passing[] = [];
    // What fails there has its own way to tell.
    const ofLast: unknown[] = [];
    const pass = async (index: number): Promise<void> => {
      if (index < all.length) {
        let isCalled = false;
        const next = () => {
          if (isCalled) return this.#refuseSecond();
          isCalled = true;
          const passing = new Passing((resolve) => resolve(pass(index + 1)));
          behind.push(passing);
          return passing;
        };
        await all[index].run(item, next);
        return;
      }
      hasPassed = true;
      try {
        await last(item);
      } catch (error) {
        ofLast.push(error);
        throw error;
      }
    };
    this.#held++;
    try {
      await pass(0);
      await allDone(behind, ofLast);
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
    const refusal = Promise.reject(twice);
    refusal.catch(() => {});
    return refusal;
  }

  #failed(error: EstaloError): void {
    const now = performance.now();
    if (now - this.#reportedAtMs < REPORT_EVERY_MS) return;
    this.#reportedAtMs = now;
    this.#report(`${this.#where} middleware`, error);
  }
}

/** Waits for all, those that come meanwhile as well; raises what a function failed with that nobody waits for. */
async function allDone(behind: readonly Passing[], ofLast: readonly unknown[]): Promise<void> {
  let unheard: { readonly error: unknown } | undefined;
  for (const passing of behind) {
    const failed = await passing.failed;
    if (failed !== undefined && !passing.isHeard && !ofLast.includes(failed.error)) {
      unheard ??= failed;
    }
  }
  if (unheard !== undefined) throw unheard.error;
}
