/** Messages and streams between two ends, and what ends a connection. */
import { once } from "node:events";
import { Duplex } from "node:stream";
import { describe, expect, it } from "vitest";
import { Channel, type ChannelEvents, WINDOW_BYTES } from "../../src/isolation/channel.js";
import { encodeFrame, FRAME } from "../../src/isolation/frames.js";
import { openDuplex } from "../../src/isolation/stream-duplex.js";
import { duplexPair } from "../support/played-cell.js";

const turns = async (count = 20) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

function joined(own: Partial<ChannelEvents> = {}, other: Partial<ChannelEvents> = {}) {
  const [a, b] = duplexPair();
  const quiet = { payloadBytesMax: 2 ** 20, onMessage: () => {}, onClose: () => {} };
  return [new Channel(a, { ...quiet, ...own }), new Channel(b, { ...quiet, ...other })] as const;
}

/** A channel whose other end sends raw bytes; why it was closed. */
async function told(bytes: Uint8Array, opensStream = false) {
  const [a, b] = duplexPair();
  let closed: unknown = "open";
  const channel = new Channel(a, {
    payloadBytesMax: 2 * WINDOW_BYTES,
    onMessage: () => {},
    onClose: (error) => {
      closed = error;
    },
  });
  if (opensStream) channel.open({ onBytes: () => {}, onEnd: () => {} });
  b.write(bytes);
  await turns();
  return closed;
}

const BREACH = expect.objectContaining({ code: "ERR_ESTALO_CELL" });

describe("Channel", () => {
  it("carries messages in order", async () => {
    const got: unknown[] = [];
    const [own] = joined({}, { onMessage: (message) => got.push(message) });
    for (let i = 0; i < 3; i++) own.post({ i });
    await turns();
    expect(got).toEqual([{ i: 0 }, { i: 1 }, { i: 2 }]);
  });

  it("lets no more bytes out than the other end has taken, and goes on when it takes some", async () => {
    const [own, other] = joined();
    let room = 0;
    const { id, stream } = own.open({ onBytes: () => {}, onRoom: () => room++, onEnd: () => {} });
    let got = 0;
    const { stream: theirs } = other.open(
      { onBytes: (bytes) => (got += bytes.length), onEnd: () => {} },
      id,
    );
    expect(stream.send(new Uint8Array(WINDOW_BYTES + 10))).toBe(WINDOW_BYTES);
    expect(stream.send(new Uint8Array(1))).toBe(0);
    await turns();
    expect(got).toBe(WINDOW_BYTES);
    theirs.taken(WINDOW_BYTES / 2);
    await turns();
    expect([room, stream.room]).toEqual([1, WINDOW_BYTES / 2]);
  });

  it("ends a stream for both ends, and all of them with the connection", async () => {
    const ends: string[] = [];
    const [own, other] = joined();
    const { id, stream } = own.open({ onBytes: () => {}, onEnd: () => ends.push("own") });
    other.open({ onBytes: () => {}, onEnd: () => ends.push("theirs") }, id);
    own.open({ onBytes: () => {}, onEnd: () => ends.push("second") });
    stream.close();
    await turns();
    expect(ends).toEqual(["theirs"]);
    other.close();
    await turns();
    expect(ends).toEqual(["theirs", "second"]);
    expect(own.open({ onBytes: () => {}, onEnd: () => {} }).stream.isOpen).toBe(false);
  });

  it.each([
    ["text that is no JSON", encodeFrame(FRAME.MESSAGE, 0, Buffer.from("{")), false],
    ["a message on a stream", encodeFrame(FRAME.MESSAGE, 1, Buffer.from("{}")), true],
    ["bytes of no stream", encodeFrame(FRAME.BYTES, 7, Buffer.from("x")), true],
    ["more bytes than a window", encodeFrame(FRAME.BYTES, 1, Buffer.alloc(WINDOW_BYTES + 1)), true],
    ["credit for nothing", encodeFrame(FRAME.CREDIT, 1, Buffer.from([1, 0, 0, 0])), true],
    ["a short credit", encodeFrame(FRAME.CREDIT, 1, Buffer.from([1])), true],
  ])("is closed by %s", async (_what, bytes, opensStream) => {
    expect(await told(bytes, opensStream)).toEqual(BREACH);
  });

  it("goes on when a stream ends that was never opened here, since a call had failed", async () => {
    expect(await told(encodeFrame(FRAME.END, 7, Buffer.alloc(0)))).toBe("open");
  });

  it("is closed without a breach when the other end goes", async () => {
    let closed: unknown = "open";
    const [, other] = joined({
      onClose: (error) => {
        closed = error;
      },
    });
    other.close();
    await turns();
    expect(closed).toBeUndefined();
  });
});

describe("openDuplex", () => {
  it("keeps what is not read in a few pieces, however small its frames", async () => {
    let hasAll = false;
    const onMessage = () => {
      hasAll = true;
    };
    const [own, other] = joined({ onMessage });
    const { id, duplex } = openDuplex(own);
    const { stream } = other.open({ onBytes: () => {}, onEnd: () => {} }, id);
    const BYTES = 100_000;
    for (let at = 0; at < BYTES; at++) stream.send(Uint8Array.of(at % 251));
    stream.close();
    other.post("all");
    while (!hasAll) await turns(1);
    const pieces: Buffer[] = [];
    duplex.on("data", (piece) => pieces.push(piece));
    await once(duplex, "end");
    const sent = Buffer.from(Uint8Array.from({ length: BYTES }, (_, at) => at % 251));
    expect(Buffer.concat(pieces).equals(sent)).toBe(true);
    expect(pieces.length).toBeLessThan(10);
  });

  it("carries more than a window both ways, and the end", async () => {
    const [own, other] = joined();
    const { id, duplex } = openDuplex(own);
    const { duplex: theirs } = openDuplex(other, id);
    // An echo that is slower than who writes.
    theirs.on("data", (bytes) => {
      theirs.pause();
      setImmediate(() => theirs.resume());
      theirs.write(bytes);
    });
    const sent = Buffer.alloc(3 * WINDOW_BYTES, "estalo");
    const got: Buffer[] = [];
    let bytes = 0;
    duplex.on("data", (part: Buffer) => {
      got.push(part);
      bytes += part.length;
    });
    duplex.write(sent);
    while (bytes < sent.length) await turns(1);
    expect(Buffer.concat(got).equals(sent)).toBe(true);
    const ended = once(theirs, "close");
    duplex.destroy();
    await ended;
  });

  it("ends for the other end when what is written ends, with all of it", async () => {
    const [own, other] = joined();
    const { id, duplex } = openDuplex(own);
    const { duplex: theirs } = openDuplex(other, id);
    const sent = Buffer.alloc(2 * WINDOW_BYTES, "estalo");
    duplex.end(sent);
    const got: Buffer[] = [];
    for await (const part of theirs) got.push(part);
    expect(Buffer.concat(got).equals(sent)).toBe(true);
    await turns();
    expect([duplex.destroyed, theirs.destroyed]).toEqual([true, true]);
  });

  it("is closed when the other end has ended it, though nobody reads", async () => {
    const [own, other] = joined();
    const { id, duplex } = openDuplex(own);
    const { duplex: theirs } = openDuplex(other, id);
    duplex.destroy();
    await turns();
    expect(theirs.destroyed).toBe(true);
  });

  it("raises nothing when a write is the one too many for an other end that does not read", async () => {
    const stuck = new Duplex({ read: () => {}, write: () => {} });
    let closed: unknown = "open";
    const channel = new Channel(stuck, {
      payloadBytesMax: 2 ** 20,
      onMessage: () => {},
      onClose: (error) => {
        closed = error;
      },
    });
    const { duplex } = openDuplex(channel);
    Object.defineProperty(stuck, "writableLength", { value: 2 ** 30 });
    duplex.write(Buffer.alloc(1000));
    await once(duplex, "close");
    expect(closed).toEqual(BREACH);
  });
});
