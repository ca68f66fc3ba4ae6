/** The codec against any split and any garbage; the session against a console that is played by hand. */
import { Writable } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Console } from "../../src/actors/console.js";
import { GuestStdio } from "../../src/actors/guest-stdio.js";
import {
  encodeFrame,
  encodeFrames,
  FRAME_STARTED,
  FRAME_STDERR,
  FRAME_STDIN,
  FRAME_STDOUT,
  FrameParser,
} from "../../src/actors/guest-stdio-frames.js";

interface Piece {
  readonly type: number;
  readonly bytes: Uint8Array;
}

const TEXT = 0;

/** What a parser makes of these pushes: neighbouring text joined, frames as they are. */
function parse(pushes: readonly Uint8Array[]): Piece[] {
  const pieces: Piece[] = [];
  const parser = new FrameParser({
    onFrame: (type, payload) => pieces.push({ type, bytes: Uint8Array.from(payload) }),
    onText: (bytes) => {
      const last = pieces.at(-1);
      const before = last?.type === TEXT ? (pieces.pop() as Piece).bytes : new Uint8Array(0);
      pieces.push({ type: TEXT, bytes: Uint8Array.from([...before, ...bytes]) });
    },
  });
  for (const bytes of pushes) parser.push(bytes);
  parser.finish();
  return pieces;
}

/** `bytes` cut at the given places. */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
  const edges = [...places.map((place) => place % (bytes.length + 1)), bytes.length];
  edges.sort((a, b) => a - b);
  let from = 0;
  return edges.map((edge) => {
    const part = bytes.slice(from, edge);
    from = edge;
    return part;
  });
}

const places = fc.array(fc.nat(), { maxLength: 12 });
const payload = fc.uint8Array({ maxLength: 255 });
/** Console text: anything without the mark's first byte. */
const plainText = fc
  .uint8Array({ minLength: 1, maxLength: 40 })
  .map((bytes) => bytes.map((byte) => (byte === 0xe5 ? 0x20 : byte)));
const frame = fc.record({
  type: fc.constantFrom(FRAME_STDOUT, FRAME_STDERR, FRAME_STARTED),
  bytes: payload,
});

describe("FrameParser", () => {
  it("finds frames and text again however the line is split", () => {
    const line = fc.array(
      fc.oneof(
        frame,
        plainText.map((bytes): Piece => ({ type: TEXT, bytes })),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(line, places, (pieces, cuts) => {
        const bytes = Buffer.concat(
          pieces.map((piece) =>
            piece.type === TEXT ? piece.bytes : encodeFrame(piece.type, piece.bytes),
          ),
        );
        const joined: Piece[] = [];
        for (const piece of pieces) {
          const last = joined.at(-1);
          if (piece.type !== TEXT || last?.type !== TEXT) joined.push(piece);
          else {
            joined.pop();
            joined.push({ type: TEXT, bytes: Uint8Array.from([...last.bytes, ...piece.bytes]) });
          }
        }
        expect(parse(cut(bytes, cuts))).toEqual(
          joined.map(({ type, bytes: content }) => ({ type, bytes: Uint8Array.from(content) })),
        );
      }),
    );
  });

  it("makes the same of garbage in one piece and in many, and loses none of it", () => {
    const nasty = fc.oneof(
      fc.uint8Array({ maxLength: 30 }),
      fc.array(fc.constantFrom(0xe5, 0x7a, 0, 1, 2, 3, 4, 255), { maxLength: 30 }),
    );
    fc.assert(
      fc.property(nasty, places, (garbage, cuts) => {
        const bytes = Uint8Array.from(garbage);
        const pieces = parse([bytes]);
        expect(parse(cut(bytes, cuts))).toEqual(pieces);
        const again = pieces.map((piece) =>
          piece.type === TEXT ? piece.bytes : encodeFrame(piece.type, piece.bytes),
        );
        expect(Buffer.concat(again)).toEqual(Buffer.from(bytes));
      }),
    );
  });

  it.each([
    ["a mark with a type that no guest sends", [0xe5, 0x7a, 16, 0]],
    ["a lone first byte of the mark", [0xe5, 0x41]],
    ["a frame that is cut off", [0xe5, 0x7a, 1, 5, 1, 2]],
  ])("takes %s for text", (_, bytes) => {
    expect(parse([Uint8Array.from(bytes)])).toEqual([
      { type: TEXT, bytes: Uint8Array.from(bytes) },
    ]);
  });

  it("finds a frame right after a mark's first byte", () => {
    const line = Uint8Array.of(0xe5, ...encodeFrame(FRAME_STDOUT, Uint8Array.of(7)));
    expect(parse([line])).toEqual([
      { type: TEXT, bytes: Uint8Array.of(0xe5) },
      { type: FRAME_STDOUT, bytes: Uint8Array.of(7) },
    ]);
  });
});

describe("encodeFrames", () => {
  it("uses as many frames as the bytes need, in order", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        const pieces = parse([encodeFrames(FRAME_STDOUT, bytes)]);
        expect(pieces.every(({ type }) => type === FRAME_STDOUT)).toBe(true);
        expect(pieces).toHaveLength(Math.ceil(bytes.length / 255));
        expect(Buffer.concat(pieces.map((piece) => piece.bytes))).toEqual(Buffer.from(bytes));
      }),
    );
  });
});

/** A stream that takes nothing until it is told to. */
class Collector extends Writable {
  text = "";
  #resume: (() => void) | undefined;

  constructor(private readonly slow = false) {
    super({ highWaterMark: 4 });
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    if (this.slow) this.#resume = done;
    else done();
  }

  takeMore(): void {
    this.#resume?.();
  }
}

/** A console whose guest is played by the spec. */
function playedGuest() {
  const console = new Console();
  const received: number[] = [];
  let room = Number.POSITIVE_INFINITY;
  let drained = 0;
  console.connect({
    push(bytes) {
      const taken = Math.min(bytes.length, room);
      room -= taken;
      received.push(...bytes.subarray(0, taken));
      return taken;
    },
    drain: () => {
      drained++;
    },
  });
  return {
    console,
    received,
    setRoom(bytes: number) {
      room = bytes;
      console.pump();
    },
    get drainCalls() {
      return drained;
    },
    send: (type: number, content: string) => console.write(encodeFrame(type, Buffer.from(content))),
    start: () => console.write(encodeFrame(FRAME_STARTED, Uint8Array.of(42, 0, 0, 0))),
  };
}

async function* chunks(...texts: string[]) {
  for (const text of texts) yield Buffer.from(text);
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("GuestStdio", () => {
  it("parts stdout, stderr and console text", () => {
    const guest = playedGuest();
    const stdout = new Collector();
    const stderr = new Collector();
    const text = new Collector();
    new GuestStdio(guest.console, { stdout, stderr, text });
    guest.console.write(Buffer.from("[0.1] booting\n"));
    guest.send(FRAME_STDOUT, "out");
    guest.send(FRAME_STDERR, "err");
    guest.console.write(Buffer.from("[0.2] oops\n"));
    guest.send(FRAME_STDOUT, "put");
    expect([stdout.text, stderr.text, text.text]).toEqual([
      "output",
      "err",
      "[0.1] booting\n[0.2] oops\n",
    ]);
  });

  it("sends no input before the command runs, then all of it and its end", async () => {
    const guest = playedGuest();
    const stdio = new GuestStdio(guest.console, {
      stdout: new Collector(),
      stderr: new Collector(),
    });
    const fed = stdio.feed(chunks("hello ", "guest"));
    await turn();
    expect(guest.received).toEqual([]);
    guest.start();
    await fed;
    expect(await stdio.started).toBe(42);
    expect(guest.received).toEqual([
      ...encodeFrame(FRAME_STDIN, Buffer.from("hello ")),
      ...encodeFrame(FRAME_STDIN, Buffer.from("guest")),
      ...encodeFrame(FRAME_STDIN, new Uint8Array(0)),
    ]);
  });

  it("says that the command runs before it writes any of its output, and once", () => {
    const guest = playedGuest();
    const stdout = new Collector();
    const seen: string[] = [];
    const onStarted = (processId: number) => seen.push(`${processId}:${stdout.text}`);
    new GuestStdio(guest.console, { stdout, stderr: new Collector(), onStarted });
    const start = encodeFrame(FRAME_STARTED, Uint8Array.of(42, 0, 0, 0));
    guest.console.write(Buffer.concat([start, encodeFrame(FRAME_STDOUT, Buffer.from("x")), start]));
    expect(seen).toEqual(["42:"]);
    expect(stdout.text).toBe("x");
  });

  it("takes no more input from its source than the guest takes", async () => {
    const guest = playedGuest();
    let asked = 0;
    async function* endless() {
      for (;;) {
        asked++;
        yield Buffer.alloc(100);
      }
    }
    const stdio = new GuestStdio(guest.console, {
      stdout: new Collector(),
      stderr: new Collector(),
    });
    guest.setRoom(150);
    void stdio.feed(endless());
    guest.start();
    await turn();
    expect(asked).toBe(2);
    guest.setRoom(100);
    await turn();
    expect(asked).toBe(3);
  });

  it("holds the guest's output while a stream is full, and lets it go on when it drains", async () => {
    const guest = playedGuest();
    const stdout = new Collector(true);
    new GuestStdio(guest.console, { stdout, stderr: new Collector() });
    expect(guest.send(FRAME_STDOUT, "more than four bytes")).toBe(false);
    expect(guest.drainCalls).toBe(0);
    stdout.takeMore();
    await turn();
    expect(guest.drainCalls).toBe(1);
    expect(guest.console.write(new Uint8Array(0))).toBe(true);
  });

  it("lets the guest go on when a full stream fails", async () => {
    const guest = playedGuest();
    const stdout = new Collector(true);
    stdout.on("error", () => {});
    new GuestStdio(guest.console, { stdout, stderr: new Collector() });
    guest.send(FRAME_STDOUT, "more than four bytes");
    stdout.destroy(new Error("EPIPE"));
    await turn();
    expect(guest.drainCalls).toBe(1);
    expect(guest.send(FRAME_STDOUT, "nobody reads this")).toBe(true);
  });

  it("takes the last output whole when the guest ends while a stream is full", () => {
    const guest = playedGuest();
    const stdout = new Collector(true);
    const stdio = new GuestStdio(guest.console, { stdout, stderr: new Collector() });
    guest.send(FRAME_STDOUT, "a long line");
    stdio.release();
    expect(guest.drainCalls).toBe(1);
    expect(guest.send(FRAME_STDOUT, "the last one")).toBe(true);
  });

  it("sends signals and window sizes only to a command that runs", () => {
    const guest = playedGuest();
    const stdio = new GuestStdio(guest.console, {
      stdout: new Collector(),
      stderr: new Collector(),
    });
    stdio.resize(24, 80);
    expect(stdio.signal(15)).toBe(false);
    expect(guest.received).toEqual([]);
    guest.start();
    stdio.resize(50, 300);
    expect(stdio.signal(2)).toBe(true);
    expect(guest.received).toEqual([
      ...[0xe5, 0x7a, 17, 4, 50, 0, 44, 1],
      ...[0xe5, 0x7a, 18, 1, 2],
    ]);
  });
});
