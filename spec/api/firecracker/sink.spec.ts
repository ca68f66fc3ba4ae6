import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FileSink } from "../../../src/api/firecracker/sink.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

function fifo(name: string): string {
  const path = join(scratch.path, name);
  rmSync(path, { force: true });
  execFileSync("mkfifo", [path]);
  return path;
}

/** Everything that is in a FIFO now. */
function drain(fd: number): string {
  const buffer = Buffer.alloc(1 << 20);
  let text = "";
  for (;;) {
    try {
      const count = readSync(fd, buffer);
      if (count === 0) return text;
      text += buffer.toString("latin1", 0, count);
    } catch {
      return text;
    }
  }
}

describe("FileSink", () => {
  it("makes its file, and adds to one that is there", () => {
    const path = join(scratch.path, "log");
    for (const line of ["one", "two"]) {
      const sink = new FileSink(path);
      expect(sink.write(line)).toBe(true);
      sink.close();
    }
    expect(readFileSync(path, "utf8")).toBe("one\ntwo\n");
  });

  it("opens a FIFO that nobody reads, without waiting", () => {
    const sink = new FileSink(fifo("unread"));
    expect(sink.write("kept by the FIFO")).toBe(true);
    sink.close();
  });

  it("raises what the system says of a path that is no use", () => {
    expect(() => new FileSink(join(scratch.path, "no", "log"))).toThrow(
      expect.objectContaining({ code: "ENOENT" }),
    );
    expect(() => new FileSink(scratch.path)).toThrow(expect.objectContaining({ code: "EISDIR" }));
  });

  it("loses lines while a FIFO is full, and never writes a part of one", async () => {
    const path = fifo("full");
    const sink = new FileSink(path);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    // Longer than what a pipe takes in one piece.
    const line = (index: number) => `${index}${"x".repeat(9000)}`;
    const taken: number[] = [];
    for (let index = 0; index < 20; index++) if (sink.write(line(index))) taken.push(index);
    expect(taken.length).toBeGreaterThan(3);
    expect(taken.length).toBeLessThan(20);

    let text = drain(reader);
    // The rest of the line that was begun comes when there is room, before anything else.
    const more = () => {
      text += drain(reader);
      return text.endsWith("\n");
    };
    await expect.poll(more).toBe(true);
    expect(sink.write("after")).toBe(true);
    text += drain(reader);
    expect(text.split("\n")).toEqual([...taken.map(line), "after", ""]);
    sink.close();
    closeSync(reader);
  });
});
