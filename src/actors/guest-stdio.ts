/**
 * The standard streams of the default guest's command, carried over the microVM's console.
 *
 *     guest ─ serial port ─▶ Console ─▶ FrameParser ─┬─ stdout, stderr ─▶ streams of the caller
 *                               ▲                    └─ console text ──▶ (ConsoleOutput)
 *                               └── frames ◀── input, window size, signals
 *
 * Nothing is lost and nothing piles up, both ways: while a stream of the caller is full the serial port is
 * held, which makes the guest wait; input waits until the guest has taken what was sent before. Input is
 * sent from the STARTED frame on: the guest drops what arrives while its kernel opens the port.
 */
import type { Writable } from "node:stream";
import type { Console } from "./console.js";
import { ConsoleOutput } from "./console-output.js";
import {
  encodeFrame,
  encodeFrames,
  FRAME_PAYLOAD_BYTES_MAX,
  FRAME_SIGNAL,
  FRAME_STARTED,
  FRAME_STDIN,
  FRAME_STDOUT,
  FRAME_WINSIZE,
  FrameParser,
} from "./guest-stdio-frames.js";

/** Input sent at once: what a signal or a new window size may have to wait behind. */
const INPUT_BYTES_MAX = 8 * FRAME_PAYLOAD_BYTES_MAX;

/** Where the guest's output goes. */
export interface GuestOutput {
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** For what the guest's kernel writes to its console, between frames. */
  readonly text?: Writable;
  /** The command runs now; called before any of its output is written. */
  readonly onStarted?: (processId: number) => void;
}

/** One command's streams, for as long as its microVM lives. */
export class GuestStdio {
  /** Fulfilled with the command's process id in the guest when it runs; never, if the guest does not get there. */
  readonly started: Promise<number>;

  readonly #console: Pick<Console, "read" | "send" | "holdOutput">;
  readonly #streams: GuestOutput;
  readonly #output: ConsoleOutput;
  readonly #parser: FrameParser;
  readonly #detach: () => void;
  /** Payloads of one stream that came together. */
  #batch: Uint8Array[] = [];
  #batchType = 0;
  #isStarted = false;
  #resolveStarted: (processId: number) => void = () => {};

  /** Takes the console's output from now on: make it before the microVM starts. */
  constructor(console: Pick<Console, "read" | "send" | "holdOutput">, streams: GuestOutput) {
    this.#console = console;
    this.#streams = streams;
    this.#output = new ConsoleOutput(console);
    this.started = new Promise((resolve) => {
      this.#resolveStarted = resolve;
    });
    this.#parser = new FrameParser({
      onFrame: (type, payload) => this.#take(type, payload),
      onText: (bytes) => {
        this.#flush();
        if (streams.text !== undefined) this.#output.write(streams.text, bytes);
      },
    });
    this.#detach = console.read((bytes) => {
      this.#parser.push(bytes);
      this.#flush();
    });
  }

  get isStarted(): boolean {
    return this.#isStarted;
  }

  /** Sends all of `input` to the command, then its end. Fulfilled when the guest has taken it. */
  async feed(input: AsyncIterable<Uint8Array>): Promise<void> {
    await this.started;
    for await (const bytes of input) {
      for (let at = 0; at < bytes.length; at += INPUT_BYTES_MAX) {
        const part = bytes.subarray(at, at + INPUT_BYTES_MAX);
        await this.#console.send(encodeFrames(FRAME_STDIN, part));
      }
    }
    await this.#console.send(encodeFrame(FRAME_STDIN, new Uint8Array(0)));
  }

  /** Tells the command's terminal its size; in vain before the command runs. */
  resize(rows: number, columns: number): void {
    if (!this.#isStarted) return;
    const payload = new Uint8Array(4);
    const view = new DataView(payload.buffer);
    view.setUint16(0, rows, true);
    view.setUint16(2, columns, true);
    void this.#console.send(encodeFrame(FRAME_WINSIZE, payload));
  }

  /** Sends the command's process group a signal. False: the command does not run yet. */
  signal(number: number): boolean {
    if (!this.#isStarted) return false;
    void this.#console.send(encodeFrame(FRAME_SIGNAL, Uint8Array.of(number)));
    return true;
  }

  /** The guest is ending: its last output is taken however full the streams are. */
  release(): void {
    this.#output.release();
  }

  /** The guest is gone. */
  close(): void {
    this.release();
    this.#detach();
    this.#parser.finish();
    this.#flush();
  }

  #take(type: number, payload: Uint8Array): void {
    if (type === FRAME_STARTED) {
      this.#start(payload);
      return;
    }
    if (type !== this.#batchType) this.#flush();
    this.#batchType = type;
    if (payload.length > 0) this.#batch.push(payload);
  }

  #start(payload: Uint8Array): void {
    this.#flush();
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const processId = payload.length >= 4 ? view.getUint32(0, true) : 0;
    // Once: a guest that says it again changes nothing.
    if (this.#isStarted) return;
    this.#isStarted = true;
    this.#streams.onStarted?.(processId);
    this.#resolveStarted(processId);
  }

  #flush(): void {
    if (this.#batch.length === 0) return;
    const bytes = this.#batch.length === 1 ? this.#batch[0] : Buffer.concat(this.#batch);
    this.#batch = [];
    const { stdout, stderr } = this.#streams;
    this.#output.write(this.#batchType === FRAME_STDOUT ? stdout : stderr, bytes);
  }
}
