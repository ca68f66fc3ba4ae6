/**
 * A program in the guest: a promise of its result, and its streams for those who want them.
 *
 * Output that nobody streams is kept for the result; output that is streamed waits for its reader, and the
 * program with it. The program lives as long as the connection: whatever closes that kills it in the guest.
 */
import { constants } from "node:os";
import { Readable, Writable } from "node:stream";
import { EstaloError } from "../../errors.js";
import { UnreadBytes } from "../unread-bytes.js";
import type { AgentChannel } from "./channel.js";
import {
  decodeExit,
  decodeNumber,
  type ExecOrder,
  encodeExec,
  encodeWindowSize,
  FRAME,
  type Frame,
  protocolError,
  STDIN_WINDOW_BYTES,
} from "./protocol.js";
import { takeFrom } from "./source.js";

/** How a program ended, and what it said. */
export interface ExecResult {
  /** Text of what was not read from the stream; UTF-8. */
  readonly stdout: string;
  readonly stderr: string;
  /** 0 to 255; 128 and the signal's number when a signal ended it, 126 and 127 when it could not start. */
  readonly exitCode: number;
  /** The signal that ended it, as `SIGTERM`. */
  readonly signal: string | undefined;
  /** Output was longer than `maxOutputBytes`, and its rest is not here. */
  readonly truncated: boolean;
}

/** How a program is started. */
export interface ExecOptions {
  /** Variables beside those of the guest's init. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where it starts; the agent's folder unless given. */
  readonly cwd?: string;
  /** A name or number in the guest; root unless given. */
  readonly user?: string;
  /**
   * Its input: these bytes, or "pipe" for the process's `stdin`. A source is ended with the program, by `return` or
   * `destroy`. Default: none, at its end at once.
   */
  readonly stdin?: "pipe" | Uint8Array | AsyncIterable<Uint8Array>;
  /** It gets a terminal, whose output is all in stdout; `stdin` is then "pipe". */
  readonly tty?: boolean | { readonly rows: number; readonly columns: number };
  /** Kills it in the guest; the call rejects with ERR_ESTALO_ABORTED. */
  readonly signal?: AbortSignal;
  /** Kills it in the guest after so long; the call rejects with ERR_ESTALO_AGENT_TIMEOUT. Default: never. */
  readonly timeoutMs?: number;
  /** Output kept for the result, for each stream. Default 64 MiB. */
  readonly maxOutputBytes?: number;
}

const OUTPUT_BYTES_MAX = 64 * 2 ** 20;
/** Of a stream that is not read; the program waits then. */
const UNREAD_BYTES_MAX = 65_536;
const SIGNAL_STATUS = 128;
const DEFAULT_SIZE = { rows: 24, columns: 80 };
const NEWLINE = 0x0a;
/** ^D, which the agent types as well when a terminal's input ends. */
const END_OF_INPUT = 0x04;

const SIGNAL_NAMES = new Map(
  Object.entries(constants.signals).map(([name, number]) => [number, name]),
);

/** One output: kept for the result until a stream is asked for. */
class Output {
  readonly #maxBytes: number;
  /** For the result, or until the stream's reader wants more. */
  readonly #unread = new UnreadBytes((bytes) => {
    this.#stream?.push(bytes);
    this.#onRead?.();
  });
  #stream: Readable | undefined;
  #onRead: (() => void) | undefined;
  #isOver = false;
  #failure: Error | undefined;
  truncated = false;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get stream(): Readable {
    if (this.#stream !== undefined) return this.#stream;
    this.#stream = new Readable({
      highWaterMark: 1,
      read: () => this.#unread.want(),
      destroy: (error, done) => {
        // Who does not read on does not stop the program.
        this.#unread.drop();
        this.#onRead?.();
        done(error);
      },
    });
    if (this.#isOver) this.#finish();
    return this.#stream;
  }

  /** Fulfilled when more may come. */
  async take(bytes: Buffer): Promise<void> {
    if (this.#stream === undefined) {
      const room = Math.max(0, this.#maxBytes - this.#unread.length);
      if (bytes.length > room) this.truncated = true;
      this.#unread.append(bytes.subarray(0, room));
    } else if (!this.#stream.destroyed) {
      this.#unread.append(bytes);
      if (this.#unread.length < UNREAD_BYTES_MAX) return;
      await new Promise<void>((resolve) => {
        this.#onRead = resolve;
      });
      this.#onRead = undefined;
    }
  }

  end(failure?: Error): void {
    this.#isOver = true;
    this.#failure = failure;
    this.#onRead?.();
    this.#finish();
  }

  get text(): string {
    return this.#unread.joined.toString("utf8");
  }

  #finish(): void {
    const stream = this.#stream;
    if (stream === undefined || stream.destroyed) return;
    if (this.#failure === undefined) {
      this.#unread.flush();
      stream.push(null);
      return;
    }
    // Where nobody listens for errors, the promise tells.
    stream.destroy(stream.listenerCount("error") > 0 ? this.#failure : undefined);
  }
}

/** See the file's header: `await` gives its result. */
export class GuestProcess implements PromiseLike<ExecResult>, AsyncDisposable {
  readonly #stdout: Output;
  readonly #stderr: Output;
  readonly #result: Promise<ExecResult>;
  readonly #pid: Promise<number>;
  readonly #stdin: Writable;
  #resolvePid: (pid: number) => void = () => {};
  #room = STDIN_WINDOW_BYTES;
  #lastInput = NEWLINE;
  #onRoom: (() => void) | undefined;
  #channel: AgentChannel | undefined;
  #failure: EstaloError | undefined;
  /** Aborted when it has ended or was given up. */
  readonly #over = new AbortController();

  /** @param open - connects to the agent; what it raises, the result does */
  constructor(
    open: (signal: AbortSignal) => Promise<AgentChannel>,
    argv: readonly string[],
    options: ExecOptions = {},
  ) {
    const { maxOutputBytes: maxBytes = OUTPUT_BYTES_MAX, tty = false } = options;
    this.#stdout = new Output(maxBytes);
    this.#stderr = new Output(maxBytes);
    this.#stdin = new Writable({
      write: (bytes: Buffer, _encoding, done) =>
        void this.#sendInput(bytes).then(() => done(), done),
      final: (done) => void this.#endInput(tty !== false).then(() => done(), done),
    });
    this.#stdin.on("error", () => {});
    let rejectPid: (error: unknown) => void = () => {};
    this.#pid = new Promise((resolve, reject) => {
      this.#resolvePid = resolve;
      rejectPid = reject;
    });
    this.#pid.catch(() => {});
    this.#result = this.#run(open, argv, options);
    this.#result.catch(rejectPid);
  }

  /** Its process id in the guest, when it has started. */
  get pid(): Promise<number> {
    return this.#pid;
  }

  /** Its input, with `stdin: "pipe"` or a terminal; a write is done when the guest has room for more. */
  get stdin(): Writable {
    return this.#stdin;
  }

  /** Its output from here on: asked for at once, all of it. What goes here is not in the result. */
  get stdout(): Readable {
    return this.#stdout.stream;
  }

  get stderr(): Readable {
    return this.#stderr.stream;
  }

  /**
   * Sends a signal to its process group, or to its terminal's foreground one. Does nothing once it has ended.
   *
   * @param signal - a name or number; SIGTERM unless given
   */
  async kill(signal: NodeJS.Signals | number = "SIGTERM"): Promise<void> {
    const number = typeof signal === "number" ? signal : constants.signals[signal];
    if (!Number.isInteger(number) || number < 0 || number > 64) {
      throw new EstaloError("ERR_ESTALO_CONFIG_INVALID", `no signal: ${signal}`);
    }
    if (!this.#isOver) await this.#whenStarted(FRAME.SIGNAL, Uint8Array.of(number));
  }

  /** Tells its terminal of another size, 1 to 65,535 each. */
  async resize(size: { readonly rows: number; readonly columns: number }): Promise<void> {
    const bytes = encodeWindowSize(size.rows & 0xffff, size.columns & 0xffff);
    if (!this.#isOver) await this.#whenStarted(FRAME.WINDOW_SIZE, bytes);
  }

  // biome-ignore lint/suspicious/noThenProperty: awaited like a promise, as is the custom for processes
  then<A = ExecResult, B = never>(
    onResult?: ((result: ExecResult) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.then(onResult, onError);
  }

  /** Kills it: `await using` leaves nothing behind in the guest. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#giveUp(new EstaloError("ERR_ESTALO_ABORTED", "the program was given up"));
    await this.#result.catch(() => {});
  }

  async #whenStarted(type: number, payload: Uint8Array): Promise<void> {
    await this.#pid;
    // It may have ended meanwhile.
    await this.#channel?.send(type, payload).catch(() => {});
  }

  get #isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Nothing is waited for any more: not the guest, not who reads its output, not who gives its input. */
  #giveUp(failure: EstaloError): void {
    if (this.#isOver) return;
    this.#failure = failure;
    this.#end(failure);
  }

  async #run(
    open: (signal: AbortSignal) => Promise<AgentChannel>,
    argv: readonly string[],
    options: ExecOptions,
  ): Promise<ExecResult> {
    const onAbort = () =>
      this.#giveUp(
        new EstaloError("ERR_ESTALO_ABORTED", "the call was aborted", {
          cause: options.signal?.reason,
        }),
      );
    const { timeoutMs } = options;
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => this.#giveUp(timeoutError(timeoutMs)), timeoutMs);
    options.signal?.addEventListener("abort", onAbort, { once: true });
    try {
      if (options.signal?.aborted) onAbort();
      this.#feed(options);
      if (this.#failure !== undefined) throw this.#failure;
      const request = encodeExec(orderOf(argv, options));
      this.#channel = await open(this.#over.signal);
      if (this.#failure !== undefined) throw this.#failure;
      await this.#channel.send(FRAME.EXEC, request);
      return await this.#carry(this.#channel);
    } catch (error) {
      const failure = this.#failure ?? error;
      this.#end(failure as Error);
      throw failure;
    } finally {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
    }
  }

  /** The program's life, as the agent tells it. */
  async #carry(channel: AgentChannel): Promise<ExecResult> {
    const frames = channel.until(FRAME.EXITED);
    let next = await frames.next();
    for (; next.done !== true; next = await frames.next()) {
      await this.#take(next.value);
      if (this.#failure !== undefined) throw this.#failure;
    }
    const { signalled, value } = decodeExit(next.value.payload);
    this.#end();
    return {
      stdout: this.#stdout.text,
      stderr: this.#stderr.text,
      exitCode: signalled ? SIGNAL_STATUS + value : value,
      signal: signalled ? (SIGNAL_NAMES.get(value) ?? `SIG${value}`) : undefined,
      truncated: this.#stdout.truncated || this.#stderr.truncated,
    };
  }

  async #take({ type, payload }: Frame): Promise<void> {
    if (type === FRAME.STDOUT) await this.#stdout.take(payload);
    else if (type === FRAME.STDERR) await this.#stderr.take(payload);
    else if (type === FRAME.STARTED) this.#resolvePid(decodeNumber(payload, 4, "a start"));
    else if (type === FRAME.STDIN_ROOM) this.#takeRoom(decodeNumber(payload, 4, "room"));
    else throw protocolError(`frame ${type} while a program runs`);
  }

  #takeRoom(bytes: number): void {
    this.#room += bytes;
    if (this.#room > STDIN_WINDOW_BYTES) throw protocolError("more room than there is");
    this.#onRoom?.();
  }

  /** From the beginning: input waits for the program, and is ended where that never starts. */
  #feed({ stdin, tty = false }: ExecOptions): void {
    if (stdin === "pipe" || (tty !== false && stdin === undefined)) return;
    if (stdin === undefined || stdin instanceof Uint8Array) {
      this.#stdin.end(stdin);
      return;
    }
    void this.#feedFrom(stdin);
  }

  async #feedFrom(source: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const bytes of takeFrom(source, this.#over.signal)) {
        if (!this.#stdin.writable) return;
        await new Promise<void>((resolve) => this.#stdin.write(bytes, () => resolve()));
      }
      this.#stdin.end();
    } catch (cause) {
      // A source that fails is the caller's: the program is not to take it for the end of its input.
      const text = "reading the program's input failed";
      this.#giveUp(new EstaloError("ERR_ESTALO_ABORTED", text, { cause }));
    }
  }

  /** Within a line the first ^D ends only that: a terminal's reader sees the end by a second one. */
  async #endInput(isTerminal: boolean): Promise<void> {
    const isInLine = this.#lastInput !== NEWLINE && this.#lastInput !== END_OF_INPUT;
    if (isTerminal && isInLine) await this.#sendInput(Buffer.of(END_OF_INPUT));
    await this.#send(FRAME.STDIN);
  }

  async #sendInput(bytes: Buffer): Promise<void> {
    this.#lastInput = bytes.at(-1) ?? this.#lastInput;
    for (let at = 0; at < bytes.length && !this.#isOver; ) {
      while (this.#room === 0 && !this.#isOver) {
        await new Promise<void>((resolve) => {
          this.#onRoom = resolve;
        });
      }
      const part = bytes.subarray(at, at + Math.min(this.#room, STDIN_WINDOW_BYTES / 2));
      this.#room -= part.length;
      at += part.length;
      await this.#send(FRAME.STDIN, part);
    }
  }

  /** Input for a program that has ended goes nowhere, as in a shell's pipe. */
  async #send(type: number, payload?: Uint8Array): Promise<void> {
    await this.#pid.catch(() => {});
    if (!this.#isOver) await this.#channel?.send(type, payload).catch(() => {});
  }

  #end(failure?: Error): void {
    this.#over.abort();
    this.#onRoom?.();
    this.#stdout.end(failure);
    this.#stderr.end(failure);
    this.#channel?.close(failure);
  }
}

function timeoutError(timeoutMs: number): EstaloError {
  return new EstaloError("ERR_ESTALO_AGENT_TIMEOUT", `not done within ${timeoutMs} ms`, {
    data: { timeoutMs },
  });
}

function orderOf(argv: readonly string[], { env, cwd, user, tty }: ExecOptions): ExecOrder {
  const terminal = tty === true ? DEFAULT_SIZE : tty === false ? undefined : tty;
  return { argv, env: env ?? {}, cwd: cwd ?? "", user: user ?? "", terminal };
}
