import { Validator } from "@seriousme/openapi-schema-validator";
import Type from "typebox";
import { describe, expect, it } from "vitest";
import { openApiDocument } from "../../src/api/openapi.js";
import type { RouteSpec } from "../../src/api/route.js";
import { ROUTE_SPECS } from "../../src/api/v1/route-specs.js";

const info = { title: "T", version: "1", description: "D" };

const Part = Type.Object(
  { title: Type.String(), more: Type.Optional(Type.Unknown()) },
  { title: "Part" },
);
const Whole = Type.Object(
  { part: Part, parts: Type.Array(Part), none: Type.Union([Part, Type.Null()]) },
  { title: "Whole", "x-serde": "struct Whole" },
);

const routes: RouteSpec[] = [
  {
    operationId: "put",
    method: "PUT",
    path: "/things/{id}/{other}",
    summary: "Put.",
    tag: "things",
    params: Type.Object({ id: Type.String({ description: "Its id." }) }),
    query: Type.Object({ force: Type.Optional(Type.Boolean()), size: Type.Integer() }),
    body: Whole,
    replies: {
      204: { description: "Done." },
      400: { description: "No.", schema: Part },
      200: { description: "Bytes.", schema: Type.String(), contentType: "text/plain" },
    },
  },
];

describe("openApiDocument", () => {
  // biome-ignore lint/suspicious/noExplicitAny: a document is read by paths of its own
  const document = openApiDocument({ ...info, hasToken: true }, routes) as any;
  const put = document.paths["/things/{id}/{other}"].put;

  it("describes parameters, those of the path without a schema too", () => {
    expect(put.parameters).toEqual([
      {
        name: "id",
        in: "path",
        required: true,
        description: "Its id.",
        schema: { type: "string" },
      },
      { name: "other", in: "path", required: true, schema: { type: "string" } },
      { name: "force", in: "query", schema: { type: "boolean" } },
      { name: "size", in: "query", required: true, schema: { type: "integer" } },
    ]);
  });

  it("keeps each named schema once, and nothing that is ours alone", () => {
    const ref = { $ref: "#/components/schemas/Part" };
    expect(put.requestBody.content["application/json"].schema.$ref).toMatch(/Whole$/);
    expect(document.components.schemas.Whole.properties).toEqual({
      part: ref,
      parts: { type: "array", items: ref },
      none: { anyOf: [ref, { type: "null" }] },
    });
    expect(document.components.schemas.Part.properties.title).toEqual({ type: "string" });
    expect(JSON.stringify(document)).not.toContain("x-serde");
  });

  it("refuses two schemas of one name", () => {
    const other = Type.Object({}, { title: "Part" });
    const replies = {
      200: { description: "", schema: other },
      201: { description: "", schema: Part },
    };
    expect(() => openApiDocument(info, [{ ...routes[0], replies }])).toThrow(/called Part/);
  });

  it.each([
    ["the one above", routes],
    ["door 2", Object.values(ROUTE_SPECS)],
  ])("is valid OpenAPI 3.1: %s", async (_, specs) => {
    const made = openApiDocument({ ...info, hasToken: true }, specs as RouteSpec[]);
    const result = await new Validator().validate(structuredClone(made) as Record<string, unknown>);
    expect(result).toMatchObject({ valid: true });
  });
});
