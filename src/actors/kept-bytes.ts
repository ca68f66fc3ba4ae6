/**
 * Bytes that come in pieces and are kept. They are copied together into blocks, so memory follows their number
 * and not that of the pieces, which a hostile sender makes as small as it likes.
 */

const BLOCK_BYTES_MIN = 1024;
const BLOCK_BYTES_MAX = 65_536;

/** See the file's header. At most BLOCK_BYTES_MAX more than the bytes, or as much again while they are few. */
export class KeptBytes {
  #full: Buffer[] = [];
  #last = Buffer.alloc(0);
  #used = 0;
  #length = 0;

  /** Bytes that are kept. */
  get length(): number {
    return this.#length;
  }

  /** Copies them behind the others. */
  append(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#used === this.#last.length) this.#begin(bytes.length - at);
      const part = bytes.subarray(at, at + this.#last.length - this.#used);
      this.#last.set(part, this.#used);
      this.#used += part.length;
      this.#length += part.length;
      at += part.length;
    }
  }

  /** All of them in one piece, which may be part of what is kept. */
  get joined(): Buffer {
    const last = this.#last.subarray(0, this.#used);
    return this.#full.length === 0 ? last : Buffer.concat([...this.#full, last]);
  }

  /** All of them in one piece; none are kept from then on. */
  take(): Buffer {
    const all = this.joined;
    this.#full = [];
    this.#last = Buffer.alloc(0);
    this.#used = 0;
    this.#length = 0;
    return all;
  }

  #begin(sizeBytes: number): void {
    if (this.#used > 0) this.#full.push(this.#last);
    const wanted = Math.max(BLOCK_BYTES_MIN, this.#length, sizeBytes);
    this.#last = Buffer.allocUnsafe(Math.min(BLOCK_BYTES_MAX, wanted));
    this.#used = 0;
  }
}
