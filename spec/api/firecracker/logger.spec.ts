import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Logger, levelNumber } from "../../../src/api/firecracker/logger.js";
import type { LineSink } from "../../../src/api/firecracker/sink.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

class KeptLines implements LineSink {
  readonly lines: string[] = [];
  isFull = false;

  write(line: string): boolean {
    if (!this.isFull) this.lines.push(line);
    return !this.isFull;
  }

  close(): void {}
}

let sink: KeptLines;
let logger: Logger;
beforeEach(() => {
  vi.useFakeTimers();
  sink = new KeptLines();
  logger = new Logger("my-vm", sink);
});
afterEach(() => {
  vi.useRealTimers();
});

const texts = () => sink.lines.map((line) => line.replace(/^\S+ \[.*?\] /, ""));

describe("Logger", () => {
  it("writes time, instance, thread and text", () => {
    vi.setSystemTime(new Date(2026, 0, 31, 23, 5, 9, 42));
    logger.write("Info", "api_server::request", "hello");
    logger.write("Info", "vmm", "world");
    expect(sink.lines[0]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9} \[my-vm:fc_api\] hello$/);
    expect(sink.lines[1]).toMatch(/ \[my-vm:main\] world$/);
  });

  it("adds level and origin when asked to", () => {
    logger.configure({ show_level: true, show_log_origin: true });
    logger.write("Warn", "vmm", "careful");
    expect(sink.lines[0]).toMatch(/ \[my-vm:main:WARN:logger\.spec\.ts:\d+\] careful$/);
  });

  it("shows Info and above, until told otherwise in any case", () => {
    const all = () => {
      for (const level of ["Error", "Warn", "Info", "Debug", "Trace"] as const) {
        logger.write(level, "vmm", level);
      }
      return texts().splice(0);
    };
    expect(all()).toEqual(["Error", "Warn", "Info"]);
    sink.lines.length = 0;
    logger.configure({ level: "wARNing" });
    expect(all()).toEqual(["Error", "Warn"]);
    sink.lines.length = 0;
    logger.configure({ level: "TRACE" });
    expect(all()).toHaveLength(5);
    sink.lines.length = 0;
    logger.configure({ level: "Off" });
    expect(all()).toEqual([]);
  });

  it("knows Firecracker's levels and no others", () => {
    expect(levelNumber("Warning")).toBe(levelNumber("warn"));
    expect(levelNumber("constructor")).toBeUndefined();
    expect(() => logger.configure({ level: "Loud" })).toThrow("Loud is no log level");
  });

  it("shows only what comes from a module", () => {
    logger.configure({ module: "api_server" });
    logger.write("Info", "vmm", "no");
    logger.write("Info", "api_server::reply", "yes");
    expect(texts()).toEqual(["yes"]);
  });

  it("writes at most ten lines of a place in five seconds, and counts the others", () => {
    for (let index = 0; index < 15; index++) logger.write("Info", "a", `a${index}`);
    logger.write("Info", "b", "b");
    expect(texts()).toEqual([...Array.from({ length: 10 }, (_, index) => `a${index}`), "b"]);
    expect(logger.counters.rate_limited_log_count).toBe(5);
    logger.writeAlways("Info", "the end");
    expect(texts().at(-1)).toBe("the end");
    vi.advanceTimersByTime(5001);
    logger.write("Info", "a", "again");
    expect(texts().at(-1)).toBe("again");
  });

  it("counts lines that nobody took", () => {
    sink.isFull = true;
    logger.write("Info", "a", "lost");
    expect(logger.counters.missed_log_count).toBe(1);
  });

  it("keeps a line one line, whatever a client put into it", () => {
    logger.write("Error", "a", "first\nsecond");
    expect(texts()).toEqual(["first\\nsecond"]);
  });

  it("goes on in a file, or stays where it was when that cannot be opened", () => {
    const path = join(scratch.path, "log");
    logger.configure({ log_path: path });
    logger.write("Info", "a", "in the file");
    expect(() => logger.configure({ log_path: "/nowhere/log", level: "Off" })).toThrow();
    logger.write("Info", "b", "still");
    expect(readFileSync(path, "utf8").trimEnd().split("\n")).toHaveLength(2);
    logger.close();
  });
});
