/**
 * A cell that is only played: the server's end is real, and at the other one a spec says what it likes.
 */
import { readlinkSync } from "node:fs";
import { Duplex } from "node:stream";
import type { CellProcess } from "../../src/isolation/cell-link.js";
import type { CallMessage } from "../../src/isolation/cell-messages.js";
import { encodeFrame, FRAME, FrameReader } from "../../src/isolation/frames.js";

/** Two joined streams. */
export function duplexPair(): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const make = (other: () => Duplex) =>
    new Duplex({
      read() {},
      write(bytes, _encoding, done) {
        setImmediate(() => {
          if (!other().destroyed) other().push(bytes);
          done();
        });
      },
      final(done) {
        other().push(null);
        done();
      },
      destroy(error, done) {
        setImmediate(() => {
          if (!other().destroyed) other().push(null);
        });
        done(error);
      },
    });
  ends.push(make(() => ends[1]));
  ends.push(make(() => ends[0]));
  for (const end of ends) end.on("error", () => {});
  return [ends[0], ends[1]];
}

/** See the file's header. */
export class PlayedCell implements CellProcess {
  readonly pid = process.pid;
  readonly root = "/nowhere";
  readonly socket: Duplex;
  readonly ended: Promise<string>;
  /** What the descriptors are of that it was given. */
  readonly given: string[] = [];
  readonly calls: CallMessage[] = [];
  /** Streams that the server has ended. */
  readonly ends: number[] = [];
  isKilled = false;
  /** What a call is answered with; undefined: not at all. */
  answer: (call: CallMessage) => object | undefined = () => ({});
  readonly #end: Duplex;
  #resolveEnded: (how: string) => void = () => {};

  constructor() {
    [this.socket, this.#end] = duplexPair();
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    const reader = new FrameReader(2 ** 20);
    this.#end.on("data", (bytes) => {
      for (const { type, stream, payload } of reader.take(bytes)) {
        if (type === FRAME.END) this.ends.push(stream);
        if (type !== FRAME.MESSAGE) continue;
        const call = JSON.parse(payload.toString()) as CallMessage;
        this.calls.push(call);
        const answer = this.answer(call);
        if (answer !== undefined) this.say({ reply: call.call, ...answer });
      }
    });
    this.#end.on("end", () => this.end("its server is gone"));
  }

  giveDescriptor(fd: number): void {
    this.given.push(readlinkSync(`/proc/self/fd/${fd}`));
  }

  kill(): void {
    this.isKilled = true;
    this.end("SIGKILL");
  }

  end(how: string): void {
    this.#end.destroy();
    this.#resolveEnded(how);
  }

  /** Sends a message. */
  say(message: unknown): void {
    this.send(FRAME.MESSAGE, 0, Buffer.from(JSON.stringify(message)));
  }

  send(type: number, stream: number, payload: Uint8Array): void {
    this.sendRaw(encodeFrame(type, stream, payload));
  }

  sendRaw(bytes: Uint8Array): void {
    if (!this.#end.destroyed) this.#end.write(bytes);
  }
}
