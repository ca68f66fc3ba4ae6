import { describe, expect, it } from "vitest";
import { checkPmem } from "../../src/actors/config-pmem.js";

describe("checkPmem", () => {
  it("fills in what is not said", () => {
    expect(checkPmem([{ path: "a" }, { id: "x", path: "b", isRoot: true }], [])).toEqual([
      { id: "pmem0", path: "a", isRoot: false, readOnly: false, rateLimiter: {} },
      { id: "x", path: "b", isRoot: true, readOnly: false, rateLimiter: {} },
    ]);
  });

  it.each([
    ["pmem", {}],
    ["pmem[0].path", [{}]],
    ["pmem[0].id", [{ path: "a", id: "a-b" }]],
    ["pmem[1].id", [{ path: "a", id: "pmem1" }, { path: "b" }]],
    ["pmem[0].readOnly", [{ path: "a", readOnly: 1 }]],
    ["pmem[0].size", [{ path: "a", size: 1 }]],
    [
      "pmem",
      [
        { path: "a", isRoot: true },
        { path: "b", isRoot: true },
      ],
    ],
  ])("refuses %s in %j", (field, config) => {
    expect(() => checkPmem(config as never, [])).toThrow(
      expect.objectContaining({ data: expect.objectContaining({ field }) }),
    );
  });

  it("refuses a root beside a drive that is one", () => {
    expect(() => checkPmem([{ path: "a", isRoot: true }], [{ isRoot: true }])).toThrow(
      /at most one/,
    );
  });
});
