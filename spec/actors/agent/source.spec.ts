/** Calls with a source of bytes that goes on when nobody wants them, or gives none. */
import { Duplex, Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { GuestAgent } from "../../../src/actors/agent/guest-agent.js";
import { encodeFrame, FRAME } from "../../../src/actors/agent/protocol.js";
import { takeFrom } from "../../../src/actors/agent/source.js";
import { EstaloError } from "../../../src/errors.js";

const started = encodeFrame(FRAME.STARTED, Buffer.alloc(4));
const room = encodeFrame(FRAME.STDIN_ROOM, Buffer.from([1, 0, 0, 0]));
const exited = encodeFrame(FRAME.EXITED, Buffer.alloc(2));
const done = encodeFrame(FRAME.DONE);
const ABORTED = { code: "ERR_ESTALO_ABORTED" };

/** A guest that says these at once, and others when it has heard so many frames. */
function guestThatSays(first: readonly Buffer[], later: Readonly<Record<number, Buffer>> = {}) {
  return new GuestAgent(async () => {
    let heard = 0;
    const stream = new Duplex({
      read() {},
      write(_bytes, _encoding, written) {
        heard++;
        if (later[heard] !== undefined) this.push(later[heard]);
        setImmediate(written);
      },
    });
    for (const bytes of first) stream.push(bytes);
    return stream;
  });
}

/** Gives bytes for ever, or none, and tells when it is ended. */
function source(gives: "bytes" | "nothing") {
  const asked = { times: 0, hasEnded: false };
  const ended = new Promise<void>((resolve) => {
    Object.assign(asked, {
      iterable: {
        [Symbol.asyncIterator]: () => ({
          next() {
            asked.times++;
            if (gives === "nothing") return new Promise<never>(() => {});
            return Promise.resolve({ done: false, value: Buffer.from("x") });
          },
          async return() {
            asked.hasEnded = true;
            resolve();
            return { done: true, value: undefined };
          },
        }),
      },
    });
  });
  return Object.assign(asked, { ended }) as typeof asked & {
    ended: Promise<void>;
    iterable: AsyncIterable<Uint8Array>;
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe("takeFrom", () => {
  it("gives what the source has, texts as UTF-8, and ends with it", async () => {
    const parts: Uint8Array[] = [];
    const from = Readable.from([Buffer.from("a"), "ü"]) as AsyncIterable<Uint8Array>;
    for await (const bytes of takeFrom(from, new AbortController().signal)) parts.push(bytes);
    expect(String(Buffer.concat(parts))).toBe("aü");
  });

  it("refuses what is no bytes, and passes on what the source raises", async () => {
    const { signal } = new AbortController();
    const odd = Readable.from([7]) as AsyncIterable<Uint8Array>;
    await expect(takeFrom(odd, signal).next()).rejects.toThrow(TypeError);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("x");
      throw new RangeError("broken");
    }
    const parts = takeFrom(broken(), signal);
    await parts.next();
    await expect(parts.next()).rejects.toThrow("broken");
  });

  it("ends a source that gives nothing, and a stream that waits", async () => {
    const over = new AbortController();
    const silent = source("nothing");
    const stream = new Readable({ read() {} });
    const calls = [silent.iterable, stream].map((from) => takeFrom(from, over.signal).next());
    over.abort();
    for (const call of calls) await expect(call).rejects.toMatchObject(ABORTED);
    await silent.ended;
    expect(stream.destroyed).toBe(true);
  });
});

describe("a program's input", () => {
  it.each(["bytes", "nothing"] as const)(
    "is ended with the program when its source gives %s",
    async (gives) => {
      const guest = guestThatSays([started, ...(gives === "bytes" ? [] : [exited])], {
        4: Buffer.concat([room, exited]),
      });
      const input = source(gives);
      expect(await guest.exec(["head", "-c1"], { stdin: input.iterable })).toMatchObject({
        exitCode: 0,
      });
      await input.ended;
      const { times } = input;
      for (let count = 0; count < 10; count++) await turn();
      expect(input.times).toBe(times);
    },
  );

  it("has its stream destroyed, also when the program never starts", async () => {
    const streams = [0, 1, 2].map(() => new Readable({ read() {} }));
    await guestThatSays([started, exited]).exec(["true"], { stdin: streams[0] });
    const never = new GuestAgent(() => Promise.reject(new RangeError("no guest")));
    await expect(never.exec(["true"], { stdin: streams[1] })).rejects.toThrow("no guest");
    const late = { stdin: streams[2], signal: AbortSignal.abort() };
    await expect(guestThatSays([]).exec(["true"], late)).rejects.toMatchObject(ABORTED);
    await turn();
    expect(streams.map(({ destroyed }) => destroyed)).toEqual([true, true, true]);
  });

  it("gives up the program when its source fails", async () => {
    const broken = new Readable({ read() {} });
    const program = guestThatSays([started]).exec(["cat"], { stdin: broken });
    await program.pid;
    broken.destroy(new RangeError("no disk"));
    await expect(program).rejects.toMatchObject({ ...ABORTED, cause: { message: "no disk" } });
  });
});

describe("a file's content", () => {
  it("is ended by an abort while its source gives nothing", async () => {
    const abort = new AbortController();
    const content = source("nothing");
    const { signal } = abort;
    const call = guestThatSays([]).files.write("/x", content.iterable, { signal });
    while (content.times === 0) await turn();
    abort.abort("enough");
    await expect(call).rejects.toMatchObject({ ...ABORTED, cause: "enough" });
    await content.ended;
  });

  it("is ended by the guest's refusal while its source gives nothing", async () => {
    const failed = encodeFrame(FRAME.FAILED, Buffer.from("\x1c\0\0\0write\0", "latin1"));
    const content = source("nothing");
    const stream = new Duplex({ read() {}, write: (_bytes, _encoding, written) => written() });
    const call = new GuestAgent(async () => stream).files.write("/x", content.iterable);
    while (content.times === 0) await turn();
    stream.push(failed);
    await expect(call).rejects.toMatchObject({ data: { what: "write", errno: "ENOSPC" } });
    await content.ended;
  });

  it("is refused by a guest that has it before it is there", async () => {
    const content = source("bytes");
    const call = guestThatSays([], { 5: done }).files.write("/x", content.iterable);
    await expect(call).rejects.toMatchObject({ code: "ERR_ESTALO_AGENT_PROTOCOL" });
    await content.ended;
  });

  it("has its stream destroyed when there is no guest", async () => {
    const stream = new Readable({ read() {} });
    const never = new GuestAgent(() => Promise.reject(new RangeError("no guest")));
    await expect(never.files.write("/x", stream)).rejects.toThrow("no guest");
    expect(stream.destroyed).toBe(true);
  });
});

describe("a program that is given up while its output is not read", () => {
  const output = encodeFrame(FRAME.STDOUT, Buffer.alloc(65_536, "y"));
  const says = [started, ...new Array(8).fill(output), exited];
  const start = (signal?: AbortSignal, timeoutMs?: number) => {
    const guest = guestThatSays([Buffer.concat(says)]);
    const program = guest.exec(["yes"], {
      ...(signal === undefined ? {} : { signal }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
    return { program, streams: [program.stdout, program.stderr] };
  };

  it("rejects at once when it is aborted, late or disposed of", async () => {
    const abort = new AbortController();
    const aborted = start(abort.signal);
    await aborted.program.pid;
    await turn();
    abort.abort("enough");
    await expect(aborted.program).rejects.toMatchObject({ ...ABORTED, cause: "enough" });
    const late = start(undefined, 50);
    await expect(late.program).rejects.toMatchObject({ code: "ERR_ESTALO_AGENT_TIMEOUT" });
    const dropped = start();
    await dropped.program.pid;
    await dropped.program[Symbol.asyncDispose]();
    await expect(dropped.program).rejects.toMatchObject(ABORTED);
    for (const { streams } of [aborted, late, dropped]) {
      expect(streams.map(({ destroyed }) => destroyed)).toEqual([true, true]);
    }
  });

  it("is not waited for while it is not there yet", async () => {
    const refused = new EstaloError("ERR_ESTALO_VSOCK", "refused");
    const booting = new GuestAgent(() => Promise.reject(refused), Number.POSITIVE_INFINITY);
    const program = booting.exec(["true"]);
    await program[Symbol.asyncDispose]();
    await expect(program).rejects.toMatchObject(ABORTED);
  });
});
