/** Copies and programs with a guest that says what it likes. */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Duplex } from "node:stream";
import fc from "fast-check";
import { afterAll, beforeEach, describe, expect, it, vi } from "vitest";
import { GuestAgent } from "../../../src/actors/agent/guest-agent.js";
import {
  encodeEntry,
  encodeFrame,
  encodeHole,
  type FileKind,
  FRAME,
} from "../../../src/actors/agent/protocol.js";
import { isEstaloError } from "../../../src/errors.js";
import { AgentProcess } from "../../support/agent-process.js";
import { Scratch } from "../../support/tiny-guest.js";

const scratch = new Scratch();
const host = new AgentProcess();
afterAll(() => {
  scratch[Symbol.dispose]();
  host[Symbol.dispose]();
});

/** An agent that answers every request with these bytes, and takes whatever it is sent. */
const guestThatSays = (bytes: Uint8Array) => guestThatSaysAll([bytes]);

/** Likewise, one piece after the other. */
function guestThatSaysAll(pieces: Iterable<Uint8Array>): GuestAgent {
  return new GuestAgent(async () => {
    const left = pieces[Symbol.iterator]();
    return new Duplex({
      read() {
        const next = left.next();
        this.push(next.done === true ? null : next.value);
      },
      write: (_bytes, _encoding, done) => done(),
    });
  });
}

const entry = (name: string, kind: FileKind, target = "") =>
  encodeFrame(FRAME.ENTRY, encodeEntry({ name, kind, mode: 0o7777, mtimeMs: 0, target }));
const data = (text: string) => encodeFrame(FRAME.DATA, Buffer.from(text));
const leave = encodeFrame(FRAME.LEAVE);
const done = encodeFrame(FRAME.DONE);

let outside: string;
let target: string;
let count = 0;
beforeEach(() => {
  outside = join(scratch.path, `outside${++count}`);
  target = join(scratch.path, `target${count}`);
  mkdirSync(outside);
  writeFileSync(join(outside, "mine"), "mine");
});
const untouched = () => {
  expect(readdirSync(outside)).toEqual(["mine"]);
  expect(readFileSync(join(outside, "mine"), "utf8")).toBe("mine");
};

describe("a copy out of a hostile guest", () => {
  it("follows no link that the guest made before", async () => {
    const says = Buffer.concat([
      entry("", "directory"),
      entry("escape", "symlink", outside),
      entry("escape", "directory"),
      entry("evil", "file"),
      data("evil"),
      leave,
      leave,
      done,
    ]);
    await expect(guestThatSays(says).files.copyOut("/x", target)).rejects.toMatchObject({
      code: "ERR_ESTALO_HOST",
    });
    untouched();
  });

  it("replaces a link by a file instead of writing through it", async () => {
    const says = Buffer.concat([
      entry("", "directory"),
      entry("mine", "symlink", join(outside, "mine")),
      entry("mine", "file"),
      data("evil"),
      leave,
      done,
    ]);
    await guestThatSays(says).files.copyOut("/x", target);
    expect(readFileSync(join(target, "mine"), "utf8")).toBe("evil");
    expect(lstatSync(join(target, "mine")).mode & 0o7777).toBe(0o777);
    untouched();
  });

  it("takes away no device or pipe, and no link to one that is the target", async () => {
    const pipe = join(outside, "pipe");
    execFileSync("mkfifo", [pipe]);
    const file = Buffer.concat([entry("", "file"), data("evil"), done]);
    const isTaken = { code: "ERR_ESTALO_HOST", data: { errno: "EEXIST" } };
    await expect(guestThatSays(file).files.copyOut("/x", pipe)).rejects.toMatchObject(isTaken);
    symlinkSync(pipe, target);
    await expect(guestThatSays(file).files.copyOut("/x", target)).rejects.toMatchObject(isTaken);
    const tree = [entry("", "directory"), entry("pipe", "file"), data("evil"), leave, done];
    const copying = guestThatSays(Buffer.concat(tree)).files.copyOut("/", outside);
    await expect(copying).rejects.toMatchObject(isTaken);
    expect(lstatSync(pipe).isFIFO()).toBe(true);
    expect(lstatSync(target).isSymbolicLink()).toBe(true);
  });

  it("follows no link that was there before", async () => {
    mkdirSync(target);
    mkdirSync(join(target, "x"));
    symlinkSync(outside, join(target, "x/deeper"));
    const says = Buffer.concat([
      entry("", "directory"),
      entry("deeper", "directory"),
      leave,
      leave,
      done,
    ]);
    await expect(guestThatSays(says).files.copyOut("/x", target)).rejects.toMatchObject({
      code: "ERR_ESTALO_HOST",
    });
    untouched();
  });

  it.each([
    ["bytes before a file", [data("x"), done]],
    ["an entry behind the tree", [entry("", "file"), entry("b", "file"), done]],
    ["a first entry with a name", [entry("a", "file"), done]],
    ["more ends than folders", [entry("", "directory"), leave, leave, done]],
    ["fewer ends than folders", [entry("", "directory"), done]],
    ["nothing", [done]],
    ["another frame", [encodeFrame(FRAME.STARTED, Buffer.alloc(4)), done]],
    [
      "a file beyond all sizes",
      [
        entry("", "file"),
        encodeFrame(FRAME.HOLE, encodeHole(2 ** 53 - 1)),
        encodeFrame(FRAME.HOLE, encodeHole(2 ** 53 - 1)),
        done,
      ],
    ],
  ])("is refused %s", async (_what, says) => {
    const copy = guestThatSays(Buffer.concat(says)).files.copyOut("/x", target);
    await expect(copy).rejects.toMatchObject({ code: "ERR_ESTALO_AGENT_PROTOCOL" });
  });

  it("has its entries counted, those that are left out too", async () => {
    const pipes = new Array(3).fill(entry("pipe", "other"));
    const says = Buffer.concat([entry("", "directory"), ...pipes, leave, done]);
    const copy = (maxEntries: number) =>
      guestThatSays(says).files.copyOut("/x", target, { maxEntries });
    await expect(copy(3)).rejects.toMatchObject({ code: "ERR_ESTALO_TOO_LARGE" });
    expect(await copy(4)).toEqual({ entries: 1, bytes: 0, skipped: 3 });
  });

  it("is told of an end in the middle", async () => {
    const says = Buffer.concat([entry("", "file"), data("half")]);
    await expect(guestThatSays(says).files.copyOut("/x", target)).rejects.toMatchObject({
      code: "ERR_ESTALO_AGENT_LOST",
    });
  });

  it("stays inside its target with any stream of entries", async () => {
    const word = fc.constantFrom("a", "b", "mine", "..", "../outside", "/tmp/evil");
    const anything = fc.oneof(
      fc
        .tuple(word, fc.constantFrom<FileKind>("file", "directory", "symlink", "other"))
        .map(([name, kind]) => entry(name, kind, kind === "symlink" ? outside : "")),
      fc.constantFrom(leave, data("evil"), encodeFrame(FRAME.HOLE, encodeHole(3)), done),
      fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(anything, { maxLength: 12 }), async (parts) => {
        const says = Buffer.concat([entry("", "directory"), ...parts, leave, done]);
        await guestThatSays(says)
          .files.copyOut("/x", target)
          .catch((error) => {
            if (!isEstaloError(error)) throw error;
          });
        untouched();
        expect(existsSync("/tmp/evil")).toBe(false);
      }),
      { numRuns: 150 },
    );
  });
});

/** The most pieces that were put together at once while this ran. */
async function mostPieces(work: () => Promise<void>): Promise<number> {
  const concat = vi.spyOn(Buffer, "concat");
  try {
    await work();
    return Math.max(0, ...concat.mock.calls.map(([pieces]) => pieces.length));
  } finally {
    concat.mockRestore();
  }
}
const FEW_PIECES = 20;

/** Very many frames: with nothing in them, and with a byte each. */
const tiny = (type: number) => [
  Buffer.concat(new Array(50_000).fill(encodeFrame(type))),
  Buffer.concat(new Array(50_000).fill(encodeFrame(type, Buffer.from("x")))),
];

describe("files of a hostile guest", () => {
  it("are kept in a few blocks, however small their frames", async () => {
    const guest = guestThatSaysAll([entry("", "file"), ...tiny(FRAME.DATA), done]);
    const pieces = await mostPieces(async () => {
      expect(await guest.files.read("/x")).toHaveLength(50_000);
    });
    expect(pieces).toBeLessThan(FEW_PIECES);
  });

  it("are listed up to so many bytes of names and targets", async () => {
    const one = entry("x".repeat(255), "symlink", "y".repeat(4095));
    const many = Buffer.concat(new Array(1024).fill(one));
    const list = (times: number) =>
      guestThatSaysAll([...new Array(times).fill(many), done]).files.list("/x");
    expect(await list(2)).toHaveLength(2048);
    await expect(list(16)).rejects.toMatchObject({ code: "ERR_ESTALO_TOO_LARGE" });
  });
});

describe("a program of a hostile guest", () => {
  const exited = encodeFrame(FRAME.EXITED, Buffer.alloc(2));
  const started = encodeFrame(FRAME.STARTED, Buffer.alloc(4));

  it("has its output kept in a few blocks, however small its frames", async () => {
    const guest = guestThatSaysAll([started, ...tiny(FRAME.STDOUT), ...tiny(FRAME.STDERR), exited]);
    const pieces = await mostPieces(async () => {
      const { stdout, stderr } = await guest.exec(["x"]);
      expect([stdout.length, stderr.length]).toEqual([50_000, 50_000]);
    });
    expect(pieces).toBeLessThan(FEW_PIECES);
  });

  it("has its output streamed in a few pieces to who reads late, however small its frames", async () => {
    const program = guestThatSaysAll([started, ...tiny(FRAME.STDOUT), exited]).exec(["x"]);
    const { stdout } = program;
    expect(await program).toMatchObject({ stdout: "", exitCode: 0 });
    const pieces: Buffer[] = [];
    for await (const piece of stdout) pieces.push(piece);
    expect(Buffer.concat(pieces)).toHaveLength(50_000);
    expect(pieces.length).toBeLessThan(FEW_PIECES);
  });

  it("is a result or an error, whatever the guest says", async () => {
    const frame = fc
      .tuple(fc.constantFrom(...Object.values(FRAME)), fc.uint8Array({ maxLength: 12 }))
      .map(([type, payload]) => encodeFrame(type, payload));
    await fc.assert(
      fc.asyncProperty(fc.array(frame, { maxLength: 6 }), async (parts) => {
        const { agent } = { agent: guestThatSays(Buffer.concat(parts)) };
        for (const call of [
          agent.exec(["true"]),
          agent.health(),
          agent.files.list("/"),
          agent.files.read("/x", { maxBytes: 1e6 }),
        ]) {
          await Promise.resolve(call).catch((error) => {
            if (!isEstaloError(error)) throw error;
          });
        }
      }),
      { numRuns: 150 },
    );
  });
});

describe("the agent under any bytes", () => {
  it("ends its connection, and no sanitizer objects", async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc
        .tuple(
          fc.constantFrom(FRAME.HEALTH, FRAME.LIST, FRAME.STAT, FRAME.READ, FRAME.EXEC, 99),
          fc.uint8Array({ maxLength: 60 }),
        )
        .map(([type, payload]) => encodeFrame(type, payload)),
      fc
        .array(
          fc.tuple(
            fc.constantFrom(FRAME.ENTRY, FRAME.DATA, FRAME.HOLE, FRAME.LEAVE, FRAME.END),
            fc.uint8Array({ maxLength: 60 }),
          ),
          { maxLength: 5 },
        )
        .map((rest) =>
          Buffer.concat([
            encodeFrame(FRAME.WRITE, Buffer.from(`\0\0\0\0${scratch.path}/fuzzed\0`)),
            ...rest.map(([type, payload]) => encodeFrame(type, payload)),
          ]),
        ),
    );
    await fc.assert(
      fc.asyncProperty(bytes, async (says) => {
        expect(await host.statusAfter(says)).toBe(0);
      }),
      { numRuns: 100 },
    );
  });
});
