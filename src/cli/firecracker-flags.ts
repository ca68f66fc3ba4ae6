/**
 * Command lines of Firecracker's programs: only `--name value` and `--name`, each at most once unless its table
 * says otherwise. The words are Firecracker's (1.16, src/utils/src/arg_parser.rs).
 */

/** One flag of a program. */
export interface FirecrackerFlag {
  readonly name: string;
  /** What the value is called; absent: a switch. */
  readonly value?: string;
  readonly help: string;
  readonly isRequired?: boolean;
  /** May be given more than once. */
  readonly isMultiple?: boolean;
  /** Must be given as well. */
  readonly requires?: string;
  /** Must not be given as well. */
  readonly forbids?: string;
}

/** A command line that is none; its message is Firecracker's. */
export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
}

/** Values by flag; a switch has an empty one. Raises an ArgumentError. */
export function takeApart(
  flags: readonly FirecrackerFlag[],
  words: readonly string[],
): Map<string, string[]> {
  const given = new Map<string, string[]>();
  const rest = [...words];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const name = word.startsWith("--") ? word.slice(2) : word;
    const flag = word === name ? undefined : flags.find((known) => known.name === name);
    if (flag === undefined) {
      throw new ArgumentError(
        `Found argument '${name}' which wasn't expected, or isn't valid in this context.`,
      );
    }
    const before = given.get(name);
    if (before !== undefined && !flag.isMultiple) {
      throw new ArgumentError(`The argument '${name}' was provided more than once.`);
    }
    const value = flag.value === undefined ? "" : flagValue(name, rest.shift());
    given.set(name, [...(before ?? []), value]);
  }
  checkTogether(flags, given);
  return given;
}

function flagValue(name: string, word: string | undefined): string {
  if (word !== undefined && !word.startsWith("--")) return word;
  throw new ArgumentError(`The argument '${name}' requires a value, but none was supplied.`);
}

function checkTogether(
  flags: readonly FirecrackerFlag[],
  given: ReadonlyMap<string, readonly string[]>,
): void {
  for (const { name, isRequired, requires, forbids } of flags) {
    if (!given.has(name)) {
      if (isRequired) throw new ArgumentError(`Argument '${name}' required, but not found.`);
      continue;
    }
    if (requires !== undefined && !given.has(requires)) {
      throw new ArgumentError(`Argument '${requires}' required, but not found.`);
    }
    if (forbids !== undefined && given.has(forbids)) {
      throw new ArgumentError(
        `Argument '${forbids}' cannot be used together with argument '${name}'.`,
      );
    }
  }
}

/** The flags, for `--help`. */
export function flagsText(flags: readonly FirecrackerFlag[]): string {
  const lines = flags.map(({ name, value, help }) => {
    const flag = `--${name}${value === undefined ? "" : ` <${value}>`}`;
    return `  ${flag.padEnd(38)}${help}`;
  });
  return `${lines.join("\n")}\n`;
}
