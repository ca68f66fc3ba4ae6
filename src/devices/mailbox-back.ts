/**
 * Back of a user's port or MMIO device: hands each access to the definition's functions, in order, and
 * answers those that a vCPU waits for, at once or when a promise is settled.
 *
 * A promise has a bound; what comes later is ignored. What a function throws, or its promise rejects with,
 * answers the access with all ones and is for whoever runs the device. After `abandon` no vCPU waits any more.
 */
import type { Gsi } from "../units.js";
import type { IrqLine } from "./device.js";
import { MAILBOX_ACCESS, MAILBOX_WRITE } from "./events.js";
import * as words from "./mailbox.state.js";

/** A user's port or MMIO device as its functions see it, one for each microVM it is attached to. */
export interface BusDevice {
  readonly id: string;
  /** Its interrupt; `undefined` for a device without one. */
  readonly gsi: Gsi | undefined;
  /** A copy of the register image, what reads find where they do not wait. */
  readonly registers: Uint8Array;
  /** Changes the register image, from `offset` on. */
  setRegisters(bytes: Uint8Array, offset?: number): void;
  /** Pulses the interrupt (edge); nothing for a device without one. */
  raiseIrq(): void;
}

/** What a port or MMIO device is and does. */
export interface BusDeviceDefinition {
  /** In events, errors and metrics: 1 to 64 letters, digits, hyphens and underscores. */
  readonly id: string;
  /** First port, or guest-physical address between the virtio windows and 0xeec00000. */
  readonly base: number;
  /** 1 to 4096. */
  readonly sizeBytes: number;
  /** Whether it has an interrupt. Default false. */
  readonly irq?: boolean;
  /**
   * Whether the guest's vCPU waits for `read` and `write`: at two wake-ups of threads for each access, where
   * others take a microsecond or less. "reads": only for reads. Default false: reads find the register image.
   */
  readonly sync?: boolean | "reads";
  /** The register image at first. Default: zeros. */
  readonly registers?: Uint8Array;
  /** How long a vCPU waits for a promise, in milliseconds; then it reads all ones. Default 1000. */
  readonly answerTimeoutMs?: number;
  /** Answers a read of 1, 2 or 4 bytes; only, and always, with `sync`. */
  read?(offset: number, sizeBytes: number, device: BusDevice): number | Promise<number>;
  /**
   * Takes a write of 1, 2 or 4 bytes. Default: nothing is done. A promise is waited for with `sync: true` only; a
   * guest may have any number of others under way.
   */
  write?(offset: number, sizeBytes: number, value: number, device: BusDevice): void | Promise<void>;
  /** One of its functions failed: the device starts over. */
  onReset?(device: BusDevice): void;
  /** The microVM is made; called once, before any access. */
  onAttach?(device: BusDevice): void;
  /** The microVM has ended. */
  onClose?(device: BusDevice): void;
}

/** What surrounds the back. */
export interface MailboxWiring {
  readonly irq: IrqLine | undefined;
  readonly gsi: Gsi | undefined;
  /** A promise has rejected. */
  onFailed(error: unknown): void;
  /** Runs `task` later; the returned function prevents that. */
  schedule(delayMs: number, task: () => void): () => void;
}

/** What a user's port or MMIO device has done; reads and writes wrap at 2^32. */
export interface BusDeviceMetrics {
  readonly reads: number;
  readonly writes: number;
  /** Answers that came too late, or never. */
  readonly timeouts: number;
  /** Times that the device's functions threw or rejected. */
  readonly failures: number;
}

const ANSWER_TIMEOUT_MS = 1000;

/** See the file's header. */
export class MailboxBack {
  /** What the definition's functions are given. */
  readonly handle: BusDevice;

  readonly #state: Int32Array;
  readonly #definition: BusDeviceDefinition;
  readonly #wiring: MailboxWiring;
  /** Number of the access that is being answered, or was last. */
  #serving = 0;
  #cancelTimeout: () => void = () => {};
  #timeouts = 0;
  #failures = 0;
  #isClosed = false;

  /**
   * @param state - `MAILBOX_WORDS` words, zeroed
   * @param definition - checked by actors/config-devices.ts
   */
  constructor(state: Int32Array, definition: BusDeviceDefinition, wiring: MailboxWiring) {
    this.#state = state;
    this.#definition = definition;
    this.#wiring = wiring;
    const { sync = false } = definition;
    state[words.MODE_WORD] =
      (sync === false ? 0 : words.MODE_READS_WAIT) | (sync === true ? words.MODE_WRITES_WAIT : 0);
    this.handle = this.#createHandle();
    this.handle.setRegisters(definition.registers ?? new Uint8Array(0));
  }

  get metrics(): BusDeviceMetrics {
    return {
      reads: this.#state[words.READ_COUNT_WORD] >>> 0,
      writes: this.#state[words.WRITE_COUNT_WORD] >>> 0,
      timeouts: this.#timeouts,
      failures: this.#failures,
    };
  }

  /** Takes an event that a front posted. Raises what the definition's functions throw. */
  handleEvent(event: number, value: number): void {
    if (event === MAILBOX_ACCESS) this.#serve();
    else {
      const { offset, sizeBytes } = words.decodeAccess(event - MAILBOX_WRITE);
      const done = this.#guarded(() => this.#write(offset, sizeBytes, value));
      if (done instanceof Promise) done.catch((error) => this.#rejected(error));
    }
  }

  /** The microVM was made: tells the definition. */
  attached(): void {
    this.#guarded(() => this.#definition.onAttach?.(this.handle));
  }

  /** Its code failed: tells the definition to start over. */
  reset(): void {
    if (!this.#isClosed) this.#guarded(() => this.#definition.onReset?.(this.handle));
  }

  /** From now on nobody answers: a vCPU that waits goes on, with all ones. */
  abandon(): void {
    Atomics.store(this.#state, words.GONE_WORD, 1);
    this.#cancelTimeout();
    const waiting = Atomics.load(this.#state, words.REQUEST_WORD);
    if (waiting !== Atomics.load(this.#state, words.ANSWER_WORD)) {
      this.#answer(waiting, words.ALL_ONES);
    }
  }

  /** The microVM has ended. Idempotent. `isTold`: the definition hears of it. */
  close(isTold = true): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.abandon();
    if (isTold) this.#definition.onClose?.(this.handle);
  }

  /** Answers the access that waits, unless that is being done. */
  #serve(): void {
    const state = this.#state;
    const request = Atomics.load(state, words.REQUEST_WORD);
    if (request === this.#serving || request === Atomics.load(state, words.ANSWER_WORD)) return;
    this.#serving = request;
    const { offset, sizeBytes, isWrite } = words.decodeAccess(state[words.ACCESS_WORD]);
    const value = state[words.VALUE_WORD] >>> 0;
    try {
      const result = this.#guarded(() =>
        isWrite ? this.#write(offset, sizeBytes, value) : this.#read(offset, sizeBytes),
      );
      if (result instanceof Promise) this.#answerLater(request, result);
      else this.#guarded(() => this.#answer(request, result ?? 0));
    } catch (error) {
      this.#answer(request, words.ALL_ONES);
      throw error;
    }
  }

  #read(offset: number, sizeBytes: number): number | Promise<number> {
    return this.#definition.read?.(offset, sizeBytes, this.handle) ?? words.ALL_ONES;
  }

  #write(offset: number, sizeBytes: number, value: number): void | Promise<void> {
    return this.#definition.write?.(offset, sizeBytes, value, this.handle);
  }

  // biome-ignore lint/suspicious/noConfusingVoidType: what a user's function gives
  #answerLater(request: number, result: Promise<number | void>): void {
    const timeoutMs = this.#definition.answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
    this.#cancelTimeout = this.#wiring.schedule(timeoutMs, () => {
      this.#timeouts++;
      this.#answer(request, words.ALL_ONES);
    });
    // What is no number fails here, too.
    result
      .then((value) => this.#answer(request, value ?? 0))
      .catch((error) => {
        this.#answer(request, words.ALL_ONES);
        this.#rejected(error);
      });
  }

  /** Answers an access, once: the first answer counts. */
  #answer(request: number, value: number): void {
    const state = this.#state;
    if (Atomics.load(state, words.REQUEST_WORD) !== request) return;
    if (Atomics.load(state, words.ANSWER_WORD) === request) return;
    this.#cancelTimeout();
    state[words.RESULT_WORD] = value;
    Atomics.store(state, words.ANSWER_WORD, request);
    Atomics.notify(state, words.ANSWER_WORD);
  }

  #rejected(error: unknown): void {
    this.#failures++;
    if (!this.#isClosed) this.#wiring.onFailed(error);
  }

  #guarded<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      this.#failures++;
      throw error;
    }
  }

  #createHandle(): BusDevice {
    const image = words.imageBytes(this.#state).subarray(0, this.#definition.sizeBytes);
    return {
      id: this.#definition.id,
      gsi: this.#wiring.gsi,
      get registers() {
        return image.slice();
      },
      setRegisters: (bytes, offset = 0) => image.set(bytes, offset),
      raiseIrq: () => {
        if (!this.#isClosed) this.#wiring.irq?.raise();
      },
    };
  }
}
