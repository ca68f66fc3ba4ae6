/**
 * A channel's stream as one of Node's: a reader that does not read and a writer that is too fast are made to wait.
 */
import { Duplex } from "node:stream";
import { UnreadBytes } from "../actors/unread-bytes.js";
import type { Channel } from "./channel.js";

/** Opens a stream; `id` when the other end has named it. */
export function openDuplex(channel: Channel, id?: number): { id: number; duplex: Duplex } {
  let waiting: { bytes: Buffer; done: () => void } | undefined;
  const pump = () => {
    const now = waiting;
    if (now === undefined) return;
    now.bytes = now.bytes.subarray(stream.send(now.bytes));
    // Where sending has ended the connection, its end was here meanwhile.
    if (waiting !== now || (now.bytes.length > 0 && stream.isOpen)) return;
    waiting = undefined;
    now.done();
  };
  const unread = new UnreadBytes((bytes) => {
    duplex.push(bytes);
    stream.taken(bytes.length);
  });
  const endReading = () => {
    unread.flush();
    duplex.push(null);
    // As one of Node's sockets: where nothing is unread, its end needs no reader.
    duplex.read(0);
  };
  const duplex = new Duplex({
    allowHalfOpen: false,
    readableHighWaterMark: 1,
    read: () => unread.want(),
    write(bytes: Buffer, _encoding, done) {
      waiting = { bytes, done };
      pump();
    },
    final(done) {
      stream.close();
      endReading();
      done();
    },
    destroy(error, done) {
      stream.close();
      unread.drop();
      pump();
      done(error);
    },
  });
  const opened = channel.open(
    {
      onBytes: (bytes) => unread.append(bytes),
      onRoom: pump,
      onEnd() {
        endReading();
        pump();
      },
    },
    id,
  );
  const { stream } = opened;
  return { id: opened.id, duplex };
}
