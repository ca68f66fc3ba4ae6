/**
 * One connection with the guest's agent: a request, then frames both ways. Memory is bounded both ways: a frame
 * is read when somebody asks for it, and `send` waits until the ones before have gone.
 */
import type { Duplex } from "node:stream";
import { getSystemErrorMap } from "node:util";
import { EstaloError, isEstaloError } from "../../errors.js";
import {
  decodeFailure,
  encodeFrame,
  FRAME,
  type Frame,
  FrameReader,
  protocolError,
} from "./protocol.js";

/** The guest's agent hung up in the middle of something. */
function lostError(cause?: unknown): EstaloError {
  return new EstaloError("ERR_ESTALO_AGENT_LOST", "the guest's agent: the connection has ended", {
    ...(cause === undefined ? {} : { cause }),
  });
}

/** What the guest could not do, with the errno there. */
export function failureError(payload: Buffer): EstaloError {
  const { errno, what } = decodeFailure(payload);
  const [name, text] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, `errno ${errno}`];
  return new EstaloError("ERR_ESTALO_AGENT_FAILED", `in the guest: ${what}: ${text}`, {
    data: { what, errno: name },
  });
}

/** Connects to the agent; gives up when the signal aborts. */
export type OpenChannel = (signal?: AbortSignal) => Promise<AgentChannel>;

/** Options of calls about files. */
export interface FileCallOptions {
  /** Gives up the call: it rejects with ERR_ESTALO_ABORTED. */
  readonly signal?: AbortSignal;
}

/** Queued frames go together once they are this many bytes: each write is packets and an interrupt for the guest. */
const TOGETHER_BYTES = 65_536;

/** See the file's header. */
export class AgentChannel {
  readonly #stream: Duplex;
  #queue: Buffer[] = [];
  #queuedBytes = 0;
  #failure: unknown;
  #isClosed = false;

  /** @param stream - connected to the agent */
  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("error", (error) => {
      this.#failure ??= error;
    });
  }

  /** Sends a frame, behind what is queued; fulfilled when there is room for more. Rejects with ERR_ESTALO_AGENT_LOST. */
  send(type: number, payload?: Uint8Array): Promise<void> {
    const frames = [...this.#queue, encodeFrame(type, payload)];
    this.#queue = [];
    this.#queuedBytes = 0;
    return this.#write(frames.length === 1 ? (frames[0] as Buffer) : Buffer.concat(frames));
  }

  /** Sends a frame once there are enough of them, or with the next that is sent; otherwise as `send`. */
  async queue(type: number, payload?: Uint8Array): Promise<void> {
    if (this.#queuedBytes >= TOGETHER_BYTES) {
      await this.send(type, payload);
      return;
    }
    const frame = encodeFrame(type, payload);
    this.#queue.push(frame);
    this.#queuedBytes += frame.length;
  }

  #write(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed || this.#stream.destroyed) {
        reject(this.#reason());
        return;
      }
      const onClose = () => reject(this.#reason());
      this.#stream.once("close", onClose);
      this.#stream.write(bytes, (error) => {
        this.#stream.off("close", onClose);
        if (error === null || error === undefined) resolve();
        else reject(this.#reason(error));
      });
    });
  }

  /**
   * Frames as they come, to the end of the connection. Raises what `close` was called with, or
   * ERR_ESTALO_AGENT_LOST or _PROTOCOL.
   */
  async *frames(): AsyncGenerator<Frame, void, undefined> {
    const reader = new FrameReader();
    try {
      for await (const bytes of this.#stream.iterator({ destroyOnReturn: false })) {
        yield* reader.take(bytes as Buffer);
      }
    } catch (error) {
      throw isEstaloError(error) && error.code === "ERR_ESTALO_AGENT_PROTOCOL"
        ? error
        : this.#reason(error);
    }
    if (this.#failure !== undefined || reader.isInside) throw this.#reason();
  }

  /**
   * Frames up to DONE; FAILED becomes ERR_ESTALO_AGENT_FAILED, and an end before them
   * ERR_ESTALO_AGENT_LOST. Closes the connection in the end.
   */
  async *until(wanted: number = FRAME.DONE): AsyncGenerator<Frame, Frame, undefined> {
    try {
      for await (const frame of this.frames()) {
        if (frame.type === wanted) return frame;
        if (frame.type === FRAME.FAILED) throw failureError(frame.payload);
        yield frame;
      }
      throw this.#reason();
    } finally {
      this.close();
    }
  }

  /** The one frame that answers a request. */
  async answer(wanted: number = FRAME.DONE): Promise<Buffer> {
    const { value, done } = await this.until(wanted).next();
    if (done === true && value !== undefined) return value.payload;
    this.close();
    throw protocolError(`frame ${value?.type} instead of ${wanted}`);
  }

  /** Ends the connection, and with it what the guest does for it. Idempotent; the first reason stands. */
  close(reason?: unknown): void {
    this.#isClosed = true;
    this.#failure ??= reason;
    this.#stream.destroy();
  }

  #reason(cause?: unknown): unknown {
    const failure = this.#failure ?? cause;
    return isEstaloError(failure) && failure.code !== "ERR_ESTALO_VSOCK"
      ? failure
      : lostError(failure);
  }
}

/** Has an aborted call end the connection, and with it what the guest does for it. */
export function closeOnAbort(channel: AgentChannel, signal: AbortSignal | undefined): () => void {
  const onAbort = () => {
    const details = { cause: signal?.reason };
    channel.close(new EstaloError("ERR_ESTALO_ABORTED", "the call was aborted", details));
  };
  if (signal?.aborted) onAbort();
  signal?.addEventListener("abort", onAbort, { once: true });
  return () => signal?.removeEventListener("abort", onAbort);
}
