/** Recorded loads: both forms, and errors that name the line. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { parseTrace, readTrace } from "../../../src/cli/bench/trace-file.js";
import { isEstaloError } from "../../../src/errors.js";

const folder = mkdtempSync(join(tmpdir(), "estalo-trace-"));
afterAll(() => rmSync(folder, { recursive: true }));

const parse = (...lines: string[]) => parseTrace(lines, "t");

describe("a trace", () => {
  it("is CSV with a header, its columns in any order", async () => {
    expect(
      await parse("# recorded", "lifeMs, atMs,memoryMib", "", "200,0,128", "50.5,10.25,", ",11,64"),
    ).toEqual([
      { atMs: 0, lifeMs: 200, memoryMib: 128 },
      { atMs: 10.25, lifeMs: 50.5 },
      { atMs: 11, memoryMib: 64 },
    ]);
  });

  it("is JSON Lines when the first line is an object", async () => {
    expect(await parse('{"atMs":0,"vcpuCount":2}', "", '{"atMs":5,"weight":3}')).toEqual([
      { atMs: 0, vcpuCount: 2 },
      { atMs: 5, weight: 3 },
    ]);
  });

  it.each<[string, string[], string]>([
    ["a column that there is not", ["atMs,life"], 't:1: there is no field "life"'],
    ["a column twice", ["atMs,atMs"], "t:1: a column is named twice"],
    ["a missing column", ["atMs,lifeMs", "1,2", "1"], "t:3: expected 2 columns, got 1"],
    ["no time", ["lifeMs", "5"], "t:2: atMs is missing"],
    ["a word", ["atMs", "soon"], 't:2: atMs is a number from 0 to 2147483647, not "soon"'],
    ["a number that goes back", ["atMs", "5", "4"], "t:3: atMs goes back, from 5 to 4"],
    ["a negative one", ["atMs", "-1"], 't:2: atMs is a number from 0 to 2147483647, not "-1"'],
    [
      "a broken count",
      ["atMs,vcpuCount", "1,1.5"],
      "t:2: vcpuCount is a whole number from 1 to 32",
    ],
    ["broken JSON", ['{"atMs":1}', '{"atMs":'], "t:2: this is not JSON"],
    ["another value", ['{"atMs":1}', "[1]"], "t:2: a line is an object"],
    ["null", ['{"atMs":null}'], "t:1: atMs is a number from 0 to 2147483647, not null"],
    ["a field of JSON's own", ['{"__proto__":1}'], 't:1: there is no field "__proto__"'],
    ["nothing", ["", "# nothing"], "t: there is no arrival in it"],
    ["a header alone", ["atMs"], "t: there is no arrival in it"],
  ])("is refused for %s, with the line", async (_what, lines, message) => {
    await expect(parse(...lines)).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_FILE",
      message: expect.stringContaining(message),
    });
  });

  it("is either in order or refused, whatever is in it", async () => {
    const cell = fc.oneof(fc.constantFrom("0", "1", "2.5", "", "-1", "1e9", "x"), fc.string());
    const line = fc.oneof(
      fc.constantFrom("atMs", "atMs,lifeMs", '{"atMs":1}', '{"atMs":2,"weight":1}', "# x"),
      fc.array(cell, { maxLength: 3 }).map((cells) => cells.join(",")),
      fc.json(),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(line, { maxLength: 6 }), async (lines) => {
        try {
          const trace = await parse(...lines);
          const times = trace.map(({ atMs }) => atMs);
          expect(times).toEqual([...times].sort((a, b) => a - b));
          expect(times.every((atMs) => Number.isFinite(atMs) && atMs >= 0)).toBe(true);
        } catch (error) {
          expect(isEstaloError(error) && error.code).toBe("ERR_ESTALO_CONFIG_FILE");
        }
      }),
    );
  });

  it("is read from a file, with any ends of lines", async () => {
    const path = join(folder, "t.csv");
    writeFileSync(path, "\ufeffatMs\r\n1\r\n2");
    expect(await readTrace(path)).toEqual([{ atMs: 1 }, { atMs: 2 }]);
    await expect(readTrace(join(folder, "none"))).rejects.toMatchObject({
      code: "ERR_ESTALO_CONFIG_FILE",
      message: expect.stringContaining("none"),
    });
    await expect(readTrace(folder)).rejects.toMatchObject({ code: "ERR_ESTALO_CONFIG_FILE" });
  });
});
