import Type from "typebox";
import { describe, expect, it } from "vitest";
import { jsonReply, serialiserOf } from "../../src/api/serialise.js";

const Thing = Type.Object(
  {
    id: Type.String(),
    size: Type.Union([Type.Integer(), Type.Null()]),
    labels: Type.Record(Type.String(), Type.String()),
    kind: Type.Enum(["a", "b"], { type: "string" }),
    template: Type.Optional(
      Type.Union([Type.String(), Type.Record(Type.String(), Type.Unknown())]),
    ),
    data: Type.Unknown(),
    exit: Type.Union([Type.Object({ reason: Type.String() }), Type.Null()]),
  },
  { title: "Thing", "x-serde": "struct Thing" },
);

const thing = {
  id: 'quote " and \u2028',
  size: null,
  labels: { a: "b", __proto__x: "c" },
  kind: "a" as const,
  data: { list: [1, "two"] },
  exit: null,
};

describe("serialiserOf", () => {
  it("writes what JSON.stringify writes", () => {
    for (const value of [
      thing,
      { ...thing, size: 5, template: { a: [1] }, exit: { reason: "x" } },
    ]) {
      expect(JSON.parse(serialiserOf(Thing)(value))).toEqual(JSON.parse(JSON.stringify(value)));
    }
  });

  it("leaves out what the schema does not have", () => {
    const more = { ...thing, secret: "token" };
    expect(serialiserOf(Thing)(more)).not.toContain("token");
  });

  it("raises for a value that is none", () => {
    const { id: _, ...less } = thing;
    expect(() => serialiserOf(Thing)(less as typeof thing)).toThrow(/id/);
  });
});

describe("jsonReply", () => {
  it("is a reply with the value", () => {
    const reply = jsonReply(201, Thing, thing, { Location: "/x" });
    expect(reply.status).toBe(201);
    expect(reply.headers).toEqual({ Location: "/x" });
    expect(JSON.parse(String(reply.body)).id).toBe(thing.id);
  });
});
