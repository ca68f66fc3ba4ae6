/**
 * The metadata service's data as the host's side handles it: what the store does not take is an EstaloError.
 */
import { type JsonObject, JsonStore, type StoreProblem } from "../devices/mmds/json-store.js";
import { EstaloError } from "../errors.js";

/** Any JSON object. */
export type Metadata = Readonly<Record<string, unknown>>;

/** See the file's header. */
export class MetadataStore {
  /** What the guest reads. */
  readonly store: JsonStore;

  /** Raises as `put` for data that cannot be stored. */
  constructor(limitBytes: number, data?: Metadata) {
    this.store = new JsonStore(limitBytes);
    if (data !== undefined) this.put(data);
  }

  /** The data: `{}` when there is none yet. A copy. */
  get(): Metadata {
    return structuredClone(this.store.value ?? {});
  }

  /**
   * Replaces the data.
   *
   * @throws ERR_ESTALO_TOO_LARGE, or ERR_ESTALO_CONFIG_INVALID for what is no JSON object; the data is as it was
   */
  put(data: Metadata): void {
    this.#check(this.store.replace(plainJson(data)));
  }

  /** Merges into the data (RFC 7396: null removes). As above, and ERR_ESTALO_STATE before the first `put`. */
  patch(data: Metadata): void {
    this.#check(this.store.merge(plainJson(data)));
  }

  #check(problem: StoreProblem | undefined): void {
    if (problem !== undefined) throw metadataError(problem, this.store.limitBytes);
  }
}

/** Why the store did not take it; the first words of two are Firecracker's. */
function metadataError(problem: StoreProblem, limitBytes: number): EstaloError {
  const data = { field: "metadata", problem, limitBytes };
  switch (problem) {
    case "too large":
      return new EstaloError("ERR_ESTALO_TOO_LARGE", "The MMDS patch request doesn't fit.", {
        hint: `the data may have ${limitBytes} bytes as JSON`,
        data,
      });
    case "not initialized":
      return new EstaloError("ERR_ESTALO_STATE", "The MMDS data store is not initialized.", {
        hint: "put data before you patch it",
        data,
      });
    case "too deep":
      return new EstaloError("ERR_ESTALO_CONFIG_INVALID", "metadata: nested too deep", { data });
    case "not an object":
      return new EstaloError("ERR_ESTALO_CONFIG_INVALID", "metadata: expected a JSON object", {
        data,
      });
  }
}

/** The value as JSON has it: a program may hand over what is none. */
function plainJson(data: unknown): JsonObject {
  try {
    return JSON.parse(JSON.stringify(data) ?? "null");
  } catch (error) {
    throw new EstaloError("ERR_ESTALO_CONFIG_INVALID", "metadata: expected a JSON object", {
      data: { field: "metadata" },
      cause: error,
    });
  }
}
