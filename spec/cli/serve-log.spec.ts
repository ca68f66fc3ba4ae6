/** The log of a server: one line for each thing, whatever is in it, and never a reason to wait. */
import { PassThrough, Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { ServeLog } from "../../src/cli/serve-log.js";

function logged(form: "json" | "plain", fields: Record<string, unknown>): string {
  const output = new PassThrough();
  new ServeLog(output, form).write("warn", "it happened", fields);
  return String(output.read());
}

describe("ServeLog", () => {
  it("writes JSON lines", () => {
    const line = logged("json", { path: "/a b", error: { code: "X" } });
    expect(JSON.parse(line)).toMatchObject({
      level: "warn",
      message: "it happened",
      path: "/a b",
      error: { code: "X" },
    });
    expect(line.indexOf("\n")).toBe(line.length - 1);
  });

  it("writes text on one line, whatever a client put into it", () => {
    const line = logged("plain", { name: "a\n\x1b[31mb", count: 3, path: "/a" });
    expect(line).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} warn {2}it happened name="a\\n\\u001b\[31mb" count=3 path=\/a\n$/,
    );
  });

  it("drops lines that nobody reads, and says how many", () => {
    let isOpen = false;
    const lines: string[] = [];
    const waiting: (() => void)[] = [];
    const output = new Writable({
      write: (chunk, _encoding, done) => {
        lines.push(String(chunk));
        if (isOpen) done();
        else waiting.push(done);
      },
    });
    const log = new ServeLog(output, "json");
    for (let at = 0; at < 300; at++) log.write("info", "x".repeat(10_000));
    expect(output.writableLength).toBeLessThan(2 * 1024 * 1024);
    isOpen = true;
    for (const done of waiting) done();
    return new Promise<void>((resolve) => {
      setImmediate(() => {
        log.write("info", "after");
        expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({
          message: "after",
          droppedLines: expect.any(Number),
        });
        resolve();
      });
    });
  });
});
