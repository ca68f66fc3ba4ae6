/** The server's end of a cell that is hostile: it is dropped for what it says, and the server goes on. */
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { checkBoolean, checkMetrics, checkNothing } from "../../src/isolation/cell-checks.js";
import { CellLink, type CellListener } from "../../src/isolation/cell-link.js";
import { encodeFrame, FRAME } from "../../src/isolation/frames.js";
import { PlayedCell } from "../support/played-cell.js";

const CELL = expect.objectContaining({ code: "ERR_ESTALO_CELL" });
const EXIT = { reason: "poweroff", exitCode: 0 };
const METRICS = {
  vcpus: [{ exitIoIn: 1, exitIoOut: 2, exitMmioRead: 0, exitMmioWrite: 0, exitOther: 0, kicks: 0 }],
  drives: {},
  networkInterfaces: {},
  pmem: {},
  serial: { transmittedBytes: 1, receivedBytes: 0, droppedBytes: 0 },
};

const turns = async (count = 20) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

function listening() {
  const cell = new PlayedCell();
  const link = new CellLink(cell);
  const heard: unknown[] = [];
  const listener: CellListener = {
    onEvent: (event) => heard.push(event),
    onExit: (exit, metrics) => heard.push({ exit, metrics }),
    onLost: (error) => heard.push(error),
  };
  link.listen(1, listener);
  return { cell, link, heard };
}

describe("CellLink", () => {
  it("is ready when its cell says hello, and calls", async () => {
    const { cell, link } = listening();
    cell.say({ hello: 1 });
    await link.ready;
    cell.answer = () => ({ value: true });
    expect(await link.call(1, "ctrlAltDelete", {}, checkBoolean)).toBe(true);
    expect(cell.calls).toEqual([{ call: 1, vm: 1, method: "ctrlAltDelete", args: {} }]);
  });

  it("rejects a call with what the cell says, in bounds", async () => {
    const { cell, link } = listening();
    const data = { big: "x".repeat(10_000) };
    cell.answer = () => ({ error: { code: "ERR_ESTALO_STATE", message: "not now", data } });
    await expect(link.call(1, "pause", {}, checkNothing)).rejects.toMatchObject({
      code: "ERR_ESTALO_STATE",
      message: "not now",
      data: {},
    });
    expect(link.lost).toBeUndefined();
  });

  it("tells events and the exit of a microVM, and nothing after it", async () => {
    const { cell, heard } = listening();
    cell.say({ vm: 1, event: { type: "state", state: "running" } });
    cell.say({ vm: 2, event: { type: "booted" } });
    cell.say({ vm: 1, exit: EXIT, metrics: METRICS });
    cell.say({ vm: 1, event: { type: "booted" } });
    await turns();
    expect(heard).toEqual([
      { type: "state", state: "running" },
      { exit: { ...EXIT, guestStatus: undefined, error: undefined }, metrics: METRICS },
    ]);
  });

  it.each([
    ["an unknown message", { surprise: 1 }],
    ["no message", null],
    ["a list", []],
    ["a hello of another version", { hello: 2 }],
    ["an unknown event", { vm: 1, event: { type: "deleted" } }],
    ["an event with more than it has", { vm: 1, event: { type: "booted", name: "another" } }],
    ["a state that is none", { vm: 1, event: { type: "state", state: "lost" } }],
    [
      "a text without bounds",
      { vm: 1, event: { type: "device-needs-reset", device: "x", reason: "y".repeat(5000) } },
    ],
    ["an exit without counters", { vm: 1, exit: EXIT }],
    ["an exit code that is none", { vm: 1, exit: { ...EXIT, exitCode: 1e9 }, metrics: METRICS }],
    [
      "a code of its own",
      {
        vm: 1,
        event: { type: "device-failed", device: "x", error: { code: "EVIL", message: "" } },
      },
    ],
    ["an answer that nobody waits for", { reply: 7 }],
    ["an answer with __proto__ for a number", JSON.parse('{"reply":{"__proto__":1}}')],
  ])("drops a cell that says %s", async (_what, message) => {
    const { cell, link, heard } = listening();
    cell.say(message);
    await turns();
    expect(cell.isKilled).toBe(true);
    expect(link.lost).toEqual(CELL);
    expect(heard).toEqual([CELL]);
  });

  it("drops a cell whose answer is of the wrong kind", async () => {
    const { cell, link } = listening();
    cell.answer = () => ({
      value: { metrics: { ...METRICS, vcpus: Array(33).fill({}) }, threads: [] },
    });
    await expect(link.call(1, "metrics", {}, checkMetrics)).rejects.toEqual(CELL);
    await turns();
    expect(cell.isKilled).toBe(true);
    await expect(link.call(1, "pause", {}, checkNothing)).rejects.toEqual(CELL);
  });

  it.each([
    ["pause", 60_000],
    ["agent", 180_000],
  ] as const)(
    "drops a cell that does not answer to %s, after %i ms",
    async (method, patienceMs) => {
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
      try {
        const { cell, link } = listening();
        cell.answer = () => undefined;
        const call = link.call(1, method, { stream: 1 }, checkNothing);
        vi.advanceTimersByTime(patienceMs - 1);
        expect(link.channel.open({ onBytes() {}, onEnd() {} }).stream.isOpen).toBe(true);
        vi.advanceTimersByTime(1);
        await expect(call).rejects.toMatchObject({ message: expect.stringContaining(method) });
        expect(cell.isKilled).toBe(true);
      } finally {
        vi.useRealTimers();
      }
    },
  );

  it("fails what waits when the cell ends, and says how it ended", async () => {
    const { cell, link, heard } = listening();
    cell.answer = () => undefined;
    const call = link.call(1, "pause", {}, checkNothing);
    cell.end("status 148: Shutting down VM after intercepting a bad syscall");
    await expect(call).rejects.toMatchObject({
      message: expect.stringContaining("status 148"),
    });
    expect(heard).toEqual([CELL]);
    await expect(link.ready).rejects.toEqual(CELL);
  });

  it("drops a cell for any bytes that are no protocol, and throws nothing", async () => {
    const messages = fc.json().map((text) => encodeFrame(FRAME.MESSAGE, 0, Buffer.from(text)));
    const shaped = fc
      .record(
        {
          vm: fc.oneof(fc.constant(1), fc.anything()),
          event: fc.anything(),
          reply: fc.anything(),
          exit: fc.anything(),
          error: fc.anything(),
        },
        { requiredKeys: [] },
      )
      .map((message) => {
        const text = JSON.stringify(message, (_, value) =>
          typeof value === "bigint" || typeof value === "symbol" ? null : value,
        );
        return encodeFrame(FRAME.MESSAGE, 0, Buffer.from(text ?? "null"));
      });
    const framed = fc
      .tuple(fc.integer({ min: 1, max: 4 }), fc.nat(3), fc.uint8Array({ maxLength: 40 }))
      .map(([type, stream, payload]) => encodeFrame(type, stream, payload));
    const anything = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(messages, shaped, framed, anything), { maxLength: 12 }),
        async (pieces) => {
          const { cell, link, heard } = listening();
          const { stream } = link.channel.open({
            onBytes: (b) => stream.taken(b.length),
            onEnd: () => {},
          });
          for (const piece of pieces) cell.sendRaw(piece);
          await turns(4);
          // Either it kept to the protocol, or it is gone, with one word of why.
          if (link.lost === undefined) cell.end("end");
          await turns(4);
          expect(link.lost).toEqual(CELL);
          expect(heard.filter((one) => one instanceof Error)).toHaveLength(
            heard.some((one) => typeof one === "object" && one !== null && "exit" in one) ? 0 : 1,
          );
        },
      ),
      { numRuns: 150 },
    );
  });
});
