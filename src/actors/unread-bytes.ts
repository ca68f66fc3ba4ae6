/**
 * Bytes for the reader of one of Node's streams, kept together until it asks: pushed as they come, a hostile sender's
 * one byte is an object in the stream's buffer.
 *
 * The stream has a high-water mark of 1, so it asks when it has nothing left.
 */
import { KeptBytes } from "./kept-bytes.js";

/** See the file's header. */
export class UnreadBytes {
  readonly #kept = new KeptBytes();
  readonly #push: (bytes: Uint8Array) => void;
  /** The stream has asked, and there was nothing. */
  #isWanted = false;

  /** @param push - gives bytes to the stream */
  constructor(push: (bytes: Uint8Array) => void) {
    this.#push = push;
  }

  /** Bytes that the stream has not got yet. */
  get length(): number {
    return this.#kept.length;
  }

  /** All of these in one piece. */
  get joined(): Buffer {
    return this.#kept.joined;
  }

  /** Bytes that do not change any more: a reader that waits gets them as they are. */
  append(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.#isWanted) {
      this.#isWanted = false;
      this.#push(bytes);
    } else {
      this.#kept.append(bytes);
    }
  }

  /** The stream asks for more. */
  want(): void {
    if (this.#kept.length > 0) this.flush();
    else this.#isWanted = true;
  }

  /** Gives all to the stream, which may end then. */
  flush(): void {
    if (this.#kept.length > 0) this.#push(this.#kept.take());
  }

  /** Nobody reads any more. */
  drop(): void {
    this.#kept.take();
  }
}
