import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  ERROR_FAMILIES,
  type ErrorCode,
  EstaloError,
  hostError,
  isEstaloError,
  toEstaloError,
} from "../src/errors.js";
import { readSource, sourceFiles } from "./support/source-tree.js";

const CODES = Object.keys(ERROR_FAMILIES) as ErrorCode[];

/** What docs/errors.md says: code to family, cause and remedy. */
function documented(): Map<string, { family: string; cause: string; remedy: string }> {
  const entries = new Map();
  let family = "";
  for (const line of readFileSync("docs/errors.md", "utf8").split("\n")) {
    family = /^## (\w+):/.exec(line)?.[1] ?? family;
    const row = /^\| `(\w+)` \| (.*) \| (.*) \|$/.exec(line);
    if (row === null) continue;
    const [, code, cause, remedy] = row;
    expect(entries.has(code)).toBe(false);
    entries.set(code, { family, cause, remedy });
  }
  return entries;
}

describe("docs/errors.md", () => {
  const docs = documented();

  it("lists exactly the codes of the catalogue", () => {
    expect([...docs.keys()].sort()).toEqual([...CODES].sort());
  });

  it.each(CODES)("gives family, cause and remedy of %s", (code) => {
    const entry = docs.get(code);
    expect(entry?.family).toBe(ERROR_FAMILIES[code]);
    expect(entry?.cause).toMatch(/^[^a-z].{15,}\.$/);
    expect(entry?.remedy).toMatch(/.{10,}\.$/);
  });
});

describe("the catalogue", () => {
  const text = sourceFiles("src")
    .filter((path) => path.endsWith(".ts") && path !== "src/errors.ts")
    .map(readSource)
    .join("\n");

  it.each(CODES)("has %s because something raises it", (code) => {
    // hostError's default is the one that nobody has to name.
    expect(text.includes(`"${code}"`) || code === "ERR_ESTALO_HOST").toBe(true);
  });
});

describe("EstaloError", () => {
  it.each(CODES)("%s survives the structured clone and JSON, with its chain of causes", (code) => {
    const root = new EstaloError("ERR_ESTALO_HOST", "open /x: EIO", { data: { errno: "EIO" } });
    const middle = new EstaloError(code, "middle", { cause: root, hint: "try again" });
    const error = new EstaloError(code, "top", { cause: middle, data: { list: [1, "two", null] } });
    const viaClone = EstaloError.fromRecord(structuredClone(error.toRecord()));
    const viaJson = EstaloError.fromRecord(JSON.parse(JSON.stringify(error.toRecord())));
    for (const revived of [viaClone, viaJson]) {
      expect(revived).toBeInstanceOf(EstaloError);
      expect(revived.toRecord()).toEqual(error.toRecord());
      expect(revived.family).toBe(ERROR_FAMILIES[code]);
      const cause = revived.cause as EstaloError;
      expect([cause.code, cause.message, cause.hint]).toEqual([code, "middle", "try again"]);
      expect((cause.cause as EstaloError).data).toEqual({ errno: "EIO" });
    }
  });

  it("has an Error's name, stack and cause", () => {
    const cause = new RangeError("inner");
    const error = new EstaloError("ERR_ESTALO_BUG", "outer", { cause });
    expect(error).toBeInstanceOf(Error);
    expect([error.name, error.cause]).toEqual(["EstaloError", cause]);
    expect(error.stack).toContain("EstaloError: outer");
  });

  it("leaves out of its record what it does not have", () => {
    const record = new EstaloError("ERR_ESTALO_STATE", "not now").toRecord();
    expect(record).toEqual({ code: "ERR_ESTALO_STATE", message: "not now" });
  });

  it("turns a foreign cause into a bug's record with its stack", () => {
    const record = new EstaloError("ERR_ESTALO_ABORTED", "x", {
      cause: new Error("why"),
    }).toRecord();
    expect(record.cause?.code).toBe("ERR_ESTALO_BUG");
    expect(record.cause?.message).toContain("Error: why");
  });
});

describe("isEstaloError", () => {
  it("knows ours, also from another copy of the package", () => {
    const copy = Object.assign(new Error("x"), { code: "ERR_ESTALO_STATE" });
    expect(isEstaloError(new EstaloError("ERR_ESTALO_STATE", "x"))).toBe(true);
    expect(isEstaloError(copy)).toBe(true);
  });

  it.each([
    ["a system error", Object.assign(new Error("x"), { code: "ENOENT" })],
    [
      "a code that every object has a property of",
      Object.assign(new Error("x"), { code: "toString" }),
    ],
    ["an error without code", new Error("x")],
    ["a record", { code: "ERR_ESTALO_STATE", message: "x" }],
    ["text", "ERR_ESTALO_STATE"],
    ["nothing", undefined],
    ["null", null],
  ])("does not know %s", (_, value) => {
    expect(isEstaloError(value)).toBe(false);
  });
});

describe("toEstaloError", () => {
  it("leaves ours as they are", () => {
    const error = new EstaloError("ERR_ESTALO_STATE", "x");
    expect(toEstaloError(error)).toBe(error);
  });

  it.each([
    ["an error", new TypeError("broken"), /TypeError: broken\n.*errors\.spec/s],
    ["text", "thrown text", /^thrown text$/],
    ["nothing", undefined, /^undefined$/],
  ])("makes %s a bug that keeps its text", (_, value, message) => {
    const error = toEstaloError(value);
    expect(error.code).toBe("ERR_ESTALO_BUG");
    expect(error.message).toMatch(message);
  });
});

describe("hostError", () => {
  it("says operation, object and errno, in words and as data", () => {
    const system = Object.assign(new Error("ENOENT: no such file"), { code: "ENOENT", errno: -2 });
    const error = hostError("open", "kernel /boot/x", system, "ERR_ESTALO_KERNEL_FILE", "look");
    expect(error).toMatchObject({
      code: "ERR_ESTALO_KERNEL_FILE",
      family: "config",
      message: "open kernel /boot/x: ENOENT",
      hint: "look",
      data: { operation: "open", object: "kernel /boot/x", errno: "ENOENT" },
    });
  });

  it("is a matter of the host unless a code says otherwise", () => {
    const error = hostError("mmap", "guest memory", Object.assign(new Error(), { code: "ENOMEM" }));
    expect([error.code, error.hint]).toEqual(["ERR_ESTALO_HOST", undefined]);
  });

  it("keeps the text of what is no system error", () => {
    const error = hostError("attach", "vCPU 0", new TypeError("the wrong size"));
    expect(error.message).toBe("attach vCPU 0: the wrong size");
    expect(error.toRecord().cause?.message).toContain("TypeError: the wrong size");
    expect(hostError("attach", "vCPU 0", "text").message).toBe("attach vCPU 0: text");
  });
});
