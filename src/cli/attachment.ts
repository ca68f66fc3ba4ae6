/**
 * Joins a microVM's console to our streams, in one of the three ways of run-plan.ts, until it ends.
 */
import { Writable } from "node:stream";
import type { ReadStream } from "node:tty";
import type { Console } from "../actors/console.js";
import { ConsoleOutput } from "../actors/console-output.js";
import { GuestStdio } from "../actors/guest-stdio.js";
import type { StreamMode } from "./run-plan.js";
import { keepOutputProcessing, RawMode, typedInput } from "./terminal.js";

type GuestConsole = Pick<Console, "read" | "send" | "holdOutput">;

/** Our side of an attachment. */
export interface AttachmentStreams {
  readonly stdin: NodeJS.ReadStream;
  /** Whether `stdin` is a terminal that the guest is to have. */
  readonly isTerminal: boolean;
  /** This process may start programs, as stty(1). */
  readonly startsPrograms: boolean;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Where console text goes beside the tail that is kept; absent: nowhere. */
  readonly text: Writable | undefined;
  /** The terminal's size, now. */
  readonly size: () => { readonly rows: number; readonly columns: number };
  /** The guest has something to show: what is on the screen for the meantime must go. */
  readonly onFirstOutput: () => void;
  /** The user pressed the detach keys. */
  readonly onDetach: () => void;
}

/** One way of being attached. */
export interface Attachment {
  /** Passes a signal on to the guest's command. False: there is none that could take it. */
  signal(number: number): boolean;
  /** The guest is ending: takes its last output whole. */
  release(): void;
  /** The guest is gone: gives the terminal back. */
  close(): void;
  /** The last lines of console text. */
  readonly tail: string;
}

/** Attaches; call it before the microVM starts. */
export function attach(
  console: GuestConsole,
  mode: StreamMode,
  streams: AttachmentStreams,
): Attachment {
  return mode === "console"
    ? attachConsole(console, streams)
    : attachFrames(console, mode === "terminal", streams);
}

function attachFrames(
  console: GuestConsole,
  isTerminal: boolean,
  streams: AttachmentStreams,
): Attachment {
  const raw = rawModeOf(streams);
  const text = new Tail(streams.text);
  const resize = () => {
    const { rows, columns } = streams.size();
    stdio.resize(rows, columns);
  };
  const stdio = new GuestStdio(console, {
    stdout: streams.stdout,
    stderr: streams.stderr,
    text,
    onStarted: () => {
      streams.onFirstOutput();
      if (!isTerminal) return;
      raw.enter();
      // It may have changed since the guest was told.
      resize();
      process.on("SIGWINCH", resize);
    },
  });
  feed(streams.stdin, (input) =>
    stdio.feed(isTerminal ? typedInput(input, streams.onDetach) : input),
  );
  return {
    signal: (number) => stdio.signal(number),
    release: () => stdio.release(),
    close: () => {
      stdio.close();
      process.off("SIGWINCH", resize);
      raw.leave();
    },
    get tail() {
      return text.tail;
    },
  };
}

function attachConsole(console: GuestConsole, streams: AttachmentStreams): Attachment {
  const raw = streams.isTerminal ? rawModeOf(streams) : undefined;
  const output = new ConsoleOutput(console);
  let isFirst = true;
  const detach = console.read((bytes) => {
    if (isFirst) streams.onFirstOutput();
    isFirst = false;
    output.write(streams.stdout, bytes);
  });
  raw?.enter();
  feed(streams.stdin, async (input) => {
    const source = raw === undefined ? input : typedInput(input, streams.onDetach);
    for await (const bytes of source) await console.send(bytes);
  });
  return {
    signal: () => false,
    release: () => output.release(),
    close: () => {
      output.release();
      detach();
      raw?.leave();
    },
    // Everything was shown already.
    tail: "",
  };
}

function rawModeOf({ stdin, startsPrograms }: AttachmentStreams): RawMode {
  return new RawMode(stdin as ReadStream, startsPrograms ? undefined : keepOutputProcessing);
}

/** Runs `take` over our input; input that breaks off is input that ends. */
function feed(
  stdin: NodeJS.ReadStream,
  take: (input: AsyncIterable<Uint8Array>) => Promise<void>,
): void {
  async function* input() {
    try {
      for await (const bytes of stdin) yield bytes as Uint8Array;
    } catch {
      // A terminal that hung up, a descriptor that cannot be read: there is no more to come.
    }
  }
  void take(input());
}

/** Console text kept to be shown when the guest dies of something. */
const TAIL_BYTES_MAX = 2048;

/** Keeps the end of what passes through it. */
class Tail extends Writable {
  readonly #next: Writable | undefined;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(next: Writable | undefined) {
    super();
    this.#next = next;
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]).subarray(-TAIL_BYTES_MAX);
    if (this.#next === undefined || this.#next.destroyed) done();
    else this.#next.write(chunk, () => done());
  }

  get tail(): string {
    return Buffer.from(this.#bytes).toString("utf8");
  }
}
