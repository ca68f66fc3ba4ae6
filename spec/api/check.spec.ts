import fc from "fast-check";
import Type, { type TSchema } from "typebox";
import { describe, expect, it } from "vitest";
import { checkJson, checkText } from "../../src/api/check.js";
import { plainWording, serdeWording } from "../../src/api/check-wording.js";

const Boot = Type.Object(
  {
    kernel_image_path: Type.String(),
    vcpu_count: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
    boot_args: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    kind: Type.Optional(Type.Enum(["A", "B", "C"])),
    flags: Type.Optional(Type.Array(Type.Boolean())),
    inner: Type.Optional(
      Type.Object({ size: Type.Integer({ minimum: 0 }) }, { title: "TokenBucket" }),
    ),
    map: Type.Optional(Type.Record(Type.String(), Type.String())),
    level: Type.Optional(Type.Union([Type.Literal("Off"), Type.Literal("On")])),
    template: Type.Optional(
      Type.Union([Type.String({ maxLength: 5 }), Type.Record(Type.String(), Type.Unknown())]),
    ),
  },
  { additionalProperties: false, title: "BootSource" },
);

const told = (text: string | Uint8Array, schema: TSchema = Boot) => {
  const checked = checkJson(schema, Buffer.from(text));
  return "problem" in checked ? serdeWording(checked.problem) : checked.value;
};

const FIELDS =
  "`kernel_image_path`, `vcpu_count`, `boot_args`, `kind`, `flags`, `inner`, `map`, `level`, `template`";

describe("serde's words and places", () => {
  it.each([
    // What an object lacks, and has too much of.
    ["{}", "missing field `kernel_image_path` at line 1 column 2"],
    ["{ \n }", "missing field `kernel_image_path` at line 2 column 2"],
    ['{"x":1}', `unknown field \`x\`, expected one of ${FIELDS} at line 1 column 4`],
    ['{"x" :1}', `unknown field \`x\`, expected one of ${FIELDS} at line 1 column 5`],
    ['{"vcpu_count":1,"vcpu_count":2}', "duplicate field `vcpu_count` at line 1 column 28"],
    ['{"inner":{"size":1,"size":2}}', "duplicate field `size` at line 1 column 25"],
    // Wrong types.
    ['{"kernel_image_path":5}', "invalid type: integer `5`, expected a string at line 1 column 22"],
    ['{"kernel_image_path":null}', "invalid type: null, expected a string at line 1 column 25"],
    ['{"kernel_image_path":[]}', "invalid type: sequence, expected a string at line 1 column 21"],
    ['{"kernel_image_path":{}}', "invalid type: map, expected a string at line 1 column 21"],
    ['{"vcpu_count": "x"}', 'invalid type: string "x", expected u8 at line 1 column 18'],
    ['{"vcpu_count":true}', "invalid type: boolean `true`, expected u8 at line 1 column 18"],
    ['{"vcpu_count":300}', "invalid value: integer `300`, expected u8 at line 1 column 17"],
    ['{"vcpu_count":-1}', "invalid value: integer `-1`, expected u8 at line 1 column 16"],
    ['{"vcpu_count":1.5}', "invalid type: floating point `1.5`, expected u8 at line 1 column 17"],
    ['{"boot_args":1}', "invalid type: integer `1`, expected a string at line 1 column 14"],
    ['{"inner":3}', "invalid type: integer `3`, expected struct TokenBucket at line 1 column 10"],
    ['{"flags":[true,1]}', "invalid type: integer `1`, expected a boolean at line 1 column 16"],
    ['{"flags":{}}', "invalid type: map, expected a sequence at line 1 column 9"],
    ['{"map":{"a":1}}', "invalid type: integer `1`, expected a string at line 1 column 13"],
    [
      '"a\\n\\"b"',
      'invalid type: string "a\\n\\"b", expected struct BootSource at line 1 column 8',
    ],
    // Enumerations.
    ['{"kind":"D"}', "unknown variant `D`, expected one of `A`, `B`, `C` at line 1 column 11"],
    ['{"level":"x"}', "unknown variant `x`, expected `Off` or `On` at line 1 column 12"],
    ['{"kind":5}', "expected value at line 1 column 9"],
    // What is no JSON.
    ["", "EOF while parsing a value at line 1 column 0"],
    [" \n ", "EOF while parsing a value at line 2 column 1"],
    ["{", "EOF while parsing an object at line 1 column 1"],
    ['{"map"', "EOF while parsing an object at line 1 column 6"],
    ['{"map":', "EOF while parsing a value at line 1 column 7"],
    ['{"map":{"a":"b",', "EOF while parsing a value at line 1 column 16"],
    ['{"flags":[true', "EOF while parsing a list at line 1 column 14"],
    ['{"map', "EOF while parsing a string at line 1 column 5"],
    ['{"vcpu_count":-', "EOF while parsing a value at line 1 column 15"],
    ["nonsense", "expected ident at line 1 column 2"],
    ["x", "expected value at line 1 column 1"],
    ["{x}", "key must be a string at line 1 column 2"],
    ['{"map" {}}', "expected `:` at line 1 column 8"],
    ['{"vcpu_count":1 2}', "expected `,` or `}` at line 1 column 17"],
    ['{"vcpu_count":1,}', "trailing comma at line 1 column 17"],
    ['{"flags":[true,]}', "trailing comma at line 1 column 16"],
    ['{"flags":[true true]}', "expected `,` or `]` at line 1 column 16"],
    ['{"vcpu_count":01}', "invalid number at line 1 column 16"],
    ['{"vcpu_count":1.}', "invalid number at line 1 column 17"],
    ['{"vcpu_count":1e}', "invalid number at line 1 column 17"],
    ['{"vcpu_count":1e999}', "number out of range at line 1 column 19"],
    ['{"a\\x', "invalid escape at line 1 column 5"],
    ['{"\\ud800"', "unexpected end of hex escape at line 1 column 9"],
    ['{"\\udc00"', "lone leading surrogate in hex escape at line 1 column 8"],
    [
      '{"a\n"',
      "control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0",
    ],
    ['\n{"flags":\n [tru]}', "expected ident at line 3 column 6"],
    ['{"kernel_image_path":"a"} x', "trailing characters at line 1 column 27"],
  ])("%j", (text, expected) => {
    expect(told(text)).toBe(expected);
  });

  it("refuse bytes that are no UTF-8, and the 128th level", () => {
    expect(told(Buffer.from('{"\xff"', "latin1"))).toBe(
      "invalid unicode code point at line 1 column 4",
    );
    const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
    expect(told(nested(127), Type.Unknown())).toBeInstanceOf(Array);
    expect(told(nested(128), Type.Unknown())).toBe("recursion limit exceeded at line 1 column 128");
    expect(told("[".repeat(1_000_000), Type.Unknown())).toMatch(/^recursion limit/);
  });

  it("name the type that a schema says it is", () => {
    const schema = Type.Object(
      { size: Type.Integer({ "x-serde": "usize" }) },
      { "x-serde": "struct S" },
    );
    expect(told('{"size":"1"}', schema)).toMatch(/^invalid type: string "1", expected usize /);
    expect(told("1", schema)).toMatch(/^invalid type: integer `1`, expected struct S /);
  });
});

describe("plain words", () => {
  const plain = (text: string, schema: TSchema = Boot) => {
    const checked = checkJson(schema, Buffer.from(text));
    return "problem" in checked ? plainWording(checked.problem) : undefined;
  };

  it.each([
    ["1", "the body: expected an object, got integer `1` (line 1, column 1)"],
    ["{}", 'the body: expected the key "kernel_image_path", got nothing (line 1, column 2)'],
    ['{"x":1}', /^\/x: expected one of the keys kernel_image_path, .*, got the key "x" \(/],
    [
      '{"inner":{"size":-1}}',
      "/inner/size: expected an integer at least 0, got -1 (line 1, column 19)",
    ],
    ['{"flags":[true,5]}', "/flags/1: expected true or false, got integer `5` (line 1, column 16)"],
    ['{"map":{"a/b~":5}}', /^\/map\/a~1b~0: expected a string/],
    ['{"kind":"D"}', '/kind: expected "A" or "B" or "C", got "D" (line 1, column 11)'],
    [
      '{"template":"123456"}',
      /^\/template: expected a string of at most 5 characters, got "123456"/,
    ],
    [
      '{"template":5}',
      /^\/template: expected a string of at most 5 characters or an object, got integer `5`/,
    ],
    ["{", "the body: expected the rest of an object, got the end (line 1, column 1)"],
  ])("%j", (text, expected) => {
    if (typeof expected === "string") expect(plain(text)).toBe(expected);
    else expect(plain(text)).toMatch(expected);
  });
});

describe("limits", () => {
  const wrong = (schema: TSchema, text: string) =>
    "problem" in checkJson(schema, Buffer.from(text));

  it("count characters, not bytes or units", () => {
    const two = Type.String({ minLength: 2, maxLength: 2 });
    for (const text of ["ab", "éé", "😀😀"]) expect(wrong(two, JSON.stringify(text))).toBe(false);
    for (const text of ["a", "abc", "😀", "😀😀😀"])
      expect(wrong(two, JSON.stringify(text))).toBe(true);
  });

  it("hold for lists, records, patterns and ranges", () => {
    const list = Type.Array(Type.Integer(), { minItems: 1, maxItems: 2 });
    expect(["[]", "[1]", "[1,2]", "[1,2,3]"].map((text) => wrong(list, text))).toEqual([
      true,
      false,
      false,
      true,
    ]);
    const record = Type.Record(Type.String({ pattern: "^[a-z]+$" }), Type.Integer(), {
      maxProperties: 1,
    });
    expect(['{"a":1}', '{"A":1}', '{"a":1,"b":2}'].map((text) => wrong(record, text))).toEqual([
      false,
      true,
      true,
    ]);
    const word = Type.String({ pattern: "^\\p{L}+$" });
    expect(['"é"', '"1"'].map((text) => wrong(word, text))).toEqual([false, true]);
    expect(
      ["9007199254740991", "9007199254740992", "1.0"].map((text) => wrong(Type.Integer(), text)),
    ).toEqual([false, true, true]);
  });

  it("of a schema that is open: other keys are read and left out", () => {
    const open = Type.Object({ a: Type.Integer() });
    expect(told('{"b":{"c":[1]},"a":1,"b":2}', open)).toEqual({ a: 1 });
  });
});

describe("any text", () => {
  const any = (text: string | Uint8Array) => checkJson(Type.Unknown(), Buffer.from(text));

  it("is read as JSON.parse reads it, with any white space", () => {
    fc.assert(
      fc.property(
        fc.jsonValue({ maxDepth: 6 }),
        fc.constantFrom("", " ", "\t", 1, 3),
        (value, space) => {
          const text = JSON.stringify(value, null, space);
          expect(any(text)).toEqual({ value: JSON.parse(text) });
        },
      ),
    );
  });

  it("is refused exactly when JSON.parse refuses it", () => {
    const parts = fc.constantFrom(
      ..."{}[],: \n\t\r",
      ...['"a"', '"\\u00e9"', '"\\ud83d\\ude00"', '"__proto__"', '"', "\\", "u12", "é", "\u0001"],
      ...[
        "true",
        "false",
        "null",
        "nul",
        "0",
        "-",
        "1",
        "01",
        "1.5",
        ".",
        "e",
        "E+3",
        "-0",
        "1e-7",
      ],
    );
    fc.assert(
      fc.property(fc.array(parts, { maxLength: 12 }), (words) => {
        const text = words.join("");
        let parsed: { value: unknown } | undefined;
        try {
          parsed = { value: JSON.parse(text) };
        } catch {
          parsed = undefined;
        }
        const checked = any(text);
        if (parsed === undefined) expect(checked).toHaveProperty("problem");
        else expect(checked).toEqual(parsed);
      }),
      { numRuns: 3000 },
    );
  });

  it("never raises anything, whatever the bytes, and says a place inside them", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        for (const schema of [Type.Unknown(), Boot]) {
          const checked = checkJson(schema, bytes);
          if (!("problem" in checked)) continue;
          const { line, column, serde } = checked.problem;
          expect(line).toBeGreaterThanOrEqual(1);
          expect(column).toBeLessThanOrEqual(bytes.length);
          expect(serde).not.toBe("");
        }
      }),
    );
  });

  it("with the keys of objects' insides makes plain objects of them", () => {
    const { value } = any('{"__proto__":{"x":1},"constructor":2}') as { value: object };
    expect(Object.keys(value)).toEqual(["__proto__", "constructor"]);
    expect((value as { x?: number }).x).toBeUndefined();
    for (const key of ["__proto__", "constructor", "toString"]) {
      expect(told(`{"${key}":1}`)).toMatch(/^unknown field/);
    }
  });

  it("that fits a schema passes, and is itself", () => {
    const boots = fc.record(
      {
        kernel_image_path: fc.string(),
        vcpu_count: fc.integer({ min: 0, max: 255 }),
        boot_args: fc.option(fc.string()),
        kind: fc.constantFrom("A", "B", "C"),
        flags: fc.array(fc.boolean()),
        map: fc.dictionary(fc.string(), fc.string()),
      },
      { requiredKeys: ["kernel_image_path"], noNullPrototype: true },
    );
    fc.assert(
      fc.property(boots, (boot) => {
        expect(told(JSON.stringify(boot))).toEqual(JSON.parse(JSON.stringify(boot)));
      }),
    );
  });
});

describe("checkText", () => {
  it.each([
    [Type.Integer({ minimum: 1 }), ["5"], 5],
    [Type.Integer(), ["-5"], -5],
    [Type.Number(), ["1.5"], 1.5],
    [Type.Boolean(), ["false"], false],
    [Type.Enum(["a", "b"], { type: "string" }), ["a"], "a"],
    [Type.Array(Type.Integer()), ["1", "2"], [1, 2]],
  ])("%j of %j is %j", (schema, texts, value) => {
    expect(checkText(schema, texts, "n")).toEqual({ value });
  });

  it.each([
    [Type.Integer({ minimum: 1 }), ["0"]],
    [Type.Integer(), ["1.0"]],
    [Type.Integer(), ["0x10"]],
    [Type.Integer(), ["9".repeat(40)]],
    [Type.Integer(), ["1", "2"]],
    [Type.Number(), ["NaN"]],
    [Type.Boolean(), ["yes"]],
    [Type.Enum(["a"], { type: "string" }), ["b"]],
    [Type.Array(Type.Integer(), { maxItems: 1 }), ["1", "2"]],
  ])("%j is not %j", (schema, texts) => {
    expect(checkText(schema, texts, "n")).toMatchObject({ problem: { pointer: "/n", line: 0 } });
  });
});
