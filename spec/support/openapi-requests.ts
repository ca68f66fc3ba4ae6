/**
 * Requests made from an OpenAPI document: what it describes, what is nearly that, and what it does not know.
 */
import fc from "fast-check";

// biome-ignore lint/suspicious/noExplicitAny: a document is read by paths of its own
type Json = any;

/** A request to send as bytes. */
export interface GeneratedRequest {
  readonly method: string;
  /** With its query, percent-encoded where it is not meant to be wrong. */
  readonly target: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
  /** The operation's description, when it is one of the document's. */
  readonly operation: Json | undefined;
}

const METHODS = ["GET", "PUT", "PATCH", "POST", "DELETE", "HEAD", "OPTIONS", "BREW"];

/** Values that a schema did not ask for. */
const STRANGE_VALUES: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1e308,
  2 ** 53,
  0.5,
  "",
  "\0",
  "..",
  "../../etc/passwd",
  "\ud800",
  "é\u202e\u{1f4a9}",
  "x".repeat(5000),
  [],
  [[[[[]]]]],
  {},
  { __proto__: null, constructor: 1 },
];

/** What stands in a path where an id should. */
const STRANGE_SEGMENTS = [
  ...["", ".", "..", "%2e%2e", "%2E%2E%2Fetc", "%00", "%", "%zz", "%ff", "%C3%A9", "a%2fb"],
  ...[
    "x".repeat(64),
    "x".repeat(65),
    "x".repeat(3000),
    "a b",
    "a\tb",
    "é",
    "__proto__",
    "*",
    "{id}",
  ],
];

/** Values of a schema, deep enough to be of use. */
export function valuesOf(schema: Json, document: Json, depth = 0): fc.Arbitrary<unknown> {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.replace("#/components/schemas/", "");
    return valuesOf(document.components.schemas[name], document, depth);
  }
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (schema.anyOf !== undefined) {
    return fc.oneof(...schema.anyOf.map((one: Json) => valuesOf(one, document, depth)));
  }
  switch (schema.type) {
    case "string":
      return stringOf(schema);
    case "integer":
      return fc.integer(rangeOf(schema));
    case "number":
      return fc.double({ noNaN: true, noDefaultInfinity: true, ...rangeOf(schema) });
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "array":
      return fc.array(valuesOf(schema.items ?? {}, document, depth + 1), { maxLength: 3 });
    case "object":
      return objectOf(schema, document, depth);
    default:
      return fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<unknown>;
  }
}

function rangeOf({ minimum, maximum }: Json): { min: number; max: number } {
  const min = minimum ?? -(2 ** 31);
  return { min, max: Math.min(maximum ?? 2 ** 31 - 1, min + 2 ** 31) };
}

function stringOf({ pattern, minLength = 0, maxLength = 100 }: Json): fc.Arbitrary<string> {
  if (pattern !== undefined) return fc.stringMatching(new RegExp(pattern, "u"));
  return fc.string({ minLength, maxLength: Math.min(maxLength, 100) });
}

function objectOf(schema: Json, document: Json, depth: number): fc.Arbitrary<unknown> {
  const { properties, patternProperties, required = [] } = schema;
  if (properties === undefined) {
    const [[pattern, value] = [".*", {}]] = Object.entries<Json>(patternProperties ?? {});
    const key = fc.stringMatching(new RegExp(pattern, "u"));
    return fc.dictionary(key, valuesOf(value, document, depth + 1), { maxKeys: 3 });
  }
  const fields = Object.entries<Json>(properties).map(([name, property]) => [
    name,
    valuesOf(property, document, depth + 1),
  ]);
  return fc.record(Object.fromEntries(fields), { requiredKeys: required });
}

/** A value with one of its parts replaced, taken away or added. */
function mutated(value: unknown, pick: number, strange: unknown): unknown {
  if (typeof value !== "object" || value === null) return strange;
  const keys = Object.keys(value);
  if (keys.length === 0 || pick % 7 === 0) {
    return Array.isArray(value) ? [...value, strange] : { ...value, [`key${pick}`]: strange };
  }
  const key = keys[pick % keys.length];
  const copy: Json = Array.isArray(value) ? [...value] : { ...value };
  copy[key] = mutated(copy[key], Math.floor(pick / 2), strange);
  return copy;
}

function bodyOf(operation: Json, document: Json): fc.Arbitrary<Uint8Array | undefined> {
  const schema = operation?.requestBody?.content?.["application/json"]?.schema ?? {};
  const good = valuesOf(schema, document);
  const near = fc
    .tuple(good, fc.nat(1000), fc.constantFrom(...STRANGE_VALUES))
    .map(([value, pick, strange]) => mutated(value, pick, strange));
  const asText = (value: unknown) => Buffer.from(JSON.stringify(value) ?? "");
  return fc.oneof(
    { weight: 5, arbitrary: good.map(asText) },
    { weight: 4, arbitrary: near.map(asText) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) },
    { weight: 1, arbitrary: good.map((value) => asText(value).subarray(0, -1)) },
    { weight: 2, arbitrary: fc.constant(undefined) },
  );
}

function queryOf(operation: Json, document: Json): fc.Arbitrary<string> {
  const parameters = (operation?.parameters ?? []).filter((one: Json) => one.in === "query");
  const strange = fc.constantFrom(...STRANGE_SEGMENTS, "-1", "1e9", "true", "null");
  const pairs = parameters.map((parameter: Json) => {
    const values = valuesOf(parameter.schema, document).map((value) =>
      (Array.isArray(value) ? value : [value])
        .map((one) => `${parameter.name}=${encodeURIComponent(wellFormed(String(one)))}`)
        .join("&"),
    );
    return fc.oneof(
      { weight: 4, arbitrary: values },
      { weight: 4, arbitrary: fc.constant("") },
      { weight: 1, arbitrary: strange.map((value) => `${parameter.name}=${printable(value)}`) },
    );
  });
  const unknown = fc.oneof(
    { weight: 8, arbitrary: fc.constant("") },
    { weight: 1, arbitrary: strange.map((value) => `other=${printable(value)}`) },
  );
  return fc.tuple(...pairs, unknown).map((parts) => parts.filter((part) => part !== "").join("&"));
}

/** Without lone surrogates, which no encoding has. */
const wellFormed = (text: string) => Buffer.from(text).toString();

/** What a request line cannot hold is left out of it. */
const printable = (text: string) => text.replace(/[^\x21-\x7e]/g, "_");

/** Requests to every operation of the document, and past them. `ids`: of microVMs that exist. */
export function requestsOf(document: Json, ids: readonly string[]): fc.Arbitrary<GeneratedRequest> {
  const places = Object.entries<Json>(document.paths).flatMap(([path, item]) =>
    METHODS.map((method) => ({ path, method, operation: item[method.toLowerCase()] })),
  );
  const known = places.filter(({ operation }) => operation !== undefined);
  const place = fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...known) },
    { weight: 1, arbitrary: fc.constantFrom(...places) },
  );
  const segment = fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...ids) },
    { weight: 1, arbitrary: fc.constantFrom(...STRANGE_SEGMENTS).map(printable) },
    { weight: 1, arbitrary: fc.string().map((text) => encodeURIComponent(wellFormed(text))) },
  );
  return place.chain(({ path, method, operation }) =>
    fc
      .record({
        segment,
        query: queryOf(operation, document),
        body: bodyOf(operation, document),
        type: fc.constantFrom(
          undefined,
          "application/json",
          "application/json; charset=utf-8",
          "x",
        ),
        key: fc.option(fc.stringMatching(/^[ -~]{0,130}$/), { freq: 8 }),
      })
      .map(({ segment: id, query, body, type, key }) => ({
        method,
        target: `${path.replaceAll(/\{\w+\}/g, () => id)}${query === "" ? "" : `?${query}`}`,
        headers: {
          ...(type === undefined ? {} : { "Content-Type": type }),
          ...(key === null ? {} : { "Idempotency-Key": key }),
        },
        body,
        operation,
      })),
  );
}
