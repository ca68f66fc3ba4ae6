/** What a server's calls do in a cell, as far as it needs no KVM. */
import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { Cell } from "../../src/isolation/cell.js";
import type { CellCalls } from "../../src/isolation/cell-messages.js";
import { Channel } from "../../src/isolation/channel.js";
import { duplexPair } from "../support/played-cell.js";

const turns = async (count = 20) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

/** A cell in this process, the server's end of its channel, and what comes there. */
function cell() {
  const [own, theirs] = duplexPair();
  const said: unknown[] = [];
  const channel = new Channel(own, {
    payloadBytesMax: 2 ** 20,
    onMessage: (message) => said.push(message),
    onClose: () => said.push("closed"),
  });
  new Cell(theirs as Socket, -1, () => {});
  const call = <Method extends keyof CellCalls>(
    number: number,
    method: Method,
    args: CellCalls[Method],
  ) => channel.post({ call: number, vm: 7, method, args });
  return { channel, call, said };
}

const refused = (reply: number) => ({
  reply,
  error: expect.objectContaining({ code: "ERR_ESTALO_STATE" }),
});

describe("Cell", () => {
  it("goes on with its other microVMs when one had ended that a stream was opened for", async () => {
    const { channel, call, said } = cell();
    const { id, stream } = channel.open({ onBytes: () => {}, onEnd: () => {} });
    call(1, "rateLimits", { stream: id });
    stream.close();
    await turns();
    call(2, "metrics", {});
    await turns();
    expect(said).toEqual([{ hello: 1 }, refused(1), refused(2)]);
    channel.close();
  });
});
