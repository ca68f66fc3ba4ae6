/**
 * Help: the overview and a page per verb, made from the table of verbs.
 */
import type { OptionSpec, VerbSpec } from "./verbs.js";
import { VERBS } from "./verbs.js";

const COLUMN = 34;

/** `estalo --help`. */
export function overview(): string {
  const verbs = VERBS.map(({ name, summary }) => `  ${name.padEnd(12)}${summary}`);
  return `Estalo runs microVMs: the isolation of a virtual machine, in a snap.

Usage: estalo VERB [OPTION…]

Verbs:
${verbs.join("\n")}

  --help      Show this help; estalo help VERB explains a verb.
  --version   Show the version.

Examples:
${examples([
  ["estalo run", "a shell in a fresh microVM"],
  ["echo hi | estalo run -- cat", "a command, as a filter"],
  ["estalo doctor", "whether this host can run microVMs"],
])}
`;
}

/** `estalo help VERB`. */
export function verbHelp(verb: VerbSpec): string {
  const operands = verb.operands === undefined ? "" : ` ${verb.operands}`;
  const details = verb.details === undefined ? "" : `\n${verb.details}\n`;
  return `${verb.summary}

Usage: estalo ${verb.name} [OPTION…]${operands}

Options:
${verb.options.map(optionLine).join("\n")}
${details}
Examples:
${examples(verb.examples)}
`;
}

function optionLine({ name, short, value, bare, help }: OptionSpec): string {
  const given = value === undefined ? "" : bare === undefined ? ` ${value}` : `[=${value}]`;
  const names = `${short === undefined ? "    " : `-${short}, `}--${name}${given}`;
  const gap =
    names.length + 2 < COLUMN ? names.padEnd(COLUMN - 2) : `${names}\n${" ".repeat(COLUMN)}`;
  return `  ${gap}${help}`;
}

function examples(list: VerbSpec["examples"]): string {
  return list.map(([command, what]) => `  ${command}\n      ${what}`).join("\n");
}
