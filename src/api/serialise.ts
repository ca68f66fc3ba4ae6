/**
 * Values as JSON by their schemas: only what the schema has is written, in its order, by a function made for it.
 *
 * A function takes milliseconds to make, so that is done when it is first called, and once; loading the
 * package takes tens of them, so `estalo vmm` answers without it.
 */
import fastJson from "fast-json-stringify";
import type { Static, TSchema } from "typebox";
import type { ApiReply } from "./http.js";

/** Writes a value of a schema as JSON. Raises for one that is none. */
export type Serialiser<S extends TSchema> = (value: Static<S>) => string;

const serialisers = new WeakMap<TSchema, Serialiser<TSchema>>();

/** The writer of a schema; made at its first call and kept with the schema. */
export function serialiserOf<S extends TSchema>(schema: S): Serialiser<S> {
  return (value) => {
    let serialise = serialisers.get(schema);
    if (serialise === undefined) {
      serialise = fastJson(schema as object as Parameters<typeof fastJson>[0]);
      serialisers.set(schema, serialise);
    }
    return serialise(value);
  };
}

/** A reply with a value of a schema. */
export function jsonReply<S extends TSchema>(
  status: number,
  schema: S,
  value: Static<S>,
  headers?: Readonly<Record<string, string>>,
): ApiReply {
  const body = serialiserOf(schema)(value);
  return headers === undefined ? { status, body } : { status, headers, body };
}
