/**
 * A microVM's console as a Node stream: what the guest writes is read, what is written the guest reads.
 *
 * Both directions wait for who is slow: a reader that does not read makes the server keep it (and drop it in
 * the end, code 1013), a guest that does not read makes `write` wait. Ends when the microVM does.
 */
import { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { EstaloError } from "../../errors.js";
import type { CallOptions } from "./connection.js";
import { abortedError, parse } from "./errors.js";
import type { ServerAddress } from "./server-address.js";
import { bytesOf, closeSocket, endError, openSocket, watchPeer } from "./socket.js";

/** How to join a console. */
export interface ConsoleOptions extends CallOptions {
  /** Begin with what the console showed last. Default true. */
  readonly history?: boolean;
  /** Whether this stream writes. Default true. */
  readonly write?: boolean;
}

/** A message to the server is at most this long. */
const WRITE_BYTES_MAX = 16 * 1024;
/**
 * Input on its way that the guest has not read: the server closes at 256 KiB, and says each 64 KiB how far
 * the guest is.
 */
const UNREAD_BYTES_MAX = 192 * 1024;

type Done = (error?: Error | null) => void;

/**
 * The stream. It connects by itself and is "ready" when it has; what goes wrong is its "error", an
 * EstaloError.
 */
export class ConsoleStream extends Duplex {
  readonly #address: ServerAddress;
  readonly #path: string;
  readonly #options: ConsoleOptions;
  readonly #timeoutMs: number;
  readonly #closing = new AbortController();
  readonly #parent: AbortSignal;
  readonly #onParent = () => this.destroy();
  readonly #onAbort = () => this.destroy(abortedError(this.#options.signal as AbortSignal));
  #socket: WebSocket | undefined;
  #size: { readonly columns: number; readonly rows: number } | undefined;
  #hasEnded = false;
  #sentBytes = 0;
  #takenBytes = 0;
  /** Goes on with what is written, when the guest has read some. */
  #onTaken: (() => void) | undefined;

  /** `parent` ends it without an error, as its client does. */
  constructor(
    address: ServerAddress,
    path: string,
    timeoutMs: number,
    options: ConsoleOptions,
    parent: AbortSignal,
  ) {
    // Nothing can be written to a microVM that ended.
    super({ allowHalfOpen: false });
    this.#address = address;
    this.#path = path;
    this.#timeoutMs = timeoutMs;
    this.#options = options;
    const { signal } = options;
    if (signal?.aborted) queueMicrotask(this.#onAbort);
    else signal?.addEventListener("abort", this.#onAbort, { once: true });
    this.#parent = parent;
    if (parent.aborted) queueMicrotask(this.#onParent);
    else parent.addEventListener("abort", this.#onParent, { once: true });
  }

  /** Tells the guest's terminal its size, 1 to 65,535 each; the last one counts. */
  resize(columns: number, rows: number): void {
    for (const [field, value] of [
      ["columns", columns],
      ["rows", rows],
    ] as const) {
      if (Number.isInteger(value) && value >= 1 && value <= 65_535) continue;
      throw new EstaloError(
        "ERR_ESTALO_CONFIG_INVALID",
        `${field}: expected a whole number from 1 to 65535, got ${value}`,
        { data: { field, got: value } },
      );
    }
    this.#size = { columns, rows };
    this.#sendSize();
  }

  /** As of any stream; also one that still connects, which Node's would wait for. */
  override destroy(error?: Error): this {
    this.#closing.abort();
    return super.destroy(error);
  }

  /** What the server is asked with. */
  protected get query(): Record<string, boolean> {
    const { history = true, write = true } = this.#options;
    return { history, write };
  }

  override _construct(done: Done): void {
    openSocket(this.#address, {
      path: this.#path,
      query: this.query,
      signal: this.#closing.signal,
      timeoutMs: this.#timeoutMs,
    }).then(
      (socket) => {
        this.#socket = socket;
        watchPeer(socket, this.#timeoutMs);
        socket.on("message", (data, isBinary) => {
          if (!isBinary) this.#onText(bytesOf(data));
          else if (!this.push(bytesOf(data))) socket.pause();
        });
        // A broken frame or connection; the end that follows says so.
        socket.on("error", () => {});
        socket.once("close", (code, reason) => this.#onClose(code, reason.toString("utf8")));
        this.#sendSize();
        socket.resume();
        done();
        if (!this.destroyed) this.emit("ready");
      },
      // Of one that was destroyed meanwhile it is known why.
      (error) => done(this.destroyed ? null : error),
    );
  }

  override _read(): void {
    if (this.#socket?.isPaused) this.#socket.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: Done): void {
    const socket = this.#socket as WebSocket;
    const send = (from: number): void => {
      this.#onTaken = undefined;
      if (this.#hasEnded) {
        done();
        return;
      }
      const to = Math.min(from + WRITE_BYTES_MAX, chunk.length);
      if (this.#sentBytes + to - from - this.#takenBytes > UNREAD_BYTES_MAX) {
        this.#onTaken = () => send(from);
        return;
      }
      this.#sentBytes += to - from;
      socket.send(chunk.subarray(from, to), { binary: true }, (error) => {
        // What is lost here is told by the socket's end.
        if (error != null || to === chunk.length) done();
        else send(to);
      });
    };
    send(0);
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#parent.removeEventListener("abort", this.#onParent);
    if (this.#socket !== undefined) closeSocket(this.#socket);
    done(error);
  }

  /** Text is about the console: `{"type":"taken","bytes":N}`, and perhaps more one day. */
  #onText(text: Uint8Array): void {
    const { type, bytes } = (parse(text) ?? {}) as { type?: unknown; bytes?: unknown };
    if (type !== "taken" || !Number.isSafeInteger(bytes)) return;
    this.#takenBytes = Math.min(bytes as number, this.#sentBytes);
    this.#onTaken?.();
  }

  #sendSize(): void {
    const { write = true } = this.#options;
    if (this.#size === undefined || this.#hasEnded || !write) return;
    // Before the socket is there: it is sent when it is.
    this.#socket?.send(JSON.stringify({ type: "resize", ...this.#size }), () => {});
  }

  #onClose(code: number, reason: string): void {
    this.#hasEnded = true;
    this.#onTaken?.();
    if (this.destroyed) return;
    const error = endError(this.#address, `WebSocket ${this.#path}`, { code, reason });
    if (error === undefined) this.push(null);
    else this.destroy(error);
  }
}
