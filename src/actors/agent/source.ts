/**
 * The caller's bytes that come one by one, for a guest that may not want them to their end.
 */
import { Readable } from "node:stream";
import { abortable, throwIfAborted } from "../abortable.js";

/**
 * What a source gives, until it or `signal` ends; the source is told that no more is taken from it, so its
 * `return` runs and a stream's file is closed. That is not waited for: the source may be in the middle of
 * something that never comes. An abort raises ERR_ESTALO_ABORTED.
 */
export async function* takeFrom(
  source: AsyncIterable<Uint8Array | string>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  const iterator = source[Symbol.asyncIterator]();
  try {
    for (;;) {
      throwIfAborted(signal);
      const { done, value } = await abortable(iterator.next(), signal);
      if (done === true) return;
      yield bytesOf(value);
    }
  } finally {
    // What waits for its next bytes runs no `return` before they come; a stream is ended all the same.
    if (source instanceof Readable) source.destroy();
    iterator.return?.().catch(() => {});
  }
}

/** Streams with an encoding give texts. */
function bytesOf(value: unknown): Uint8Array {
  if (typeof value === "string") return Buffer.from(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError("a source gives bytes");
}
