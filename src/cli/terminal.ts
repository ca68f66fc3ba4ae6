/**
 * The user's terminal: raw while the guest has it, and given back as it was whatever happens.
 *
 * Node restores it too when the process ends in order; the `exit` handler here is for ends that come while
 * the guest has the terminal and a message still has to be read.
 */
import type { ReadStream } from "node:tty";

/** Raw mode of one terminal. */
export class RawMode {
  readonly #input: ReadStream;
  readonly #onExit = () => this.leave();
  #isRaw = false;

  constructor(input: ReadStream) {
    this.#input = input;
  }

  enter(): void {
    if (this.#isRaw) return;
    this.#input.setRawMode(true);
    this.#isRaw = true;
    process.once("exit", this.#onExit);
  }

  /** Idempotent. */
  leave(): void {
    if (!this.#isRaw) return;
    this.#isRaw = false;
    process.off("exit", this.#onExit);
    // A terminal that is gone needs nothing back.
    if (!this.#input.destroyed) this.#input.setRawMode(false);
  }
}

const CTRL_P = 0x10;
const CTRL_Q = 0x11;

/**
 * Finds ctrl-p ctrl-q in what is typed. A ctrl-p is kept until the next key says what it was.
 */
export class DetachKeys {
  #kept = false;

  /** What of `bytes` is for the guest, and whether the user wants to leave. */
  take(bytes: Uint8Array): { readonly bytes: Uint8Array; readonly detached: boolean } {
    const passed: number[] = [];
    for (const byte of bytes) {
      if (this.#kept && byte === CTRL_Q) {
        return { bytes: Uint8Array.from(passed), detached: true };
      }
      if (this.#kept) passed.push(CTRL_P);
      this.#kept = byte === CTRL_P;
      if (!this.#kept) passed.push(byte);
    }
    return { bytes: Uint8Array.from(passed), detached: false };
  }
}

/** What is typed, until the detach keys: then it calls `onDetach` and ends. */
export async function* typedInput(
  input: AsyncIterable<Uint8Array>,
  onDetach: () => void,
): AsyncGenerator<Uint8Array> {
  const keys = new DetachKeys();
  for await (const typed of input) {
    const { bytes, detached } = keys.take(typed);
    if (bytes.length > 0) yield bytes;
    if (detached) {
      onDetach();
      return;
    }
  }
}
