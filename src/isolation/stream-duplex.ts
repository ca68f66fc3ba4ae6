/**
 * A channel's stream as one of Node's: a reader that does not read and a writer that is too fast are made to wait.
 */
import { Duplex } from "node:stream";
import type { Channel } from "./channel.js";

/** Opens a stream; `id` when the other end has named it. */
export function openDuplex(channel: Channel, id?: number): { id: number; duplex: Duplex } {
  let waiting: { bytes: Buffer; done: () => void } | undefined;
  /** Bytes that the reader's buffer holds, as far as it is full. */
  let unread = 0;
  const pump = () => {
    if (waiting === undefined) return;
    const { bytes, done } = waiting;
    waiting.bytes = bytes.subarray(stream.send(bytes));
    if (waiting.bytes.length > 0 && stream.isOpen) return;
    waiting = undefined;
    done();
  };
  const take = () => {
    const bytes = unread;
    unread = 0;
    stream.taken(bytes);
  };
  const duplex = new Duplex({
    allowHalfOpen: false,
    read: take,
    write(bytes: Buffer, _encoding, done) {
      waiting = { bytes, done };
      pump();
    },
    destroy(error, done) {
      stream.close();
      pump();
      done(error);
    },
  });
  const opened = channel.open(
    {
      onBytes(bytes) {
        unread += bytes.length;
        if (duplex.push(bytes)) take();
      },
      onRoom: pump,
      onEnd() {
        duplex.push(null);
        pump();
      },
    },
    id,
  );
  const { stream } = opened;
  return { id: opened.id, duplex };
}
