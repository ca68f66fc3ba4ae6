import { describe, expect, it } from "vitest";
import { boolean, integer, oneOf, onlyFields, text } from "../../src/actors/config-checks.js";
import { EstaloError } from "../../src/errors.js";

function problem(check: () => unknown): { code: string; data: unknown; message: string } {
  try {
    check();
  } catch (error) {
    if (error instanceof EstaloError) return error;
    throw error;
  }
  throw new Error("nothing was raised");
}

describe("checks of single fields", () => {
  it("give back what is right", () => {
    expect(integer("a", 3, 1, 3)).toBe(3);
    expect(boolean("a", false)).toBe(false);
    expect(text("a", "/x")).toBe("/x");
    expect(oneOf("a", "b", ["a", "b"])).toBe("b");
    expect(() => onlyFields("a", { b: 1 }, ["b"])).not.toThrow();
  });

  it.each([
    ["a number below", () => integer("a", 0, 1, 3), "0"],
    ["a number above", () => integer("a", 4, 1, 3), "4"],
    ["half a number", () => integer("a", 1.5, 1, 3), "1.5"],
    ["a number as text", () => integer("a", "2", 1, 3), '"2"'],
    ["no truth", () => boolean("a", 1), "1"],
    ["an empty string", () => text("a", ""), '""'],
    ["a string that ends early for the host", () => text("a", "x\0y"), '"x\\u0000y"'],
    ["another word", () => oneOf("a", "c", ["a", "b"]), '"c"'],
    ["an object that is a list", () => onlyFields("a", [], ["b"]), "[]"],
    ["nothing where an object should be", () => onlyFields("a", null, ["b"]), "null"],
  ])("name the field and what it is: %s", (_what, check, got) => {
    const error = problem(check);
    expect(error.code).toBe("ERR_ESTALO_CONFIG_INVALID");
    expect(error.data).toMatchObject({ field: "a", got });
  });

  it("name a field that does not exist", () => {
    expect(problem(() => onlyFields("drive", { c: 1 }, ["b"])).data).toMatchObject({
      field: "drive.c",
    });
  });
});
