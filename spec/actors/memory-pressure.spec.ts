/** Pressure files as the kernel writes them, and those that are none. */
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { firstValueFrom, lastValueFrom, take, toArray } from "rxjs";
import { afterAll, describe, expect, it } from "vitest";
import { pressure$, requirePressure } from "../../src/actors/memory-pressure.js";
import { EstaloError } from "../../src/errors.js";
import { Scratch } from "../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

const page = (some: string, full: string) =>
  `some avg10=${some} avg60=0.00 avg300=0.00 total=520\nfull avg10=${full} avg60=0.00 avg300=0.00 total=375\n`;
const openFiles = () => readdirSync("/proc/self/fd").length;

describe("pressure$", () => {
  it("tells how much of the time was waited, again and again, as long as somebody listens", async () => {
    const path = scratch.file("pressure", page("12.34", "5.60"));
    const before = openFiles();
    const looks = pressure$({ path, intervalMs: 10 });
    expect(openFiles()).toBe(before);
    const seen = await lastValueFrom(looks.pipe(take(3), toArray()));
    expect(seen.map(({ somePercent, fullPercent }) => [somePercent, fullPercent])).toEqual(
      Array(3).fill([12.34, 5.6]),
    );
    expect(seen[2].atMs).toBeGreaterThan(seen[0].atMs);
    expect(openFiles()).toBe(before);
  });

  it("reads the file anew each time", async () => {
    const path = scratch.file("changing", page("0.00", "0.00"));
    const next = firstValueFrom(pressure$({ path, intervalMs: 10 }).pipe(take(40), toArray()));
    await new Promise((resolve) => setTimeout(resolve, 50));
    writeFileSync(path, page("99.00", "1.00"));
    const percents = (await next).map(({ somePercent }) => somePercent);
    expect([percents[0], percents.at(-1)]).toEqual([0, 99]);
  });

  it.each([
    ["a host without pressure information", "none", undefined, "ENOENT"],
    ["a folder", "", undefined, "EISDIR"],
    ["another file", "other", "MemTotal: 5 kB\n", undefined],
    ["a file cut short", "short", "some avg10=1.00 avg60=0.00 avg300=0.00 total=1\n", undefined],
  ])("fails clearly for %s", async (_what, name, content, errno) => {
    const path = content === undefined ? join(scratch.path, name) : scratch.file(name, content);
    const before = openFiles();
    const failure = await firstValueFrom(pressure$({ path })).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(EstaloError);
    expect(failure).toMatchObject({
      code: "ERR_ESTALO_PRESSURE",
      hint: expect.stringMatching(/CONFIG_PSI|control group/),
      ...(errno === undefined ? {} : { data: { errno } }),
    });
    expect(() => requirePressure({ path })).toThrow((failure as EstaloError).message);
    expect(openFiles()).toBe(before);
  });

  it.each([
    [{ intervalMs: 0 }, "pressure.intervalMs"],
    [{ path: "" }, "pressure.path"],
    [{ every: 5 } as never, "pressure.every"],
  ])("refuses %j at once", (options, field) => {
    expect(() => pressure$(options)).toThrow(
      expect.objectContaining({ data: expect.objectContaining({ field }) }),
    );
  });
});
