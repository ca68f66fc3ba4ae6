/**
 * The part of JSON Schema that our schemas use, and what is wrong with a value. Types only.
 */
import type { JsonKind } from "./json-reader.js";

/** The first mistake in a text. */
export interface Problem {
  /** The value's place as a JSON pointer (RFC 6901); "" for the whole. */
  readonly pointer: string;
  /** What may be there, and what is; for people. */
  readonly expected: string;
  readonly got: string;
  /** serde's words, without the place. */
  readonly serde: string;
  /** From 1; 0 for text that is no body. */
  readonly line: number;
  /** Bytes of the line that were read. */
  readonly column: number;
}

/** JSON Schema as we read it: TypeBox's types hide most of it. */
export interface JsonSchema {
  readonly type?: JsonKind | "integer";
  readonly title?: string;
  readonly description?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
  readonly patternProperties?: Readonly<Record<string, JsonSchema>>;
  readonly maxProperties?: number;
  readonly items?: JsonSchema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  /** What serde calls the type in its messages, where the schema does not tell: "struct Logger", "usize". */
  readonly "x-serde"?: string;
  /** What the type itself says of a text that is none of its, in the place of serde's words; and where it is told. */
  readonly "x-serde-fault"?: { readonly words: string; readonly at: "value" | "end of object" };
}
