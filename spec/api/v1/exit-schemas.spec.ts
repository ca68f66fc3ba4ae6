import Ajv from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { checkText } from "../../../src/api/check.js";
import { ExitsQuery } from "../../../src/api/v1/exit-schemas.js";

const isTaken = (name: keyof (typeof ExitsQuery)["properties"], ...texts: string[]) =>
  !("problem" in checkText(ExitsQuery.properties[name], texts, name));

describe("the query's schema", () => {
  it("takes what docs/streams.md shows", () => {
    expect(isTaken("format", "binary")).toBe(true);
    expect(isTaken("kind", "pio,irq-window", "notify")).toBe(true);
    expect(isTaken("device", "drive root,none")).toBe(true);
    expect(isTaken("vcpu", "0,31")).toBe(true);
    expect(isTaken("direction", "read")).toBe(true);
    expect(isTaken("address", "0x3f8")).toBe(true);
    expect(isTaken("address", "0xc0001000-0xc0001fff")).toBe(true);
    expect(isTaken("size", "1,8")).toBe(true);
    expect(isTaken("by", "device,address")).toBe(true);
    expect(isTaken("windowMs", "10")).toBe(true);
  });

  it.each([
    ["format", "xml"],
    ["kind", "PIO"],
    ["device", ""],
    ["device", "a,,b"],
    ["vcpu", "-1"],
    ["vcpu", "100"],
    ["direction", "in"],
    ["address", "3f8"],
    ["address", "0x"],
    ["address", "0x1-0x2-0x3"],
    ["address", "0x123456789abcdef"],
    ["size", "3"],
    ["sample", "0"],
    ["history", "1024"],
    ["rip", "1"],
    ["windowMs", "9"],
  ] as const)("refuses %s=%s", (name, text) => {
    expect(isTaken(name, text)).toBe(false);
  });

  it("is JSON Schema", () => {
    expect(new Ajv.default({ strict: false }).validateSchema(ExitsQuery)).toBe(true);
  });
});
