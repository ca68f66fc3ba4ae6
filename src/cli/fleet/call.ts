/**
 * What every verb that asks a server has: a client, its words, and ways to name microVMs as people do: by
 * name, by id, or by the beginning of an id.
 */
import { once } from "node:events";
import { EstaloClient } from "../../api/client/client.js";
import type { Microvm } from "../../api/client/types.js";
import { EstaloError } from "../../errors.js";
import { helpHint, nearest, type ParsedArguments, usageError } from "../arguments.js";
import type { VerbSpec } from "../verb-spec.js";

/** A verb that is being done. */
export interface FleetCall {
  readonly verb: VerbSpec;
  readonly client: EstaloClient;
  readonly parsed: ParsedArguments;
  /** `--json`. */
  readonly isJson: boolean;
}

/** Does a verb; its status. */
export type FleetHandler = (call: FleetCall) => Promise<number>;

/** The client that the words and the environment ask for. */
export function connect(parsed: ParsedArguments): EstaloClient {
  const host = parsed.values.get("host")?.[0];
  return new EstaloClient(host === undefined ? {} : { host });
}

/** The microVMs that a verb was given: at least one, at most `most`. */
export function givenMicrovms({ verb, parsed }: FleetCall, most = Number.POSITIVE_INFINITY) {
  const { operands } = parsed;
  const usage = `estalo ${verb.name} ${verb.operands}`;
  if (operands.length === 0)
    throw usageError(`${usage} needs a microVM`, "estalo ps -a lists them");
  if (operands.length > most) throw usageError(`${usage} takes one microVM`, helpHint(verb));
  return operands;
}

/** A verb without operands. */
export function takesNothing({ verb, parsed }: FleetCall): void {
  const [first] = parsed.operands;
  if (first === undefined) return;
  throw usageError(`estalo ${verb.name} takes no operand: ${first}`, helpHint(verb));
}

/**
 * Does `work` to the microVM that `given` means. A name or id needs no further request; only one that the
 * server does not know is looked for among the beginnings of ids, and then among what was perhaps meant.
 */
export async function withMicrovm<T>(
  client: EstaloClient,
  given: string,
  work: (id: string) => Promise<T>,
): Promise<T> {
  try {
    return await work(given);
  } catch (error) {
    if (!(error instanceof EstaloError) || error.code !== "ERR_ESTALO_NOT_FOUND") throw error;
    return work(await meant(client, given, error));
  }
}

async function meant(client: EstaloClient, given: string, notFound: EstaloError): Promise<string> {
  const known: Pick<Microvm, "id" | "name">[] = [];
  for await (const { id, name } of client.microvms.all()) known.push({ id, name });
  const begun = known.filter(({ id }) => id.startsWith(given));
  if (begun.length === 1) return begun[0].id;
  if (begun.length > 1) {
    throw usageError(
      `${begun.length} microVMs have an id that begins with ${given}`,
      `it may be ${begun
        .slice(0, 3)
        .map(({ id, name }) => `${id} (${name})`)
        .join(" or ")}`,
    );
  }
  // It was there and is gone meanwhile, or is something else that was not found.
  if (known.some(({ id, name }) => id === given || name === given)) throw notFound;
  const near = nearest(given, [...new Set(known.flatMap(({ id, name }) => [name, id]))]);
  throw new EstaloError(notFound.code, notFound.message, {
    data: notFound.data,
    hint: near === undefined ? "estalo ps -a lists the microVMs" : `did you mean ${near}?`,
  });
}

/** Writes one JSON value as a line. */
export function writeJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Fulfilled when standard output takes more: what waits for a slow reader in this process has no bound. */
export async function outputRoom(): Promise<void> {
  if (process.stdout.writableNeedDrain) await once(process.stdout, "drain");
}

/** A whole number of an option; raises ERR_ESTALO_USAGE. */
export function wholeNumber(option: string, text: string, maximum: number): number {
  const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= maximum) return value;
  throw usageError(
    `${option} is a whole number from 0 to ${maximum}, not ${text}`,
    "estalo help VERB lists the options",
  );
}

/** `--filter KEY=VALUE…` by key; raises ERR_ESTALO_USAGE for a key that there is not. */
export function filtersOf(
  { parsed }: Pick<FleetCall, "parsed">,
  keys: readonly string[],
): ReadonlyMap<string, readonly string[]> {
  const filters = new Map<string, string[]>();
  for (const filter of parsed.values.get("filter") ?? []) {
    const [, key, value] = /^([^=]*)=(.+)$/s.exec(filter) ?? [];
    if (key === undefined) {
      throw usageError(`--filter is KEY=VALUE, not ${filter}`, `keys are ${keys.join(", ")}`);
    }
    if (!keys.includes(key)) {
      const near = nearest(key, keys);
      const hint = near === undefined ? `keys are ${keys.join(", ")}` : `did you mean ${near}=?`;
      throw usageError(`--filter has no key ${key}`, hint);
    }
    filters.set(key, [...(filters.get(key) ?? []), value]);
  }
  return filters;
}
