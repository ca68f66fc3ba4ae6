import { describe, expect, it } from "vitest";
import { MetadataStore } from "../../src/actors/metadata-store.js";

const coded = (code: string, problem?: string) =>
  expect.objectContaining({ code, ...(problem && { data: expect.objectContaining({ problem }) }) });

describe("MetadataStore", () => {
  it("gives copies of what was put and patched", () => {
    const mine = { a: { b: 1 } };
    const store = new MetadataStore(100, mine);
    mine.a.b = 2;
    (store.get().a as { b: number }).b = 3;
    expect(store.get()).toEqual({ a: { b: 1 } });
    store.patch({ a: { b: null, c: [true] } });
    expect(store.get()).toEqual({ a: { c: [true] } });
    store.put({});
    expect(store.get()).toEqual({});
  });

  it("is empty, and not to be patched, until data was put", () => {
    const store = new MetadataStore(100);
    expect(store.get()).toEqual({});
    expect(() => store.patch({ a: 1 })).toThrow(coded("ERR_ESTALO_STATE", "not initialized"));
    expect(store.get()).toEqual({});
  });

  it("keeps what it has when it refuses", () => {
    const store = new MetadataStore(10, { a: 1 });
    expect(() => store.put({ a: "12345" })).toThrow(coded("ERR_ESTALO_TOO_LARGE", "too large"));
    expect(() => store.patch({ b: "12345" })).toThrow(coded("ERR_ESTALO_TOO_LARGE"));
    expect(store.get()).toEqual({ a: 1 });
    expect(() => new MetadataStore(1, { a: 1 })).toThrow(coded("ERR_ESTALO_TOO_LARGE"));
  });

  it("takes JSON objects only", () => {
    const store = new MetadataStore(1e5);
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    let deep: Record<string, unknown> = {};
    for (let level = 0; level < 500; level++) deep = { deep };
    const others = [null, undefined, [], "text", 1, () => 1, circle, deep, { big: 1n }];
    for (const other of others as unknown as Record<string, unknown>[]) {
      expect(() => store.put(other)).toThrow(coded("ERR_ESTALO_CONFIG_INVALID"));
    }
    store.put({ undefined, when: new Date(0), not: Number.NaN });
    expect(store.get()).toEqual({ when: "1970-01-01T00:00:00.000Z", not: null });
  });
});
