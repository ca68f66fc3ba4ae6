import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  atPointer,
  DEPTH_MAX,
  imdsText,
  JsonStore,
  type JsonValue,
  mergePatch,
  writeJson,
} from "../../../src/devices/mmds/json-store.js";

/** RFC 7396, appendix A. */
const MERGES: readonly (readonly [JsonValue, JsonValue, JsonValue])[] = [
  [{ a: "b" }, { a: "c" }, { a: "c" }],
  [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
  [{ a: "b" }, { a: null }, {}],
  [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
  [{ a: ["b"] }, { a: "c" }, { a: "c" }],
  [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
  [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
  [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
  [
    ["a", "b"],
    ["c", "d"],
    ["c", "d"],
  ],
  [{ a: "b" }, ["c"], ["c"]],
  [{ a: "foo" }, null, null],
  [{ a: "foo" }, "bar", "bar"],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: "b", c: null }, { a: "b" }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];

/** RFC 6901, section 5. */
const DOCUMENT = JSON.parse(
  '{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\\\j":5,"k\\"l":6," ":7,"m~n":8}',
);
const POINTERS: readonly (readonly [string, unknown])[] = [
  ["", DOCUMENT],
  ["/foo", ["bar", "baz"]],
  ["/foo/0", "bar"],
  ["/", 0],
  ["/a~1b", 1],
  ["/c%d", 2],
  ["/e^f", 3],
  ["/g|h", 4],
  ["/i\\j", 5],
  ['/k"l', 6],
  ["/ ", 7],
  ["/m~0n", 8],
  ["/foo/2", undefined],
  ["/foo/00", undefined],
  ["/foo/-", undefined],
  ["/foo/length", undefined],
  ["/foo/0/0", undefined],
  ["/nowhere", undefined],
  ["foo", undefined],
  ["/__proto__", undefined],
  ["/constructor", undefined],
];

describe("mergePatch", () => {
  it.each(MERGES)("%j with %j is %j", (target, patch, merged) => {
    expect(mergePatch(target, patch)).toEqual(merged);
  });

  it("takes __proto__ for a key like any other", () => {
    const merged = mergePatch({}, JSON.parse('{"__proto__":{"polluted":1}}'));
    expect(Object.keys(merged as object)).toEqual(["__proto__"]);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(atPointer(merged, "/__proto__/polluted")).toBe(1);
    expect(writeJson(merged)).toBe('{"__proto__":{"polluted":1}}');
  });
});

describe("atPointer", () => {
  it.each(POINTERS)("%j", (pointer, value) => {
    expect(atPointer(DOCUMENT, pointer)).toEqual(value);
  });
});

describe("text forms", () => {
  it("have keys in the order of their bytes", () => {
    const value = {
      b: 1,
      a: { z: [1, { y: null, x: true }] },
      10: "",
      9: "",
      "\u{1f600}": 0,
      "\uffff": 0,
    };
    expect(writeJson(value)).toBe(
      '{"10":"","9":"","a":{"z":[1,{"x":true,"y":null}]},"b":1,"\uffff":0,"\u{1f600}":0}',
    );
    expect(imdsText(value)).toBe("10\n9\na/\nb\n\uffff\n\u{1f600}");
  });

  it("of IMDS are for objects and strings", () => {
    expect(imdsText({ list: ["x"], object: {} })).toBe("list\nobject/");
    expect(imdsText("raw\ntext")).toBe("raw\ntext");
    expect(imdsText("")).toBe("");
    for (const other of [1, true, null, ["x"]]) expect(imdsText(other)).toBeUndefined();
  });
});

/** An object this many levels deep. */
const nested = (depth: number) => {
  let value: JsonValue = {};
  for (let level = 1; level < depth; level++) value = { a: value };
  return value;
};

describe("JsonStore", () => {
  it("counts bytes of its text, and keeps what it had when there are too many", () => {
    const store = new JsonStore(10);
    expect(store.replace({ a: "xx" })).toBeUndefined();
    expect(store.replace({ a: "äää" })).toBe("too large");
    expect(store.merge({ b: 1 })).toBe("too large");
    expect(store.value).toEqual({ a: "xx" });
    expect(store.merge({ a: "xxx" })).toBe("too large");
    expect(store.merge({ a: null, b: 12 })).toBeUndefined();
    expect(store.value).toEqual({ b: 12 });
  });

  it("is not patched before it was put", () => {
    const store = new JsonStore(100);
    expect(store.merge({})).toBe("not initialized");
    expect(store.at("/")).toBeNull();
    expect(store.at("/a")).toBeUndefined();
    store.replace({});
    expect(store.merge({ a: 1 })).toBeUndefined();
  });

  it.each([[[]], ["text"], [1], [null], [true]])("holds no %j", (value) => {
    const store = new JsonStore(100);
    expect(store.replace(value)).toBe("not an object");
    store.replace({});
    expect(store.merge(value)).toBe("not an object");
  });

  it("has a floor", () => {
    const store = new JsonStore(1e6);
    expect(store.replace(nested(DEPTH_MAX))).toBeUndefined();
    expect(store.replace(nested(DEPTH_MAX + 1))).toBe("too deep");
    expect(store.replace(nested(200_000))).toBe("too deep");
    expect(store.merge(nested(200_000))).toBe("too deep");
    expect(store.replace({ wide: new Array(100_000).fill(0) })).toBeUndefined();
  });

  it.each([
    ["/a", { b: "c" }],
    ["/a/", { b: "c" }],
    ["//a///b", "c"],
    ["/a/b//", "c"],
    ["////", { a: { b: "c" } }],
    ["/a?x=1", undefined],
  ])("reads the path %s", (path, value) => {
    const store = new JsonStore(100);
    store.replace({ a: { b: "c" } });
    expect(store.at(path)).toEqual(value);
  });

  it("reads any path without a fault", () => {
    const store = new JsonStore(1e5);
    fc.assert(
      fc.property(fc.jsonValue(), fc.string(), (value, path) => {
        if (store.replace(JSON.parse(JSON.stringify({ value }))) !== undefined) return;
        store.at(path);
        store.at(`/value/${path}`);
        expect(JSON.parse(writeJson(store.value ?? {}))).toEqual(store.value);
      }),
    );
  });

  it("has at every pointer what is there", () => {
    const walk = (value: JsonValue, pointer: string, root: JsonValue): void => {
      expect(atPointer(root, pointer)).toBe(value);
      if (typeof value !== "object" || value === null) return;
      for (const [key, child] of Object.entries(value) as [string, JsonValue][]) {
        walk(child, `${pointer}/${key.replaceAll("~", "~0").replaceAll("/", "~1")}`, root);
      }
    };
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const root = JSON.parse(JSON.stringify(value));
        walk(root, "", root);
      }),
    );
  });
});
