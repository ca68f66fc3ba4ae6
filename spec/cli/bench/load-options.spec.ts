/** What the words of `estalo bench load` mean. */
import { describe, expect, it } from "vitest";
import { parseArguments } from "../../../src/cli/arguments.js";
import { loadOptions } from "../../../src/cli/bench/load-options.js";
import { BENCH_VERB } from "../../../src/cli/bench/verb.js";

const options = (...words: string[]) => loadOptions(parseArguments(BENCH_VERB, ["load", ...words]));

describe("the options of a load", () => {
  it("have defaults that make half a minute of single arrivals", () => {
    expect(options("--seed", "x")).toEqual({
      traceFile: undefined,
      rate: 1,
      speed: 1,
      durationMs: 30_000,
      count: Number.POSITIVE_INFINITY,
      life: { kind: "exponential", meanMs: 1000 },
      mix: [{ memoryMib: 128, vcpuCount: 1, weight: 1 }],
      ready: "booted",
      concurrency: 50,
      timeoutMs: 60_000,
      isGraceful: false,
      seed: "x",
      maxFailures: { value: 0, isPercent: false },
    });
  });

  it("have a seed of their own when none is given", () => {
    expect(options().seed).toMatch(/^\d+$/);
    expect(options().seed).not.toBe(options().seed);
  });

  it("take times, sizes and shares", () => {
    expect(
      options(
        ...["--rate", "2.5", "--duration", "1.5m", "--life", "200ms", "--mix", "128:1:70,512:2"],
        ...["--concurrency", "7", "--timeout", "2s", "--max-failures", "2.5%", "--graceful"],
        ...["--ready", "exec", "--count", "9"],
      ),
    ).toMatchObject({
      rate: 2.5,
      durationMs: 90_000,
      life: { kind: "fixed", meanMs: 200 },
      mix: [
        { memoryMib: 128, vcpuCount: 1, weight: 70 },
        { memoryMib: 512, vcpuCount: 2, weight: 1 },
      ],
      concurrency: 7,
      timeoutMs: 2000,
      maxFailures: { value: 2.5, isPercent: true },
      isGraceful: true,
      ready: "exec",
      count: 9,
    });
    expect(options("--life", "exp:1h").life).toEqual({ kind: "exponential", meanMs: 3_600_000 });
    expect(options("--life", "guest").life).toEqual({ kind: "guest" });
  });

  it("end with the trace or the count, unless a time is given", () => {
    expect(options("--trace", "t").durationMs).toBe(Number.POSITIVE_INFINITY);
    expect(options("--count", "1").durationMs).toBe(Number.POSITIVE_INFINITY);
    expect(options("--count", "1", "--duration", "2s").durationMs).toBe(2000);
  });

  it("take what a system of one's own says by itself", () => {
    expect(options("--kernel", "k").ready).toBe("output");
    expect(options("--config-file", "f").mix).toEqual([]);
  });

  it.each<[string[], string]>([
    [["--rate", "0"], "--rate is a number above 0"],
    [["--rate", "5", "--trace", "t"], "--rate and --trace do not go together"],
    [["--speed", "2"], "--speed is for --trace"],
    [["--duration", "30"], "--duration is a time as 200ms, 1.5s, 10m or 1h, not 30"],
    [["--duration", "1000h"], "--duration is a time"],
    [["--life", "exp:"], "--life is a time"],
    [["--mix", "128:1:0"], "--mix is MIB:VCPUS:WEIGHT"],
    [["--mix", "128:1:1,"], "--mix is MIB:VCPUS:WEIGHT"],
    [["--ready", "soon"], "--ready is one of started, booted, output, exec, not soon"],
    [["--concurrency", "0"], "--concurrency is a whole number from 1 to"],
    [["--max-failures", "1.5"], "--max-failures is a whole number, or per cent"],
    [["--max-failures", "101%"], "--max-failures is a whole number, or per cent"],
  ])("%j are refused", (words, message) => {
    expect(() => options(...words)).toThrow(message);
  });
});
