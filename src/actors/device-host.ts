/**
 * The device host: the thread on which device backs live, and how they are woken.
 *
 * Every doorbell, interrupt-free notification and I/O completion is an eventfd; one native poller brings all
 * of them to this thread's event loop in batches. A watch costs an array slot; an idle microVM costs nothing.
 * The poller exists, and keeps the process alive, only while somebody watches.
 */
import { toEstaloError } from "../errors.js";
import { type NativePoller, native } from "../native/binding.js";

/** Tokens the poller delivers at once. */
const BATCH = 64;

/** One watched eventfd. */
export interface Watch {
  close(): void;
}

/** Wakes handlers when their eventfds are signalled; one for each thread that hosts devices. */
export class DeviceHost {
  readonly #ready = new Uint32Array(BATCH);
  readonly #handlers: ((() => void) | undefined)[] = [];
  readonly #free: number[] = [];
  #poller: NativePoller | undefined;
  #watched = 0;

  /**
   * Calls `handler` on this thread after each signal of the eventfd; signals in between are one call.
   * What the handler throws goes to `onError`, and the other handlers of the batch still run.
   */
  watch(fd: number, handler: () => void, onError: (error: unknown) => void): Watch {
    this.#poller ??= new (native().Poller)(this.#ready, (count) => this.#deliver(count));
    const token = this.#free.pop() ?? this.#handlers.length;
    try {
      this.#poller.add(fd, token);
    } catch (error) {
      this.#handlers[token] = undefined;
      this.#free.push(token);
      this.#closeIdle();
      throw error;
    }
    this.#watched += 1;
    this.#handlers[token] = () => {
      try {
        handler();
      } catch (error) {
        onError(toEstaloError(error));
      }
    };
    let open = true;
    return {
      close: () => {
        if (!open) return;
        open = false;
        this.#handlers[token] = undefined;
        this.#free.push(token);
        this.#poller?.remove(fd);
        this.#watched -= 1;
        this.#closeIdle();
      },
    };
  }

  #closeIdle(): void {
    if (this.#watched > 0) return;
    this.#poller?.close();
    this.#poller = undefined;
  }

  #deliver(count: number): void {
    const tokens = Array.from(this.#ready.subarray(0, count));
    const handlers = tokens.map((token) => this.#handlers[token]);
    for (const [index, token] of tokens.entries()) {
      // A handler may close watches later in this batch, and open others under their tokens.
      if (handlers[index] === this.#handlers[token]) handlers[index]?.();
    }
  }
}

/** The main thread's device host. */
export const deviceHost = new DeviceHost();
