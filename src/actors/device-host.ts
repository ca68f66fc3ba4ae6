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
  /** Tokens given back while a batch is delivered: what is left of it must not reach their next owners. */
  readonly #freed: number[] = [];
  #isDelivering = false;
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
        (this.#isDelivering ? this.#freed : this.#free).push(token);
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
    this.#isDelivering = true;
    try {
      // A handler may close watches that are later in this batch.
      for (let index = 0; index < count; index++) this.#handlers[this.#ready[index]]?.();
    } finally {
      this.#isDelivering = false;
      if (this.#freed.length > 0) this.#free.push(...this.#freed.splice(0));
    }
  }
}

/** The main thread's device host. */
export const deviceHost = new DeviceHost();
