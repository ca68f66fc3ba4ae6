/**
 * The query of …/exits as options of a stream. What the schema cannot tell (names of this microVM's devices,
 * ranges) is checked where the stream is made.
 */
import type { ExitKind } from "../../actors/exit-batch.js";
import type { ExitField } from "../../actors/exit-counts.js";
import type { ExitWatchOptions } from "../../actors/exit-filter.js";
import { EstaloError } from "../../errors.js";
import type { ExitsQuery } from "./exit-schemas.js";

/** What a client asked for. */
export interface ExitsRequest {
  readonly watch: ExitWatchOptions;
  readonly isBinary: boolean;
  /** Counts instead of exits. */
  readonly counting: { readonly by: readonly ExitField[]; readonly windowMs?: number } | undefined;
}

/** Raises ERR_ESTALO_REQUEST for parameters that do not go together. */
export function readExitsQuery(query: ExitsQuery): ExitsRequest {
  const { format = "json", by, windowMs, direction, sample, history, rip, address } = query;
  const fields = items(by);
  if (fields === undefined && windowMs !== undefined) throw wrong("windowMs needs by");
  if (fields !== undefined && format === "binary") {
    throw wrong("counts are JSON: by and format=binary do not go together");
  }
  return {
    watch: {
      ...given("kinds", items(query.kind) as ExitKind[] | undefined),
      ...given("devices", items(query.device)),
      ...given("vcpus", items(query.vcpu)?.map(Number)),
      ...given("direction", direction),
      ...given("addresses", address === undefined ? undefined : range(address)),
      ...given("sizes", items(query.size)?.map(Number)),
      ...given("sampleEvery", sample),
      ...given("history", history),
      ...given("rip", rip),
    },
    isBinary: format === "binary",
    counting:
      fields === undefined
        ? undefined
        : { by: fields as ExitField[], ...given("windowMs", windowMs) },
  };
}

function wrong(message: string): EstaloError {
  return new EstaloError("ERR_ESTALO_REQUEST", message);
}

function items(lists: readonly string[] | undefined): string[] | undefined {
  return lists?.flatMap((list) => list.split(","));
}

/** "0x3f8", "0x3f8-0x3ff". */
function range(text: string): [number, number] {
  const [from, to = from] = text.split("-").map(Number);
  return [from, to];
}

function given<Key extends string, Value>(key: Key, value: Value | undefined) {
  return (value === undefined ? {} : { [key]: value }) as { readonly [K in Key]?: Value };
}
