import { describe, expect, it } from "vitest";
import { native } from "../../src/native/binding.js";
import { KVM_STRUCTS } from "../../src/native/kvm-structs.js";
import * as layouts from "../../src/native/layouts.js";

/** Made from other constants here; the addon has no name for it. */
const DERIVED = ["TRACE_BYTES"];

const compiled = native().numbers;
const isOfStruct = (name: string) => name.includes(".") || name.startsWith("sizeof ");

describe("layouts.ts", () => {
  it("has every constant of the addon, with the value its compiler saw", () => {
    const names = Object.entries(compiled).filter(([name]) => !isOfStruct(name));
    expect(names.length).toBeGreaterThan(50);
    expect(layouts).toMatchObject(Object.fromEntries(names));
  });

  it("has no constant that the addon does not know", () => {
    const unknown = Object.keys(layouts).filter((name) => compiled[name] === undefined);
    expect(unknown).toEqual(DERIVED);
  });

  it("gives a trace ring room for its header and all its records", () => {
    expect(layouts.TRACE_BYTES).toBe(
      layouts.TRACE_HEADER_BYTES + layouts.TRACE_RECORDS * layouts.TRACE_RECORD_BYTES,
    );
  });
});

describe("kvm-structs.ts", () => {
  it.each(KVM_STRUCTS.map((struct) => [struct.name, struct] as const))(
    "has struct %s as the addon's compiler laid it out",
    (name, struct) => {
      expect(struct.sizeBytes).toBe(compiled[`sizeof ${name}`]);
      for (const [field, layout] of Object.entries(struct.fields)) {
        const bytes = "struct" in layout ? layout.struct.sizeBytes : layout.width;
        const count = "struct" in layout ? 1 : ((layout as { count?: number }).count ?? 1);
        const where = `${name}.${field}`;
        expect([where, layout.offset]).toEqual([where, compiled[where]]);
        expect([where, bytes * count]).toEqual([where, compiled[`sizeof ${where}`]]);
      }
    },
  );

  it("has every structure and field that the addon tells of", () => {
    const known = KVM_STRUCTS.flatMap(({ name, fields }) => [
      `sizeof ${name}`,
      ...Object.keys(fields).flatMap((field) => [`${name}.${field}`, `sizeof ${name}.${field}`]),
    ]);
    expect(Object.keys(compiled).filter(isOfStruct).sort()).toEqual(known.sort());
  });
});
