/**
 * A user's port or MMIO device under test: accesses as a vCPU makes them, no KVM and no guest. What a microVM
 * reports as events is in `failures`.
 */
import type { UserBusDevice } from "../actors/config-devices.js";
import { Bus } from "../devices/bus.js";
import { ANSWER_WORD, RESULT_WORD } from "../devices/mailbox.state.js";
import { type BusDeviceMetrics, MailboxBack } from "../devices/mailbox-back.js";
import { type EstaloError, toEstaloError } from "../errors.js";
import { FakeFront } from "./fake-front.js";

/** Thrown where a vCPU's thread would sleep. */
const ASLEEP = Symbol("asleep");
/** Any GSI: nobody hears it. */
const GSI = 5;

/** See the file's header. */
export class BusTester {
  /** What the device's functions threw or rejected with. */
  readonly failures: EstaloError[] = [];

  readonly #fake = new FakeFront("mailbox");
  readonly #bus: Bus;
  readonly #back: MailboxBack;
  readonly #base: number;
  /** One access at a time, as under the device's lock. */
  #last: Promise<unknown> = Promise.resolve();

  /** Attaches the device (`onAttach`). */
  constructor(device: UserBusDevice) {
    const { front, state, irq } = this.#fake;
    const { base, sizeBytes } = device;
    this.#base = base;
    this.#bus = new Bus([{ start: base, sizeBytes, front, state }]);
    this.#back = new MailboxBack(state, device, {
      irq: device.irq ? irq : undefined,
      gsi: device.irq ? GSI : undefined,
      onFailed: (error) => this.#failed(error),
      schedule: (delayMs, task) => {
        const timer = setTimeout(task, delayMs);
        return () => clearTimeout(timer);
      },
    });
    this.#fake.onWait = (word, value) => {
      this.#deliver();
      if (state[word] === value) throw ASLEEP;
    };
    this.#back.attached();
  }

  get metrics(): BusDeviceMetrics {
    return this.#back.metrics;
  }

  /** Pulses of the interrupt line since the last call. */
  takeInterrupts(): number {
    return this.#fake.irq.take();
  }

  /** What the guest reads at this offset: 1, 2 or 4 bytes. */
  read(offset: number, sizeBytes: number): Promise<number> {
    return this.#access(sizeBytes, () => this.#bus.read(this.#base + offset, sizeBytes));
  }

  /** Writes 1, 2 or 4 bytes; fulfilled when the guest would go on. */
  async write(offset: number, sizeBytes: number, value: number): Promise<void> {
    await this.#access(sizeBytes, () => {
      this.#bus.write(this.#base + offset, sizeBytes, value);
      this.#deliver();
      return 0;
    });
  }

  /** Ends the microVM (`onClose`); who waits goes on. */
  close(): void {
    this.#back.close();
  }

  #access(sizeBytes: number, action: () => number): Promise<number> {
    const done = this.#last.then(() => this.#perform(sizeBytes, action));
    this.#last = done;
    return done;
  }

  async #perform(sizeBytes: number, action: () => number): Promise<number> {
    const { state } = this.#fake;
    const before = state[ANSWER_WORD];
    try {
      return action();
    } catch (error) {
      if (error !== ASLEEP) throw error;
    }
    while (state[ANSWER_WORD] === before) await new Promise((resolve) => setImmediate(resolve));
    return (state[RESULT_WORD] >>> 0) % 2 ** (8 * sizeBytes);
  }

  #deliver(): void {
    for (const { event, value } of this.#fake.takePosts()) {
      try {
        this.#back.handleEvent(event, value);
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  #failed(error: unknown): void {
    this.failures.push(toEstaloError(error));
    this.#back.reset();
  }
}
