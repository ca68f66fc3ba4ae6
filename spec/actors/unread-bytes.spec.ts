import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { UnreadBytes } from "../../src/actors/unread-bytes.js";

/** A stream, what feeds it, and the pieces that it was given. */
function fed() {
  const pieces: string[] = [];
  const unread = new UnreadBytes((bytes) => {
    pieces.push(Buffer.from(bytes).toString());
    stream.push(bytes);
  });
  const stream = new Readable({ highWaterMark: 1, read: () => unread.want() });
  return { stream, unread, pieces };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const append = (unread: UnreadBytes, text: string) => {
  for (const one of text) unread.append(Buffer.from(one));
};

describe("UnreadBytes", () => {
  it("gives a piece when the stream asks, and what came meanwhile in one", async () => {
    const { stream, unread, pieces } = fed();
    append(unread, "one");
    expect([unread.length, String(unread.joined), pieces.length]).toEqual([3, "one", 0]);
    let read = "";
    stream.on("data", (bytes) => {
      read += bytes;
    });
    await turn();
    expect([read, unread.length]).toEqual(["one", 0]);
    append(unread, "two");
    await turn();
    stream.pause();
    append(unread, "three");
    await turn();
    stream.resume();
    await turn();
    expect(read).toBe("onetwothree");
    expect(pieces.length).toBeLessThan(7);
  });

  it("gives all at the end, and nothing that was dropped", async () => {
    const { stream, unread } = fed();
    append(unread, "no");
    unread.drop();
    append(unread, "yes");
    unread.flush();
    unread.flush();
    stream.push(null);
    expect(String(Buffer.concat(await stream.toArray()))).toBe("yes");
  });
});
