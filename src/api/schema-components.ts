/**
 * The schemas of a description, each named one once: what OpenAPI and AsyncAPI keep in `components/schemas`.
 */
import type { TSchema } from "typebox";
import { EstaloError } from "../errors.js";

type Json = Readonly<Record<string, unknown>>;

/** Collects schemas by name and gives what stands for them elsewhere. */
export class SchemaComponents {
  readonly #schemas = new Map<string, { readonly source: object; json: unknown }>();

  /** A schema as the description has it: a reference when it has a name, `$id` or `title`. */
  ref(schema: TSchema): Json {
    return this.#convert(schema as object) as Json;
  }

  /** All named schemas, by name. */
  toJson(): Json {
    return Object.fromEntries(
      [...this.#schemas]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, { json }]) => [name, json]),
    );
  }

  #convert(part: unknown): unknown {
    if (Array.isArray(part)) return part.map((one) => this.#convert(one));
    if (typeof part !== "object" || part === null) return part;
    const name = nameOf(part as Json);
    if (name === undefined) return this.#members(part as Json);
    const known = this.#schemas.get(name);
    if (known === undefined) {
      const entry = { source: part, json: undefined as unknown };
      this.#schemas.set(name, entry);
      entry.json = this.#members(part as Json);
    } else if (known.source !== part && !isSame(known.source, part)) {
      // Readers would take one for the other.
      throw new EstaloError("ERR_ESTALO_BUG", `two schemas are called ${name}`);
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  #members(part: Json): Json {
    const entries = Object.entries(part).filter(([key]) => key !== "$id" && !key.startsWith("x-"));
    return Object.fromEntries(
      entries.map(([key, value]) => {
        // Names below are the client's data, not keywords: one may be called "title".
        if (key === "properties" || key === "patternProperties") {
          const members = Object.entries(value as Json);
          return [
            key,
            Object.fromEntries(members.map(([one, schema]) => [one, this.#convert(schema)])),
          ];
        }
        const isData = key === "default" || key === "examples" || key === "enum" || key === "const";
        return [key, isData ? value : this.#convert(value)];
      }),
    );
  }
}

function nameOf(schema: Json): string | undefined {
  const name = schema.$id ?? schema.title;
  return typeof name === "string" && /^[A-Za-z0-9_.-]+$/.test(name) ? name : undefined;
}

function isSame(a: object, b: object): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
