/**
 * A verb's words taken apart by its table, with errors a person can act on.
 */
import { parseArgs } from "node:util";
import { EstaloError } from "../errors.js";
import type { OptionSpec, VerbSpec } from "./verbs.js";

/** What the words said. */
export interface ParsedArguments {
  /** Switches that were given. */
  readonly switches: ReadonlySet<string>;
  /** Values by option, in order; an option that is not `multiple` has one, the last. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
}

/** ERR_ESTALO_USAGE, with the way to help. */
export function usageError(message: string, hint: string): EstaloError {
  return new EstaloError("ERR_ESTALO_USAGE", message, { hint });
}

/** Takes `words` apart; raises ERR_ESTALO_USAGE. */
export function parseArguments(verb: VerbSpec, words: readonly string[]): ParsedArguments {
  const byName = new Map(verb.options.map((option) => [option.name, option]));
  const { tokens } = parseArgs({
    args: [...words],
    options: Object.fromEntries(
      verb.options.map((option) => [option.name, parseArgsOption(option)]),
    ),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const switches = new Set<string>();
  const values = new Map<string, string[]>();
  let operands: string[] = [];
  for (const token of tokens) {
    if (token.kind === "option-terminator") {
      operands = [...operands, ...words.slice(token.index + 1)];
      break;
    }
    if (token.kind === "positional") {
      operands.push(token.value);
      if (!verb.takesCommand) continue;
      operands = words.slice(token.index);
      break;
    }
    const option = byName.get(token.name);
    if (option === undefined) throw unknownOption(verb, token.rawName);
    checkValue(verb, option, token);
    if (option.value === undefined) switches.add(option.name);
    else if (option.multiple)
      values.set(option.name, [...(values.get(option.name) ?? []), token.value as string]);
    else values.set(option.name, [(token.value ?? option.bare) as string]);
  }
  return { switches, values, operands };
}

function parseArgsOption({ value, bare, short }: OptionSpec) {
  const type =
    value === undefined || bare !== undefined ? ("boolean" as const) : ("string" as const);
  return short === undefined ? { type } : { type, short };
}

interface OptionToken {
  readonly rawName: string;
  readonly value?: string | undefined;
  readonly inlineValue?: boolean | undefined;
}

function checkValue(verb: VerbSpec, option: OptionSpec, token: OptionToken): void {
  const { rawName, value, inlineValue } = token;
  if (option.value === undefined) {
    if (value !== undefined) throw usageError(`${rawName} takes no value`, helpHint(verb));
    return;
  }
  if (option.bare !== undefined) return;
  // `--kernel --rootfs x` forgot a value; `--kernel=--x` means it.
  const forgotten = value === undefined || (!inlineValue && /^-./.test(value));
  if (!forgotten) return;
  throw usageError(`${rawName} needs a value: ${rawName} ${option.value}`, helpHint(verb));
}

function unknownOption(verb: VerbSpec, rawName: string): EstaloError {
  const names = verb.options.map(({ name }) => `--${name}`);
  const near = nearest(rawName, names);
  return usageError(
    `estalo ${verb.name} has no option ${rawName}`,
    near === undefined ? helpHint(verb) : `did you mean ${near}?`,
  );
}

export function helpHint(verb: VerbSpec): string {
  return `estalo help ${verb.name} lists the options`;
}

/** The candidate a typist most likely meant, if any is near enough. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const allowed = Math.max(1, Math.floor(word.replace(/^-+/, "").length / 3));
  let best: string | undefined;
  let bestDistance = allowed + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours that lead from one word to the other. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const substitution = row[j] + (a[i] === b[j] ? 0 : 1);
      const isSwap = i > 0 && j > 0 && a[i] === b[j - 1] && a[i - 1] === b[j];
      const swap = isSwap ? before[j - 1] + 1 : substitution;
      next.push(Math.min(substitution, swap, row[j + 1] + 1, next[j] + 1));
    }
    before = row;
    row = next;
  }
  return row[b.length];
}
