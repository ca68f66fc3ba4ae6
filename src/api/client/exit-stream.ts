/**
 * A microVM's live exits, or what its rate limiters do, as the server sends them: lossy by nature, so a connection
 * that breaks is an error and nothing is asked for again. docs/streams.md tells what a message of exits holds and
 * what can be asked for.
 */
import type { CallOptions, QueryValues } from "./connection.js";
import { parse, replyError } from "./errors.js";
import type { ServerAddress } from "./server-address.js";
import { endError, openSocket, SocketMessages } from "./socket.js";

/** Which exits, and in which form. */
export interface ExitsOptions extends CallOptions {
  /** Parameters of the stream: `format`, filters, sampling, counting. */
  readonly query?: QueryValues;
}

/** One message: the value of a JSON text, or the bytes of a binary frame (`format=binary`). */
export type ExitsMessage = { readonly json: object } | { readonly bytes: Uint8Array };

/**
 * The messages until the microVM ends. Throws the server's refusal (ERR_ESTALO_NOT_FOUND, ERR_ESTALO_STATE,
 * …), ERR_ESTALO_CONNECT, ERR_ESTALO_REPLY; ends when `signal` aborts.
 */
export async function* streamMessages(
  address: ServerAddress,
  path: string,
  timeoutMs: number,
  { query, signal }: ExitsOptions = {},
): AsyncGenerator<ExitsMessage, void, void> {
  const what = `WebSocket ${path}`;
  let messages: SocketMessages | undefined;
  const close = () => messages?.close();
  signal?.addEventListener("abort", close, { once: true });
  try {
    const socket = await openSocket(address, { path, query: query ?? {}, signal, timeoutMs });
    messages = new SocketMessages(socket, timeoutMs);
    for (;;) {
      const message = await messages.next();
      if (signal?.aborted) return;
      if (message === undefined) break;
      const { data, isBinary } = message;
      const json = isBinary ? undefined : parse(data);
      if (isBinary) yield { bytes: data };
      else if (typeof json === "object" && json !== null) yield { json };
      else throw replyError(address, what, "sent a message that is not JSON");
    }
    const error = endError(address, what, messages.end);
    if (error !== undefined) throw error;
  } catch (error) {
    if (!signal?.aborted) throw error;
  } finally {
    signal?.removeEventListener("abort", close);
    close();
  }
}
