import Type from "typebox";
import { describe, expect, it } from "vitest";
import { checkJson } from "../../src/api/check.js";
import { serdeWording } from "../../src/api/check-wording.js";

const Boot = Type.Object(
  {
    kernel_image_path: Type.String(),
    vcpu_count: Type.Optional(Type.Integer({ minimum: 0, maximum: 255 })),
    boot_args: Type.Optional(Type.Union([Type.String(), Type.Null()])),
    kind: Type.Optional(Type.Enum(["A", "B", "C"])),
    flags: Type.Optional(Type.Array(Type.Boolean())),
  },
  { additionalProperties: false, title: "BootSource" },
);

const told = (text: string) => {
  const checked = checkJson(Boot, Buffer.from(text));
  return "problem" in checked ? serdeWording(checked.problem) : checked.value;
};

describe("serde's words and places", () => {
  it.each([
    ["{}", "missing field `kernel_image_path` at line 1 column 2"],
    ["", "EOF while parsing a value at line 1 column 0"],
    ["{", "EOF while parsing an object at line 1 column 1"],
    [
      '{"x":1}',
      "unknown field `x`, expected one of `kernel_image_path`, `vcpu_count`, `boot_args`, `kind`, `flags` at line 1 column 4",
    ],
    ['{"kernel_image_path":5}', "invalid type: integer `5`, expected a string at line 1 column 22"],
    ['{"vcpu_count": "x"}', 'invalid type: string "x", expected u8 at line 1 column 18'],
    ['{"vcpu_count":300}', "invalid value: integer `300`, expected u8 at line 1 column 17"],
    ['{"vcpu_count":1.5}', "invalid type: floating point `1.5`, expected u8 at line 1 column 17"],
    ['{"kind":"D"}', "unknown variant `D`, expected one of `A`, `B`, `C` at line 1 column 11"],
    ['{"flags":[true,1]}', "invalid type: integer `1`, expected a boolean at line 1 column 16"],
    ['{"flags":[true,]}', "trailing comma at line 1 column 16"],
    ['{"vcpu_count":1,"vcpu_count":2}', "duplicate field `vcpu_count` at line 1 column 28"],
    ['"s"', 'invalid type: string "s", expected struct BootSource at line 1 column 3'],
    ['\n{"vcpu_count":\n tru}', "expected ident at line 3 column 5"],
    ['{"kernel_image_path":"a"} x', "trailing characters at line 1 column 27"],
  ])("%j", (text, expected) => {
    expect(told(text)).toBe(expected);
  });
});
