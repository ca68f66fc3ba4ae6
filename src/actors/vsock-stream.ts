/**
 * The host's end of a vsock connection as a Node stream: for programs that use the library.
 *
 * Backpressure runs through both ways: a guest gets room when the stream's reader took its bytes, and a write is
 * done when they have gone to the guest.
 */
import { Duplex } from "node:stream";
import type {
  VsockCloseReason,
  VsockConnection,
  VsockEnd,
} from "../devices/virtio/vsock-connection.js";
import { EstaloError } from "../errors.js";
import { UnreadBytes } from "./unread-bytes.js";

type Done = (error?: Error | null) => void;

/**
 * A stream of bytes to and from a port of the guest's; half open as a socket with `allowHalfOpen`.
 *
 * When the guest resets it, "error" has ERR_ESTALO_VSOCK with `data.reason`; when the guest has closed it, what is
 * written afterwards is an "error" as after `end()`. Neither ends the process where nobody listens for errors: the
 * stream closes.
 */
export class VsockStream extends Duplex {
  /** The guest's port, and the host's. */
  readonly guestPort: number;
  readonly hostPort: number;

  readonly #connection: VsockConnection;
  readonly #unread = new UnreadBytes((bytes) => {
    this.push(bytes);
    this.#connection.consumed(bytes.length);
  });
  #writing: Done | undefined;
  #isOver = false;

  constructor(connection: VsockConnection) {
    super({ allowHalfOpen: true, readableHighWaterMark: 1 });
    this.#connection = connection;
    this.guestPort = connection.guestPort;
    this.hostPort = connection.hostPort;
  }

  /** What the connection tells this stream. */
  get end$(): VsockEnd {
    return {
      onData: (bytes) => this.#unread.append(bytes),
      onEnd: () => this.#endReading(),
      onDrain: () => this.#written(),
      onClose: (reason) => this.#close(reason),
    };
  }

  override _read(): void {
    this.#unread.want();
  }

  override _write(bytes: Uint8Array, _encoding: BufferEncoding, done: Done): void {
    // The caller may use its buffer again.
    if (this.#connection.write(Uint8Array.from(bytes))) done();
    else this.#writing = done;
  }

  override _final(done: Done): void {
    this.#connection.end();
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    // Nobody reads it any more, so it is room again.
    this.#connection.consumed(this.#unread.length);
    this.#unread.drop();
    if (!this.#isOver) {
      if (error === null && this.writableFinished) this.#connection.close();
      else this.#connection.destroy();
    }
    done(error);
  }

  #endReading(): void {
    this.#unread.flush();
    this.push(null);
  }

  #written(): void {
    const done = this.#writing;
    this.#writing = undefined;
    done?.();
  }

  #close(reason: VsockCloseReason): void {
    this.#isOver = true;
    this.#written();
    // A guest can reset or close whenever it likes, also while the caller writes: where nobody listens for errors
    // that must not end the process.
    this.on("error", () => {});
    if (reason !== "ended") {
      this.destroy(vsockError(this.guestPort, reason));
      return;
    }
    // What was read before is still there for the reader, who then sees the end.
    if (!this.readableEnded) this.#endReading();
    if (!this.writableEnded) this.end();
  }
}

/** Why there is no connection with a port of the guest's, or no more. */
export function vsockError(guestPort: number, reason: string): EstaloError {
  return new EstaloError("ERR_ESTALO_VSOCK", `vsock port ${guestPort} of the guest: ${reason}`, {
    data: { port: guestPort, reason },
  });
}
