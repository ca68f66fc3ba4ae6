/**
 * What the server's events say of lives under way: their guests' boots and ends. One stream for all of them; a
 * life is known by its name before it is asked for, so that no event comes too early.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { EstaloClient } from "../../api/client/client.js";
import type { FleetEvent, FleetEventType, MicrovmExit } from "../../api/client/types.js";

/** A promise and what settles it. */
class Sign<T> {
  readonly promise: Promise<T>;
  give: (value: T) => void = () => {};
  fail: (error: unknown) => void = () => {};

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.give = resolve;
      this.fail = reject;
    });
    // Not every life waits for every sign.
    this.promise.catch(() => {});
  }
}

/** What is awaited of one guest; both reject when the events are lost. */
export interface GuestSigns {
  readonly booted: Promise<void>;
  readonly ended: Promise<MicrovmExit>;
}

interface Signs {
  readonly booted: Sign<void>;
  readonly ended: Sign<MicrovmExit>;
}

const TYPES: readonly FleetEventType[] = ["booted", "exited"];
/** Before the events of a server that lost them are asked for again. */
const AGAIN_MS = 500;

/** See the file's header. */
export class GuestWatch {
  readonly #client: EstaloClient;
  readonly #signs = new Map<string, Signs>();

  constructor(client: EstaloClient) {
    this.#client = client;
  }

  /** From now on until `forget`, events of this name are its. */
  expect(name: string): GuestSigns {
    const signs: Signs = { booted: new Sign(), ended: new Sign() };
    this.#signs.set(name, signs);
    return { booted: signs.booted.promise, ended: signs.ended.promise };
  }

  forget(name: string): void {
    this.#signs.delete(name);
  }

  /**
   * Reads events behind `since` until `signal` aborts. When they are lost, lives under way learn of it, and
   * reading begins anew for those to come.
   */
  async run(since: number | undefined, signal: AbortSignal): Promise<void> {
    let from = since === undefined ? {} : { since };
    while (!signal.aborted) {
      try {
        for await (const event of this.#client.events({ ...from, types: TYPES, signal })) {
          this.#take(event);
        }
      } catch (error) {
        for (const { booted, ended } of this.#signs.values()) {
          booted.fail(error);
          ended.fail(error);
        }
        from = {};
        await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
      }
    }
  }

  #take(event: FleetEvent): void {
    const signs = this.#signs.get(event.name);
    if (event.type === "booted") signs?.booted.give();
    else if (event.type === "exited") signs?.ended.give(event.exit);
  }
}
