/**
 * The user's terminal: raw while the guest has it, and given back as it was whatever happens.
 *
 * Node restores it too when the process ends in order; the `exit` handler here is for ends that come while
 * the guest has the terminal and a message still has to be read.
 */
import type { ReadStream } from "node:tty";

/**
 * Node's raw mode still makes CR LF of every LF, which a full-screen program in the guest does not expect:
 * its own terminal did that already. Only stty(1) can say so; without it such programs look odd, no more.
 */
async function stopOutputProcessing(isWanted: () => boolean): Promise<void> {
  const { spawnSync } = await import("node:child_process");
  // The terminal may have been given back meanwhile.
  if (isWanted()) spawnSync("stty", ["-opost"], { stdio: ["inherit", "ignore", "ignore"] });
}

/** For a process that may start no program: see stopOutputProcessing. */
export async function keepOutputProcessing(): Promise<void> {}

/** At SIGINT and SIGTERM Node gives the terminal back itself. */
const ENDING_SIGNALS = ["SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR2", "SIGXCPU"] as const;

/** Raw mode of one terminal, our standard input. */
export class RawMode {
  readonly #input: ReadStream;
  readonly #stopOutputProcessing: typeof stopOutputProcessing;
  readonly #onExit = () => this.leave();
  readonly #onSignal = (signal: NodeJS.Signals) => this.#endBy(signal);
  #isRaw = false;

  constructor(input: ReadStream, stopOutput = stopOutputProcessing) {
    this.#input = input;
    this.#stopOutputProcessing = stopOutput;
  }

  enter(): void {
    if (this.#isRaw) return;
    // Node keeps the settings of before, and leaving brings all of them back.
    this.#input.setRawMode(true);
    this.#isRaw = true;
    void this.#stopOutputProcessing(() => this.#isRaw);
    process.once("exit", this.#onExit);
    for (const signal of ENDING_SIGNALS) process.on(signal, this.#onSignal);
  }

  /** Idempotent. */
  leave(): void {
    if (!this.#isRaw) return;
    this.#isRaw = false;
    process.off("exit", this.#onExit);
    for (const signal of ENDING_SIGNALS) process.off(signal, this.#onSignal);
    // A terminal that is gone needs nothing back.
    if (!this.#input.destroyed) this.#input.setRawMode(false);
  }

  /** A signal that nobody else takes ends the process, as without us. */
  #endBy(signal: NodeJS.Signals): void {
    if (process.listenerCount(signal) > 1) return;
    this.leave();
    process.kill(process.pid, signal);
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
