/**
 * The agent in a microVM's guest, as the host sees it: a connection for each thing that is asked of it.
 */

import type { Duplex } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import { EstaloError, isEstaloError } from "../../errors.js";
import { abortable, throwIfAborted } from "../abortable.js";
import { AgentChannel, closeOnAbort, type FileCallOptions } from "./channel.js";
import { GuestFiles } from "./files.js";
import { type ExecOptions, GuestProcess } from "./process.js";
import { decodeHealth, encodeTime, FRAME, type GuestHealth } from "./protocol.js";

/** Connects to the agent's port; rejects when nobody listens there. */
export type ConnectToAgent = (signal: AbortSignal | undefined) => Promise<Duplex>;

/** Options of {@link GuestAgent.health}. */
export interface HealthOptions extends FileCallOptions {
  /** How long the answer may take. Default 30,000. */
  readonly timeoutMs?: number;
}

/** A guest that is busy has so long to take a connection, and to answer. */
const ANSWER_TIMEOUT_MS = 30_000;
/** A guest that is still booting has so long to start its agent. */
const START_TIMEOUT_MS = 60_000;
const RETRY_MS = 100;
/** With so many connections the guest's kernel, which keeps 129 for the agent, may have refused one more itself. */
const CONNECTIONS_MANY = 64;
const NO_VSOCK_HINT =
  "the guest has to run estalo-agent, as the default guest does (docs/agent.md)";

/** See the file's header. */
export class GuestAgent {
  readonly files: GuestFiles;
  readonly #connect: ConnectToAgent;
  readonly #startTimeoutMs: number;
  #wasReached = false;
  #isClosed = false;
  /** Connections that there are. */
  #connections = 0;

  constructor(connect: ConnectToAgent, startTimeoutMs = START_TIMEOUT_MS) {
    this.#connect = connect;
    this.#startTimeoutMs = startTimeoutMs;
    this.files = new GuestFiles((signal) => this.open(signal));
  }

  /** Runs a program; see {@link GuestProcess}. */
  exec(argv: readonly string[], options: ExecOptions = {}): GuestProcess {
    return new GuestProcess((signal) => this.open(signal), argv, options);
  }

  /** What the guest says of itself. Rejects with ERR_ESTALO_AGENT_TIMEOUT, among others. */
  async health(options: HealthOptions = {}): Promise<GuestHealth> {
    return decodeHealth(await this.#ask(FRAME.HEALTH, FRAME.HEALTH_IS, options));
  }

  /** Sets the guest's clock, which stood still in a pause. */
  async setTime(timeMs: number = Date.now(), options: HealthOptions = {}): Promise<void> {
    await this.#ask(FRAME.SET_TIME, FRAME.DONE, options, () => encodeTime(timeMs));
  }

  /** After a pause: sets the clock of a guest whose agent has been spoken to. What fails there is the guest's. */
  syncTime(): void {
    if (this.#wasReached)
      this.#ask(FRAME.SET_TIME, FRAME.DONE, {}, () => encodeTime(Date.now())).catch(() => {});
  }

  /** Nothing is tried any more. */
  close(): void {
    this.#isClosed = true;
  }

  /**
   * A connection; waits for a guest that is still booting, or too busy to take it: vsock's own patience is two
   * seconds. Rejects with ERR_ESTALO_AGENT_UNREACHABLE, ERR_ESTALO_ABORTED or what `connect` says of the microVM.
   */
  async open(signal?: AbortSignal): Promise<AgentChannel> {
    return new AgentChannel(await this.openStream(signal));
  }

  /** As `open`, for who speaks the protocol itself. */
  async openStream(signal?: AbortSignal): Promise<Duplex> {
    const startMs = performance.now();
    for (;;) {
      throwIfAborted(signal);
      try {
        const stream = await this.#connect(signal);
        this.#wasReached = true;
        this.#count(stream);
        return stream;
      } catch (cause) {
        if (!isEstaloError(cause) || cause.code !== "ERR_ESTALO_VSOCK") throw cause;
        const passedMs = performance.now() - startMs;
        if (this.#isClosed || passedMs >= this.#patienceMs(cause)) {
          const text = "the guest's agent does not answer";
          const hint = NO_VSOCK_HINT;
          throw new EstaloError("ERR_ESTALO_AGENT_UNREACHABLE", text, { cause, hint });
        }
      }
      await abortable(wait(RETRY_MS), signal);
    }
  }

  #count(stream: Duplex): void {
    // Of one that is gone already nothing more is heard.
    if (stream.closed) return;
    this.#connections++;
    stream.once("close", () => {
      this.#connections--;
    });
  }

  /** An agent that was there and does not listen any more has ended; one that says nothing may be busy. */
  #patienceMs(cause: EstaloError): number {
    if (!this.#wasReached) return this.#startTimeoutMs;
    const mayBeBusy = cause.data.reason === "timed-out" || this.#connections >= CONNECTIONS_MANY;
    return mayBeBusy ? ANSWER_TIMEOUT_MS : 0;
  }

  async #ask(
    type: number,
    wanted: number,
    { signal, timeoutMs = ANSWER_TIMEOUT_MS }: HealthOptions,
    payload: () => Buffer | undefined = () => undefined,
  ): Promise<Buffer> {
    const channel = await this.open(signal);
    const stop = closeOnAbort(channel, signal);
    const data = { timeoutMs };
    const late = new EstaloError("ERR_ESTALO_AGENT_TIMEOUT", "the guest's agent is late", { data });
    const timer = setTimeout(() => channel.close(late), timeoutMs);
    try {
      await channel.send(type, payload());
      return await channel.answer(wanted);
    } finally {
      clearTimeout(timer);
      stop();
      channel.close();
    }
  }
}
