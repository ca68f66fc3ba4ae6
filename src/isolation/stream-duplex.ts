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
    if (waiting === undefined) return;
    const { bytes, done } = waiting;
    waiting.bytes = bytes.subarray(stream.send(bytes));
    if (waiting.bytes.length > 0 && stream.isOpen) return;
    waiting = undefined;
    done();
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
