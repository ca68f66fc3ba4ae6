/**
 * Where the milliseconds of a start went, on `performance.now()`'s clock (0: the process started).
 */

/** Each step ends where the next begins; absent when the microVM did not get there. */
export interface Timings {
  /** From the process's start to the call that creates the microVM: Node and our modules. */
  readonly processMs: number;
  /** Memory, VM, interrupt chips, devices and their backends. */
  readonly machineMs?: number;
  /** Reading the kernel and initrd, and writing the boot tables. */
  readonly kernelMs?: number;
  /** Creating the vCPUs and their state. */
  readonly vcpusMs?: number;
  /** Waiting for the vCPU threads. */
  readonly threadsMs?: number;
  /** From the create call to the first entry into the guest, without pauses between create and start. */
  readonly oursMs?: number;
  /** From the first entry to the guest's init (the report page's "booted"). */
  readonly guestBootMs?: number;
}

type Step = "machineMs" | "kernelMs" | "vcpusMs" | "threadsMs";

/** Takes the marks as they pass. */
export class TimingsRecorder {
  readonly #createdAtMs = performance.now();
  readonly #steps: Partial<Record<Step, number>> = {};
  #lastMs = this.#createdAtMs;
  #enteredAtMs: number | undefined;
  #bootedAtMs: number | undefined;

  /** What is measured next begins now: the time since the last mark was nobody's. */
  begin(): void {
    this.#lastMs = performance.now();
  }

  /** The step that ends now. */
  end(step: Step): void {
    const now = performance.now();
    this.#steps[step] = now - this.#lastMs;
    this.#lastMs = now;
  }

  entered(): void {
    this.#enteredAtMs ??= performance.now();
  }

  booted(): void {
    this.#bootedAtMs ??= performance.now();
  }

  get timings(): Timings {
    const steps = this.#steps;
    const ours = Object.values(steps).reduce((sum, ms) => sum + ms, 0);
    return {
      processMs: this.#createdAtMs,
      ...steps,
      ...(this.#enteredAtMs === undefined ? {} : { oursMs: ours }),
      ...(this.#enteredAtMs === undefined || this.#bootedAtMs === undefined
        ? {}
        : { guestBootMs: this.#bootedAtMs - this.#enteredAtMs }),
    };
  }
}
