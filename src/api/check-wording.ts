/**
 * What a check says: of schemas and values, in plain words and in serde's (serde 1.0, de/mod.rs; serde_json
 * 1.0, error.rs), and of a problem as a whole, for either door.
 */
import type { JsonSchema, Problem } from "./json-schema.js";

/** For people: `/drives/0/path: expected a string, got integer `5` (line 1, column 20)`. */
export function plainWording({ pointer, expected, got, line, column }: Problem): string {
  const place = line === 0 ? "" : ` (line ${line}, column ${column})`;
  return `${pointer === "" ? "the body" : pointer}: expected ${expected}, got ${got}${place}`;
}

/** As Firecracker's replies have it: ``missing field `drive_id` at line 1 column 2``. */
export function serdeWording({ serde, line, column }: Problem): string {
  return `${serde} at line ${line} column ${column}`;
}

/** A schema in words: "an integer from 1 to 32". */
export function describeSchema(schema: JsonSchema): string {
  if (schema.anyOf !== undefined)
    return [...new Set(schema.anyOf.map(describeSchema))].join(" or ");
  if (schema.enum !== undefined)
    return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  switch (schema.type) {
    case "integer":
    case "number":
      return `${schema.type === "integer" ? "an integer" : "a number"}${rangeOf(schema.minimum, schema.maximum)}`;
    case "string": {
      const length = rangeOf(schema.minLength, schema.maxLength);
      const size = length === "" ? "" : ` of${length.replace(" from", "")} characters`;
      return `a string${size}${schema.pattern === undefined ? "" : ` that matches ${schema.pattern}`}`;
    }
    case "array": {
      const length = rangeOf(schema.minItems, schema.maxItems);
      return `a list${length === "" ? "" : ` of${length.replace(" from", "")} elements`}`;
    }
    case "object":
      return schema.maxProperties === undefined
        ? "an object"
        : `an object of at most ${schema.maxProperties} keys`;
    case "boolean":
      return "true or false";
    case "null":
      return "null";
    default:
      return "a value";
  }
}

function rangeOf(min: number | undefined, max: number | undefined): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`;
  if (min !== undefined) return ` at least ${min}`;
  return max === undefined ? "" : ` at most ${max}`;
}

/** Rust's integer types by what they hold, smallest first. */
const UNSIGNED: readonly (readonly [number, string])[] = [
  [2 ** 8 - 1, "u8"],
  [2 ** 16 - 1, "u16"],
  [2 ** 32 - 1, "u32"],
];

/** What serde says it expected: `x-serde` of the schema, or the Rust type that most likely has its range. */
export function serdeExpected(schema: JsonSchema): string {
  const given = schema["x-serde"];
  if (given !== undefined) return given;
  switch (schema.type) {
    case "integer":
      if ((schema.minimum ?? 0) < 0) return "i64";
      return UNSIGNED.find(([max]) => max === schema.maximum)?.[1] ?? "u64";
    case "number":
      return "f64";
    case "string":
      return "a string";
    case "boolean":
      return "a boolean";
    case "array":
      return "a sequence";
    case "null":
      return "unit";
    case "object":
      return schema.properties === undefined ? "a map" : `struct ${schema.title ?? "object"}`;
    default:
      return describeSchema(schema);
  }
}

/** A value as serde names one that it did not expect. */
export function serdeUnexpected(value: unknown): string {
  if (typeof value === "string") return `string ${rustDebug(value)}`;
  if (typeof value === "boolean") return `boolean \`${value}\``;
  return "null";
}

/** serde's list of names. */
export function oneOf(names: readonly unknown[]): string {
  const quoted = names.map((name) => `\`${name}\``);
  if (quoted.length <= 2) return quoted.join(" or ");
  return `one of ${quoted.join(", ")}`;
}

/** A string as Rust's `{:?}` writes it. */
function rustDebug(text: string): string {
  const escaped = text.replaceAll(/[\\"\p{Cc}\p{Zl}\p{Zp}]/gu, (char) => {
    const short: Readonly<Record<string, string>> = {
      "\\": "\\\\",
      '"': '\\"',
      "\n": "\\n",
      "\r": "\\r",
      "\t": "\\t",
      "\0": "\\0",
    };
    return short[char] ?? `\\u{${char.codePointAt(0)?.toString(16)}}`;
  });
  return `"${escaped}"`;
}
