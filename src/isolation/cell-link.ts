/**
 * The server's end of a cell: calls and their answers, and what happens to each microVM in there.
 *
 * The cell is taken for hostile. What it says is checked before anything is done with it; a breach, silence on a
 * call and its own end are one thing: the cell is killed, and `onLost` hears why, once.
 */
import type { Duplex } from "node:stream";
import type { Untimed } from "../actors/fleet-messages.js";
import type { MicroVmEvent, MicroVmExit } from "../actors/messages.js";
import type { RunningMetrics } from "../actors/running-microvm.js";
import { EstaloError, toEstaloError } from "../errors.js";
import { type Check, checkMessage, knownError, knownMetrics } from "./cell-checks.js";
import type { CallMessage, CellCall, CellCalls } from "./cell-messages.js";
import { Channel } from "./channel.js";
import { frameError } from "./frames.js";

/** Longest payload from a cell. */
const PAYLOAD_BYTES_MAX = 256 * 1024;
/** A cell that does not answer within this has stopped working: a start takes seconds on a slow host. */
const ANSWER_TIMEOUT_MS = 60_000;
/** Calls that wait for the guest, which may take its time: the cell itself gives it about a minute. */
const WAITING_CALLS: ReadonlySet<CellCall> = new Set(["agent"]);
const WAITING_TIMEOUT_MS = 180_000;

/** A cell that is told to end is killed after this, ms. */
const CLOSE_PATIENCE_MS = 1000;

/** A jailed process that was started. */
export interface CellProcess {
  /** Its id on this host, when it is known. */
  readonly pid: number | undefined;
  readonly socket: Duplex;
  /** The jail's root, as this host sees it. */
  readonly root: string;
  /** Sends an open file; it may be closed here afterwards. Throws when the cell does not take it. */
  giveDescriptor(fd: number): void;
  kill(): void;
  /** How it ended, when nothing of it is left. */
  readonly ended: Promise<string>;
}

/** What happens to one microVM. */
export interface CellListener {
  onEvent(event: Untimed<MicroVmEvent>): void;
  onExit(exit: MicroVmExit, metrics: RunningMetrics): void;
  onLost(error: EstaloError): void;
}

interface WaitingCall {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: EstaloError) => void;
  readonly timer: NodeJS.Timeout;
}

/** See the file's header. */
export class CellLink {
  readonly channel: Channel;
  readonly process: CellProcess;
  /** Fulfilled when it is ready to be called; rejects when it never is. */
  readonly ready: Promise<void>;
  /** Fulfilled when nothing of it is left, and everybody has been told. */
  readonly gone: Promise<void>;
  #resolveGone: () => void = () => {};
  #resolveReady: () => void = () => {};
  #rejectReady: (error: EstaloError) => void = () => {};
  readonly #calls = new Map<number, WaitingCall>();
  readonly #listeners = new Map<number, CellListener>();
  #lastCall = 0;
  #lost: EstaloError | undefined;
  #failure: EstaloError | undefined;
  #isClosing = false;

  constructor(process: CellProcess) {
    this.process = process;
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    this.ready.catch(() => {});
    this.gone = new Promise((resolve) => {
      this.#resolveGone = resolve;
    });
    this.channel = new Channel(process.socket, {
      payloadBytesMax: PAYLOAD_BYTES_MAX,
      onMessage: (message) => this.#onMessage(message),
      onClose: (error) => void this.#onClose(error),
    });
  }

  /** Why it is of no use any more; `undefined` while it is. */
  get lost(): EstaloError | undefined {
    return this.#lost;
  }

  /** Why it ended, if it was not told to. */
  get failure(): EstaloError | undefined {
    return this.#failure;
  }

  /** Hears of a microVM until it ends. */
  listen(vm: number, listener: CellListener): void {
    if (this.#lost === undefined) this.#listeners.set(vm, listener);
    else listener.onLost(this.#lost);
  }

  /** Hears no more of it. */
  forget(vm: number): void {
    this.#listeners.delete(vm);
  }

  /** Calls; rejects with what the cell says, or ERR_ESTALO_CELL when it is lost meanwhile. */
  call<Method extends CellCall, T>(
    vm: number,
    method: Method,
    args: CellCalls[Method],
    check: Check<T>,
  ): Promise<T> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    this.#lastCall += 1;
    const call = this.#lastCall;
    const answer = new Promise<unknown>((resolve, reject) => {
      const late = () => this.drop(frameError(`no answer to ${method}`));
      const waits = WAITING_CALLS.has(method);
      const timer = setTimeout(late, waits ? WAITING_TIMEOUT_MS : ANSWER_TIMEOUT_MS).unref();
      this.#calls.set(call, { resolve, reject, timer });
    });
    const message: CallMessage = { call, vm, method, args };
    this.channel.post(message);
    return answer.then((value) => this.#checked(check, value));
  }

  /** Sends an open file, ahead of the call that is about it. Raises ERR_ESTALO_CELL. */
  giveDescriptor(fd: number): void {
    try {
      this.process.giveDescriptor(fd);
    } catch (cause) {
      // Whatever comes next would be taken for another file.
      const error = frameError(`it takes no files: ${(cause as Error).message}`);
      this.drop(error);
      throw error;
    }
  }

  /** Ends it for what it did. */
  drop(error: EstaloError): void {
    this.channel.close(error);
  }

  /** Ends it: nothing is in there any more. Fulfilled when nothing of it is left. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.channel.close();
    await this.gone;
  }

  #checked<T>(check: Check<T>, value: unknown): T {
    try {
      return check(value);
    } catch (error) {
      this.drop(toEstaloError(error));
      throw error;
    }
  }

  #onMessage(given: unknown): void {
    const message = checkMessage(given);
    if ("hello" in message) {
      this.#resolveReady();
    } else if ("reply" in message) {
      const waiting = this.#calls.get(message.reply);
      if (waiting === undefined) throw frameError("an answer that nobody waits for");
      this.#calls.delete(message.reply);
      clearTimeout(waiting.timer);
      const { error, value } = message;
      if (error === undefined) waiting.resolve(value);
      else waiting.reject(EstaloError.fromRecord(knownError(error)));
    } else {
      this.#tell(message);
    }
  }

  #tell(message: Exclude<ReturnType<typeof checkMessage>, { hello: 1 } | { reply: number }>): void {
    const listener = this.#listeners.get(message.vm);
    // Of one that has ended, nothing more is heard.
    if (listener === undefined) return;
    if ("event" in message) {
      const { event } = message;
      listener.onEvent(
        (event.type === "device-failed"
          ? { ...event, error: knownError(event.error) }
          : event) as Untimed<MicroVmEvent>,
      );
      return;
    }
    this.#listeners.delete(message.vm);
    const { reason, guestStatus, error, exitCode } = message.exit;
    const exit = { reason, guestStatus, error: error && knownError(error), exitCode };
    listener.onExit(exit as MicroVmExit, knownMetrics(message.metrics));
  }

  async #onClose(breach: EstaloError | undefined): Promise<void> {
    // One that is told to end ends by itself, and is waited for by its launcher.
    if (!this.#isClosing) this.process.kill();
    const patience = setTimeout(() => this.process.kill(), CLOSE_PATIENCE_MS);
    // What its end says of why is worth the moment it takes.
    const how = await this.process.ended;
    clearTimeout(patience);
    const error =
      breach ??
      new EstaloError("ERR_ESTALO_CELL", `the microVM's process ended: ${how}`, { data: { how } });
    if (!this.#isClosing) this.#failure = error;
    this.#lost = this.#failure ?? frameError("closed");
    this.#rejectReady(this.#lost);
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(this.#lost);
    }
    this.#calls.clear();
    const listeners = [...this.#listeners.values()];
    this.#listeners.clear();
    for (const listener of listeners) listener.onLost(this.#lost);
    this.#resolveGone();
  }
}
