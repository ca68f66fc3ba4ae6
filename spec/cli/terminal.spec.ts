/** The detach keys, the progress line, the timings line, errors and JSON Lines. */
import { Writable } from "node:stream";
import type { ReadStream } from "node:tty";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { JsonLines } from "../../src/cli/json-lines.js";
import { errorText, Moments, Progress, timingsText } from "../../src/cli/report.js";
import { DetachKeys, RawMode, typedInput } from "../../src/cli/terminal.js";
import { EstaloError } from "../../src/errors.js";

const P = 0x10;
const Q = 0x11;
const A = 0x61;

describe("DetachKeys", () => {
  it.each<[string, number[][], number[], boolean]>([
    ["ctrl-p ctrl-q at once", [[A, P, Q]], [A], true],
    ["ctrl-p ctrl-q one by one", [[P], [Q]], [], true],
    ["ctrl-p and another key", [[P], [A]], [P, A], false],
    ["ctrl-p twice, then ctrl-q", [[P, P, Q]], [P], true],
    ["ctrl-q alone", [[Q]], [Q], false],
    ["a ctrl-p that nothing follows yet", [[A, P]], [A], false],
  ])("%s", (_, typed, passed, left) => {
    const keys = new DetachKeys();
    const results = typed.map((bytes) => keys.take(Uint8Array.from(bytes)));
    expect(results.flatMap(({ bytes }) => [...bytes])).toEqual(passed);
    expect(results.at(-1)?.detached).toBe(left);
  });
});

describe("typedInput", () => {
  it("ends at the detach keys, with what was typed before them", async () => {
    async function* typing() {
      yield Uint8Array.of(A);
      yield Uint8Array.of(A, P, Q, A);
      yield Uint8Array.of(A);
    }
    const onDetach = vi.fn();
    const passed: number[] = [];
    for await (const bytes of typedInput(typing(), onDetach)) passed.push(...bytes);
    expect(passed).toEqual([A, A]);
    expect(onDetach).toHaveBeenCalledOnce();
  });
});

describe("RawMode", () => {
  it("gives the terminal back once, also when the process just ends", () => {
    const setRawMode = vi.fn();
    const stopOutput = vi.fn(() => Promise.resolve());
    const input = { setRawMode, destroyed: false } as unknown as ReadStream;
    const raw = new RawMode(input, stopOutput);
    const handlers = process.listenerCount("exit");
    raw.enter();
    raw.enter();
    expect(process.listenerCount("exit")).toBe(handlers + 1);
    (process.listeners("exit").at(-1) as (code: number) => void)(0);
    raw.leave();
    expect(setRawMode.mock.calls).toEqual([[true], [false]]);
    expect(stopOutput).toHaveBeenCalledOnce();
    expect(process.listenerCount("exit")).toBe(handlers);
  });
});

describe("RawMode, at signals", () => {
  it.each(["SIGHUP", "SIGQUIT", "SIGXCPU"] as const)("gives the terminal back at %s", (signal) => {
    const kill = vi.spyOn(process, "kill").mockReturnValue(true);
    onTestFinished(() => kill.mockRestore());
    const setRawMode = vi.fn();
    const raw = new RawMode({ setRawMode } as unknown as ReadStream, async () => {});
    const handlers = process.listenerCount(signal);
    raw.enter();
    const [handler] = process.listeners(signal).slice(handlers);
    const other = () => {};
    process.on(signal, other);
    // Whoever takes the signal decides what it means.
    handler?.(signal);
    process.off(signal, other);
    expect(setRawMode.mock.calls).toEqual([[true]]);
    handler?.(signal);
    expect(setRawMode.mock.calls).toEqual([[true], [false]]);
    expect(kill.mock.calls).toEqual([[process.pid, signal]]);
    expect(process.listenerCount(signal)).toBe(handlers);
  });
});

describe("Progress", () => {
  it("leaves nothing on the line", () => {
    let screen = "";
    const progress = new Progress({ write: (text) => (screen += text) }, true);
    progress.start("starting");
    progress.stop();
    progress.stop();
    expect(screen).toBe("\r\x1b[Kstarting … 0.0 s\r\x1b[K");
  });

  it("writes nothing when it is off", () => {
    const write = vi.fn();
    const progress = new Progress({ write }, false);
    progress.start("starting");
    progress.stop();
    expect(write).not.toHaveBeenCalled();
  });
});

describe("timingsText", () => {
  const start = { processMs: 60.4, machineMs: 5.21, kernelMs: 12, vcpusMs: 1, threadsMs: 9 };

  it("adds our share up, then tells the guest's", () => {
    const moments = new Moments();
    moments.take({ type: "booted", atMs: 300 });
    moments.take({ type: "command-exited", status: 0, atMs: 350 });
    const exit = { reason: "poweroff", guestStatus: 0, error: undefined, exitCode: 0 } as const;
    moments.take({ type: "exited", exit, atMs: 360 });
    expect(timingsText({ ...start, oursMs: 27.21, guestBootMs: 212 }, moments)).toBe(
      "estalo: process 60 ms, machine 5.2 ms, kernel 12 ms, vcpus 1.0 ms, threads 9.0 ms = ours 88 ms; " +
        "guest to init 212 ms, command 50 ms, shutdown 10 ms, total 360 ms\n",
    );
  });

  it("leaves out what did not happen", () => {
    expect(timingsText({ processMs: 60 }, new Moments())).toBe("estalo: process 60 ms\n");
  });
});

describe("errorText", () => {
  it("says what, which code, and what to do", () => {
    const error = new EstaloError("ERR_ESTALO_KVM_MISSING", "open /dev/kvm: ENOENT", {
      hint: "do",
    });
    expect(errorText(error)).toBe(
      "estalo: open /dev/kvm: ENOENT [ERR_ESTALO_KVM_MISSING]\nhint: do\n",
    );
  });

  it("calls what is ours ours", () => {
    expect(errorText(new TypeError("x is not a function"))).toContain("[ERR_ESTALO_BUG]\nhint: ");
  });
});

describe("JsonLines", () => {
  it("writes a line for each value, and characters whole", async () => {
    let written = "";
    const output = new Writable({
      write(chunk, _encoding, done) {
        written += chunk;
        done();
      },
    });
    const json = new JsonLines(output);
    json.write({ type: "booted", atMs: 1 });
    const stdout = json.stream("stdout");
    const bytes = Buffer.from("a\né");
    stdout.write(bytes.subarray(0, 3));
    stdout.write(bytes.subarray(3));
    await new Promise<void>((done) => stdout.end(Buffer.of(0xc3), () => done()));
    const lines = written
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toEqual([
      { type: "booted", atMs: 1 },
      { type: "stdout", text: "a\n" },
      { type: "stdout", text: "é" },
      { type: "stdout", text: "\ufffd" },
    ]);
  });
});
