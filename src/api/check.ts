/**
 * Checks what a client sent against a schema: JSON text, and the text of a query or a header.
 *
 * One interpreter of the part of JSON Schema that our schemas use: objects (with `additionalProperties:
 * false`, or others left out of the value), optional properties, records, arrays, strings (`pattern`, lengths in
 * characters), integers, numbers, booleans, null, `enum` and `const`, unions told apart by the kind of value,
 * and `{}` for any JSON. The text is read once, along the schema, as serde does: the first mistake is the one
 * told, at the place where serde_json would tell it, in its words (`serde`) and in plain ones (`expected`, `got`).
 *
 * As with serde: a key twice in an object is a mistake, in any JSON and in a record the last one counts; unknown
 * keys are a mistake only where the schema is closed. Unlike serde: an array is never taken for an object.
 */
import type { TSchema } from "typebox";
import { describeSchema, oneOf, serdeExpected, serdeUnexpected } from "./check-wording.js";
import { JsonFault, type JsonKind, JsonReader, placeOf } from "./json-reader.js";
import type { JsonSchema, Problem } from "./json-schema.js";

/** The value, or what is wrong with it. */
export type Checked = { readonly value: unknown } | { readonly problem: Problem };

/** Checks a body. `bytes` is UTF-8, whatever it holds; nothing is thrown for it. */
export function checkJson(schema: TSchema, bytes: Uint8Array): Checked {
  const reader = new JsonReader(bytes);
  const check = new Check(reader);
  try {
    const value = check.read(schema as JsonSchema);
    reader.end();
    return { value };
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error;
    const { expected, got, serde } = error;
    return {
      problem: {
        pointer: check.pointer,
        expected,
        got,
        serde,
        ...placeOf(bytes, error.offset),
      },
    };
  }
}

/**
 * Checks the values that a query or a header has under one name, and converts them: to a number, to true or
 * false, to a list where the schema is one. Elsewhere a second value is a mistake.
 */
export function checkText(schema: TSchema, texts: readonly string[], name: string): Checked {
  const json = schema as JsonSchema;
  const wrong = (expected: string, got: string): Checked => ({
    problem: {
      pointer: `/${escapePointer(name)}`,
      expected,
      got,
      serde: `invalid value: ${got}, expected ${expected}`,
      line: 0,
      column: 0,
    },
  });
  if (json.type === "array") {
    if (texts.length > (json.maxItems ?? Number.MAX_SAFE_INTEGER)) {
      return wrong(describeSchema(json), `${texts.length} values`);
    }
    const values: unknown[] = [];
    for (const text of texts) {
      const checked = checkText((json.items ?? {}) as TSchema, [text], name);
      if ("problem" in checked) return checked;
      values.push(checked.value);
    }
    return { value: values };
  }
  if (texts.length > 1) return wrong("one value", `${texts.length} values`);
  const value = convertText(json, texts[0]);
  const isWrong = value === undefined || faultOf(json, value) !== undefined;
  return isWrong ? wrong(describeSchema(json), JSON.stringify(texts[0])) : { value };
}

function convertText(schema: JsonSchema, text: string): unknown {
  switch (schema.type) {
    case "integer":
      return /^-?\d{1,16}$/.test(text) ? Number(text) : undefined;
    case "number":
      return /^-?\d{1,17}(\.\d{1,17})?$/.test(text) ? Number(text) : undefined;
    case "boolean":
      return text === "true" ? true : text === "false" ? false : undefined;
    default:
      return text;
  }
}

/** A pass along a schema and a text. */
class Check {
  readonly #reader: JsonReader;
  readonly #path: string[] = [];

  constructor(reader: JsonReader) {
    this.#reader = reader;
  }

  get pointer(): string {
    return this.#path.map((part) => `/${escapePointer(part)}`).join("");
  }

  read(schema: JsonSchema): unknown {
    const choices = schema.anyOf;
    if (choices !== undefined) return this.#choice(schema, choices);
    if (schema.enum !== undefined || schema.const !== undefined) return this.#variant(schema);
    const kind = this.#reader.peekKind();
    const { type } = schema;
    if (type === undefined) return this.#any(kind);
    if (type !== kind && !(type === "integer" && kind === "number")) {
      throw this.#wrongKind(schema, kind);
    }
    if (kind === "object") return this.#object(schema);
    if (kind === "array") return this.#list(schema);
    return this.#scalar(schema, kind);
  }

  /** Unions: null or something; constants; else the first whose kind it is. */
  #choice(schema: JsonSchema, choices: readonly JsonSchema[]): unknown {
    const others = choices.filter(({ type }) => type !== "null");
    const kind = this.#reader.peekKind();
    if (kind === "null" && others.length < choices.length) return this.#reader.readNull();
    if (others.length > 1 && others.every((one) => one.const !== undefined)) {
      return this.#variant({ enum: others.map((one) => one.const) });
    }
    if (others.length === 1) return this.read(others[0]);
    const fitting = others.find(
      ({ type }) => type === kind || (type === "integer" && kind === "number"),
    );
    if (fitting === undefined) throw this.#wrongKind(schema, kind);
    return this.read(fitting);
  }

  #variant(schema: JsonSchema): unknown {
    const values = schema.enum ?? [schema.const];
    const kind = this.#reader.peekKind();
    if (!values.some((value) => typeof value === kind)) {
      const { offset } = this.#reader;
      throw new JsonFault(offset + 1, "expected value", describeSchema(schema), kind);
    }
    const value = this.#scalar({}, kind);
    if (values.includes(value)) return value;
    const serde = `unknown variant \`${value}\`, expected ${oneOf(values)}`;
    throw this.#here(serde, describeSchema(schema), JSON.stringify(value));
  }

  #scalar(schema: JsonSchema, kind: JsonKind): unknown {
    const reader = this.#reader;
    if (kind === "boolean") return reader.readBoolean();
    if (kind === "null") return reader.readNull();
    if (kind === "string") {
      const value = reader.readString();
      this.#limit(schema, value, serdeUnexpected(value));
      return value;
    }
    const { value, text, isInteger } = reader.readNumber();
    if (schema.type === "integer" && !isInteger) {
      const serde = `invalid type: floating point \`${text}\`, expected ${serdeExpected(schema)}`;
      throw this.#here(serde, describeSchema(schema), text);
    }
    this.#limit(schema, value, isInteger ? `integer \`${text}\`` : `floating point \`${text}\``);
    return value;
  }

  #limit(schema: JsonSchema, value: string | number, unexpected: string): void {
    const expected = faultOf(schema, value);
    if (expected === undefined) return;
    const { words, at } = schema["x-serde-fault"] ?? {
      words: `invalid value: ${unexpected}, expected ${serdeExpected(schema)}`,
      at: "value",
    };
    const reader = this.#reader;
    const offset = at === "value" ? reader.offset : reader.endOfObject();
    throw new JsonFault(offset, words, expected, JSON.stringify(value));
  }

  #object(schema: JsonSchema): unknown {
    if (schema.properties === undefined) return this.#record(schema);
    const reader = this.#reader;
    const shape = shapeOf(schema);
    const value: Record<string, unknown> = {};
    reader.enterObject();
    for (let isFirst = true; ; isFirst = false) {
      const key = reader.nextKey(isFirst);
      if (key === undefined) break;
      const property = shape.properties.get(key);
      this.#path.push(key);
      if (property === undefined) {
        if (shape.isClosed) throw this.#unknownField(key, [...shape.properties.keys()]);
        reader.readColon();
        this.#any(reader.peekKind());
      } else {
        if (Object.hasOwn(value, key)) throw this.#duplicateField(key);
        reader.readColon();
        value[key] = this.read(property);
      }
      this.#path.pop();
    }
    for (const key of shape.required) {
      if (Object.hasOwn(value, key)) continue;
      throw this.#here(`missing field \`${key}\``, `the key ${JSON.stringify(key)}`, "nothing");
    }
    return value;
  }

  #record(schema: JsonSchema): unknown {
    const reader = this.#reader;
    const patterns = Object.entries(schema.patternProperties ?? {});
    const { additionalProperties } = schema;
    const rest = typeof additionalProperties === "object" ? additionalProperties : {};
    const max = schema.maxProperties ?? Number.MAX_SAFE_INTEGER;
    const value: Record<string, unknown> = {};
    reader.enterObject();
    for (let count = 0; ; count++) {
      const key = reader.nextKey(count === 0);
      if (key === undefined) return value;
      this.#path.push(key);
      const found = patterns.find(([pattern]) => regExpOf(pattern).test(key));
      if ((found === undefined && patterns.length > 0) || count >= max) {
        const serde = `invalid value: ${serdeUnexpected(key)}, expected ${serdeExpected(schema)}`;
        throw this.#here(serde, describeSchema(schema), `the key ${JSON.stringify(key)}`);
      }
      reader.readColon();
      setOwn(value, key, this.read(found?.[1] ?? rest));
      this.#path.pop();
    }
  }

  #list(schema: JsonSchema): unknown[] {
    const reader = this.#reader;
    const max = schema.maxItems ?? Number.MAX_SAFE_INTEGER;
    const values: unknown[] = [];
    reader.enterList();
    while (reader.nextElement(values.length === 0)) {
      this.#path.push(String(values.length));
      if (values.length === max) throw this.#wrongLength(schema, max + 1);
      values.push(this.read(schema.items ?? {}));
      this.#path.pop();
    }
    if (values.length < (schema.minItems ?? 0)) throw this.#wrongLength(schema, values.length);
    return values;
  }

  #any(kind: JsonKind): unknown {
    if (kind === "object") return this.#record({});
    if (kind === "array") return this.#list({});
    return this.#scalar({}, kind);
  }

  /** serde_json reads a scalar that it does not want, and looks at a list or an object. */
  #wrongKind(schema: JsonSchema, kind: JsonKind): JsonFault {
    const expected = serdeExpected(schema);
    const plain = describeSchema(schema);
    if (kind === "object" || kind === "array") {
      const unexpected = kind === "object" ? "map" : "sequence";
      return this.#here(`invalid type: ${unexpected}, expected ${expected}`, plain, `an ${kind}`);
    }
    const unexpected =
      kind === "number" ? this.#unexpectedNumber() : serdeUnexpected(this.#scalar({}, kind));
    return this.#here(`invalid type: ${unexpected}, expected ${expected}`, plain, unexpected);
  }

  #unexpectedNumber(): string {
    const { text, isInteger } = this.#reader.readNumber();
    return isInteger ? `integer \`${text}\`` : `floating point \`${text}\``;
  }

  #wrongLength(schema: JsonSchema, length: number): JsonFault {
    const expected = describeSchema(schema);
    return this.#here(`invalid length ${length}, expected ${expected}`, expected, `${length}`);
  }

  #unknownField(key: string, known: readonly string[]): JsonFault {
    const serde =
      known.length === 0
        ? `unknown field \`${key}\`, there are no fields`
        : `unknown field \`${key}\`, expected ${oneOf(known)}`;
    const expected = known.length === 0 ? "no keys" : `one of the keys ${known.join(", ")}`;
    const offset = this.#reader.endOfObject();
    return new JsonFault(offset, serde, expected, `the key ${JSON.stringify(key)}`);
  }

  #duplicateField(key: string): JsonFault {
    const offset = this.#reader.endOfObject();
    return new JsonFault(offset, `duplicate field \`${key}\``, "each key once", "a second one");
  }

  #here(serde: string, expected: string, got: string): JsonFault {
    return new JsonFault(this.#reader.offset, serde, expected, got);
  }
}

/** What the value would have to be, if it is not that. */
function faultOf(schema: JsonSchema, value: unknown): string | undefined {
  const values = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  if (values !== undefined) return values.includes(value) ? undefined : describeSchema(schema);
  if (typeof value === "number") {
    const isInteger = schema.type === "integer";
    const min = schema.minimum ?? (isInteger ? Number.MIN_SAFE_INTEGER : Number.NEGATIVE_INFINITY);
    const max = schema.maximum ?? (isInteger ? Number.MAX_SAFE_INTEGER : Number.POSITIVE_INFINITY);
    return value < min || value > max ? describeSchema(schema) : undefined;
  }
  if (typeof value !== "string") return undefined;
  const { minLength = 0, maxLength = Number.MAX_SAFE_INTEGER, pattern } = schema;
  // In characters, not UTF-16 units, which are at most twice as many.
  const length =
    value.length <= minLength || value.length > maxLength ? [...value].length : value.length;
  const fits =
    length >= minLength &&
    length <= maxLength &&
    (pattern === undefined || regExpOf(pattern).test(value));
  return fits ? undefined : describeSchema(schema);
}

interface Shape {
  readonly properties: ReadonlyMap<string, JsonSchema>;
  readonly required: readonly string[];
  readonly isClosed: boolean;
}

const shapes = new WeakMap<JsonSchema, Shape>();
const regExps = new Map<string, RegExp>();

function shapeOf(schema: JsonSchema): Shape {
  let shape = shapes.get(schema);
  if (shape === undefined) {
    shape = {
      properties: new Map(Object.entries(schema.properties ?? {})),
      required: schema.required ?? [],
      isClosed: schema.additionalProperties === false,
    };
    shapes.set(schema, shape);
  }
  return shape;
}

/** Patterns are our schemas', a fixed set. */
function regExpOf(pattern: string): RegExp {
  let regExp = regExps.get(pattern);
  if (regExp === undefined) {
    regExp = new RegExp(pattern, "u");
    regExps.set(pattern, regExp);
  }
  return regExp;
}

/** As JSON.parse does: a key `__proto__` is a key. */
function setOwn(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key !== "__proto__") object[key] = value;
  else
    Object.defineProperty(object, key, {
      value,
      enumerable: true,
      configurable: true,
      writable: true,
    });
}

function escapePointer(part: string): string {
  return part.replaceAll("~", "~0").replaceAll("/", "~1");
}
