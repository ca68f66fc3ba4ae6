/**
 * `estalo completion`: scripts that complete verbs and options, made from the table of verbs, and names of
 * microVMs, which they ask the command for (`estalo __complete`).
 */
import { NET_ACTIONS } from "./net/net-verb.js";
import type { OptionSpec, VerbSpec } from "./verbs.js";
import { VERBS } from "./verbs.js";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** The script for `shell`, or undefined for a shell there is none for. */
export function completionScript(shell: string | undefined): string | undefined {
  if (shell === "bash") return bash();
  if (shell === "zsh") return zsh();
  if (shell === "fish") return fish();
  return undefined;
}

const verbNames = VERBS.map(({ name }) => name);

/** What a verb's operand can be, if it is one of a few words. */
function operandWords({ name }: VerbSpec): readonly string[] {
  if (name === "help") return verbNames;
  if (name === "bench") return ["load"];
  if (name === "net") return NET_ACTIONS;
  return name === "completion" ? SHELLS : [];
}

/** The word behind it is its value. */
function takesWord({ value, bare }: OptionSpec): boolean {
  return value !== undefined && bare === undefined;
}

function isFile({ value }: OptionSpec): boolean {
  return value?.startsWith("FILE") ?? false;
}

function bash(): string {
  const cases = VERBS.map((verb) => {
    const words = [...verb.options.map(({ name }) => `--${name}`), ...operandWords(verb)];
    const names = verb.microvmStates === undefined ? "" : " names=1";
    return `    ${verb.name}) words="${words.join(" ")}"${names} ;;`;
  });
  const valued = VERBS.flatMap(({ options }) => options.filter(takesWord));
  const plain = valued.filter((option) => !isFile(option)).map(({ name }) => `--${name}`);
  const files = valued.filter(isFile).map(({ name }) => `--${name}`);
  return `_estalo() {
  local word="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words names=
  case "$previous" in
    ${files.join("|")}) COMPREPLY=($(compgen -f -- "$word")); return ;;
    ${plain.join("|")}) return ;;
  esac
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
    *) words="" ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words="${verbNames.join(" ")} --help --version"; fi
  if [ -n "$names" ] && [[ "$word" != -* ]]; then
    words="$("\${COMP_WORDS[0]}" __complete "\${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)"
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o filenames -F _estalo estalo
`;
}

function zsh(): string {
  // Within single quotes nothing is special but their end.
  const quote = (text: string) => text.replace(/[[\]:\\]/g, "\\$&").replaceAll("'", "'\\''");
  const cases = VERBS.map((verb) => {
    const options = verb.options.map((option) => {
      const action = isFile(option) ? ":file:_files" : takesWord(option) ? ":value:" : "";
      return `'${option.multiple ? "*" : ""}--${option.name}[${quote(option.help)}]${action}'`;
    });
    const words = operandWords(verb);
    const operands = words.length === 0 ? [] : [`'1:word:(${words.join(" ")})'`];
    if (verb.microvmStates !== undefined) operands.push("'*:microVM:_estalo_microvms'");
    return `    ${verb.name}) _arguments ${[...options, ...operands].join(" \\\n      ")} ;;`;
  });
  return `#compdef estalo
_estalo_microvms() {
  local -a names
  names=(\${(f)"$(estalo __complete $words 2>/dev/null)"})
  compadd -a names
}
_estalo() {
  if (( CURRENT == 2 )); then
    local verbs=(
${VERBS.map(({ name, summary }) => `      '${name}:${quote(summary)}'`).join("\n")}
    )
    _describe verb verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
${cases.join("\n")}
  esac
}
if [ "$funcstack[1]" = _estalo ]; then _estalo "$@"; else compdef _estalo estalo; fi
`;
}

function fish(): string {
  const quote = (text: string) => text.replace(/['\\]/g, "\\$&");
  const lines = VERBS.flatMap((verb) => {
    const when = `-n '__fish_seen_subcommand_from ${verb.name}'`;
    const options = verb.options.map((option) => {
      const short = option.short === undefined ? "" : ` -s ${option.short}`;
      const argument = !takesWord(option) ? "" : isFile(option) ? " -r -F" : " -x";
      return `complete -c estalo ${when} -l ${option.name}${short}${argument} -d '${quote(option.help)}'`;
    });
    const words = operandWords(verb);
    return [
      `complete -c estalo -n __fish_use_subcommand -a ${verb.name} -d '${quote(verb.summary)}'`,
      ...options,
      ...(words.length === 0 ? [] : [`complete -c estalo ${when} -a '${words.join(" ")}'`]),
      ...(verb.microvmStates === undefined
        ? []
        : [
            `complete -c estalo ${when} -a '(estalo __complete (commandline -opc)[2..] 2>/dev/null)'`,
          ]),
    ];
  });
  return `complete -c estalo -f\n${lines.join("\n")}\n`;
}
