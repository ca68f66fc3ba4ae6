/**
 * A connection of a server with a cell: JSON messages, and streams of bytes beside them, which the server opens.
 *
 * Nobody's memory is filled by the other end: of each stream at most WINDOW_BYTES are under way that the other
 * end has not taken; more is a breach, which ends the connection as everything does that is no frame.
 */
import type { Duplex } from "node:stream";
import { type EstaloError, toEstaloError } from "../errors.js";
import { encodeFrame, FRAME, type Frame, FrameReader, frameError, parseJson } from "./frames.js";

/** Bytes of a stream that may be under way. */
export const WINDOW_BYTES = 256 * 1024;
/** The other end hears of bytes taken when it is so much. */
const CREDIT_STEP_BYTES = WINDOW_BYTES / 4;
/** Of one frame of bytes. */
export const BYTES_MAX = 64 * 1024;
/** Bytes that wait for a slow other end, beyond which it counts as gone: messages have no window. */
const WAITING_BYTES_MAX = 192 * 1024 * 1024;

/** What happens to a stream. */
export interface StreamEnd {
  /** Valid during the call only. What is not `taken` at once has to be told later. */
  onBytes(bytes: Buffer): void;
  /** More may be sent than before. */
  onRoom?(): void;
  /** The other end has ended it, or the connection has ended. */
  onEnd(): void;
}

/** One stream of a channel. */
export class ChannelStream {
  readonly #send: (type: number, payload: Uint8Array) => void;
  readonly #close: () => void;
  readonly end$: StreamEnd;
  #room = WINDOW_BYTES;
  #given = WINDOW_BYTES;
  #taken = 0;
  isOpen = true;

  constructor(
    end: StreamEnd,
    send: (type: number, payload: Uint8Array) => void,
    close: () => void,
  ) {
    this.end$ = end;
    this.#send = send;
    this.#close = close;
  }

  /** Bytes that may be sent now. */
  get room(): number {
    return this.isOpen ? this.#room : 0;
  }

  /** Sends as many of the bytes as there is room for, and says how many. */
  send(bytes: Uint8Array): number {
    let sent = 0;
    while (sent < bytes.length && this.room > 0) {
      const part = bytes.subarray(sent, sent + Math.min(BYTES_MAX, this.room));
      this.#room -= part.length;
      this.#send(FRAME.BYTES, part);
      sent += part.length;
    }
    return sent;
  }

  /** Sends all bytes as one frame, or none. */
  sendWhole(bytes: Uint8Array): boolean {
    if (bytes.length > this.room) return false;
    this.#room -= bytes.length;
    this.#send(FRAME.BYTES, bytes);
    return true;
  }

  /** So many of the bytes that came are done with. */
  taken(bytes: number): void {
    this.#taken += bytes;
    if (this.#taken < CREDIT_STEP_BYTES || !this.isOpen) return;
    const credit = Buffer.alloc(4);
    credit.writeUInt32LE(this.#taken);
    this.#given += this.#taken;
    this.#taken = 0;
    this.#send(FRAME.CREDIT, credit);
  }

  /** Ends it for both ends. Idempotent. */
  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#send(FRAME.END, new Uint8Array(0));
    this.#close();
  }

  /** A frame of the other end's; raises ERR_ESTALO_CELL. */
  handle({ type, payload }: Frame): void {
    if (type === FRAME.BYTES) {
      this.#given -= payload.length;
      if (this.#given < 0) throw frameError("more bytes of a stream than were asked for");
      this.end$.onBytes(payload);
    } else if (type === FRAME.CREDIT) {
      if (payload.length !== 4) throw frameError("a credit that is none");
      this.#room += payload.readUInt32LE(0);
      if (this.#room > WINDOW_BYTES) throw frameError("more credit than there was to give");
      this.end$.onRoom?.();
    } else {
      this.isOpen = false;
      this.#close();
      this.end$.onEnd();
    }
  }
}

/** What a channel tells its owner. */
export interface ChannelEvents {
  /** Longest payload that is taken, bytes. */
  readonly payloadBytesMax: number;
  onMessage(message: unknown): void;
  /** Once; `error`: what the other end did. */
  onClose(error: EstaloError | undefined): void;
}

/** See the file's header. */
export class Channel {
  readonly #socket: Duplex;
  readonly #events: ChannelEvents;
  readonly #reader: FrameReader;
  readonly #streams = new Map<number, ChannelStream>();
  #lastStream = 0;
  #isClosed = false;

  constructor(socket: Duplex, events: ChannelEvents) {
    this.#socket = socket;
    this.#events = events;
    this.#reader = new FrameReader(events.payloadBytesMax);
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.on("error", () => this.close());
    socket.on("end", () => this.close());
    socket.on("close", () => this.close());
  }

  /** Sends a message. */
  post(message: unknown): void {
    this.#write(FRAME.MESSAGE, 0, Buffer.from(JSON.stringify(message)));
  }

  /** Opens a stream; its number is `id` for both ends. */
  open(end: StreamEnd, id = this.#lastStream + 1): { id: number; stream: ChannelStream } {
    this.#lastStream = Math.max(this.#lastStream, id);
    const stream = new ChannelStream(
      end,
      (type, payload) => this.#write(type, id, payload),
      () => this.#streams.delete(id),
    );
    if (this.#isClosed) stream.isOpen = false;
    else this.#streams.set(id, stream);
    return { id, stream };
  }

  /** Ends the connection and all its streams. Idempotent. */
  close(error?: EstaloError): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    for (const stream of this.#streams.values()) {
      stream.isOpen = false;
      stream.end$.onEnd();
    }
    this.#streams.clear();
    this.#events.onClose(error);
  }

  #read(bytes: Buffer): void {
    if (this.#isClosed) return;
    try {
      for (const frame of this.#reader.take(bytes)) {
        this.#handle(frame);
        if (this.#isClosed) return;
      }
    } catch (error) {
      this.close(toEstaloError(error));
    }
  }

  #handle(frame: Frame): void {
    if (frame.type === FRAME.MESSAGE) {
      if (frame.stream !== 0) throw frameError("a message on a stream");
      this.#events.onMessage(parseJson(frame.payload));
      return;
    }
    // Of one that was closed here meanwhile, frames are still on their way; of one whose call failed, its end is.
    const stream = this.#streams.get(frame.stream);
    if (stream !== undefined) stream.handle(frame);
    else if (frame.stream > this.#lastStream && frame.type !== FRAME.END) {
      throw frameError("a stream that nobody opened");
    }
  }

  #write(type: number, stream: number, payload: Uint8Array): void {
    if (this.#isClosed) return;
    this.#socket.write(encodeFrame(type, stream, payload));
    if (this.#socket.writableLength > WAITING_BYTES_MAX) this.close(frameError("it does not read"));
  }
}
