/**
 * Checks of single fields, from which every part of a microVM's configuration is checked; each raises
 * ERR_ESTALO_CONFIG_INVALID naming the field.
 */
import { inspect } from "node:util";
import { EstaloError } from "../errors.js";

/** ERR_ESTALO_CONFIG_INVALID for a field (`data`: field, expected, got). */
export function invalid(field: string, expected: string, value: unknown): EstaloError {
  // Whatever it is, it is shown as text: the error crosses threads and JSON.
  const got = typeof value === "string" ? JSON.stringify(value) : inspect(value, { depth: 1 });
  return new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `${field}: expected ${expected}, got ${got}`,
    { data: { field, expected, got } },
  );
}

/** A whole number from `min` to `max`. */
export function integer(field: string, value: unknown, min: number, max: number): number {
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    throw invalid(field, `a whole number from ${min} to ${max}`, value);
  }
  return value as number;
}

/** True or false, nothing that only looks like it. */
export function boolean(field: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw invalid(field, "true or false", value);
  return value;
}

/** A non-empty string that the host can take as a path or name. */
export function text(field: string, value: unknown): string {
  if (typeof value !== "string" || value.length === 0 || value.includes("\0")) {
    throw invalid(field, "a non-empty string", value);
  }
  return value;
}

/** One of a few words. */
export function oneOf<T extends string>(field: string, value: unknown, allowed: readonly T[]): T {
  if (!allowed.includes(value as T)) throw invalid(field, allowed.join(" or "), value);
  return value as T;
}

/** Refuses fields that do not exist: a typing mistake must not pass in silence. */
export function onlyFields(where: string, value: unknown, allowed: readonly string[]): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(where, "an object", value);
  }
  for (const field of Object.keys(value)) {
    if (!allowed.includes(field)) {
      throw invalid(`${where}.${field}`, `one of ${allowed.join(", ")}`, field);
    }
  }
}
