/**
 * The command's verbs and their options, as one table: parsing, help and shell completion are made from it.
 */

import { COMPAT_VERB, JAIL_VERB, VMM_VERB } from "./firecracker-verbs.js";
import { FLEET_VERBS } from "./fleet/verb-table.js";
import { NET_VERB } from "./net/net-verb.js";
import { SERVE_VERB } from "./serve-verb.js";
import { HELP, MACHINE_OPTIONS, RECORD_OPTIONS, type VerbSpec } from "./verb-spec.js";

export type { OptionSpec, VerbSpec } from "./verb-spec.js";

const JSON_OUTPUT = "Write JSON to standard output, for programs.";

export const RUN_VERB: VerbSpec = {
  name: "run",
  summary: "Start a microVM and run a command or a shell in it.",
  operands: "[--] [COMMAND [ARG…]]",
  takesCommand: true,
  options: [
    ...MACHINE_OPTIONS,
    { name: "detach", short: "d", help: "Start it on the server, print its id, and leave." },
    ...RECORD_OPTIONS,
    {
      name: "console",
      help: "Connect to the guest's serial console instead of the command's streams.",
    },
    {
      name: "jail",
      help: "Put a second wall around the microVM: this process, confined (jailer.md).",
    },
    { name: "timeout", value: "SECONDS", help: "Kill the microVM after this time; status 124." },
    { name: "timings", help: "Say at the end where the milliseconds went." },
    { name: "json", help: "Write events, output and the end as JSON Lines to standard output." },
    HELP,
  ],
  details: `On a terminal the command gets one too; ctrl-p ctrl-q leaves it and stops the microVM. Otherwise
standard input, output and error are the command's, and nothing else is written to standard output. The
command's exit status is ours; docs/exit-codes.md lists the others (124 timed out, 125 Estalo failed).
With -d the server runs it (estalo serve): its command has the serial console, see estalo console and logs.`,
  examples: [
    ["estalo run", "a shell in a fresh microVM"],
    ["echo hi | estalo run -- tr a-z A-Z", "a filter"],
    [
      "estalo run -c 2 -m 512 --drive data.img -- sh -c 'mount /dev/vdb /mnt && ls /mnt'",
      "with a disk",
    ],
    ["estalo run --kernel vmlinux --rootfs debian.ext4 --memory 1G", "your own kernel and system"],
    ["estalo run --config-file vm.json", "a machine described for Firecracker"],
    [
      "estalo run -d --name clock --restart always -- sh -c 'while date; do sleep 5; done'",
      "on the server, kept running",
    ],
  ],
};

export const DOCTOR_VERB: VerbSpec = {
  name: "doctor",
  summary: "Say what this host offers, and what keeps it from running microVMs.",
  options: [{ name: "json", help: JSON_OUTPUT }, HELP],
  details: "Status 0 when this host can run a microVM, 1 when it cannot.",
  examples: [
    ["estalo doctor", "all checks, with the commands that mend what fails"],
    ["estalo doctor --json | jq '.checks[] | select(.status != \"ok\")'", "what is not ok"],
  ],
};

export const DEMO_VERB: VerbSpec = {
  name: "demo",
  summary: "Show a microVM: a shell on a terminal, otherwise a short demonstration.",
  options: [{ name: "verbose", short: "v", help: "Show the guest's kernel messages." }, HELP],
  details: "The guest gets a scratch disk, /dev/vdb, which is gone afterwards.",
  examples: [
    ["estalo demo", "a shell with a scratch disk"],
    ["estalo demo | cat", "boots, looks around, uses its disk, says where the time went"],
  ],
};

export const COMPLETION_VERB: VerbSpec = {
  name: "completion",
  summary: "Print a completion script for your shell.",
  operands: "bash|zsh|fish",
  options: [HELP],
  examples: [
    ["source <(estalo completion bash)", "bash; put it into ~/.bashrc"],
    ["estalo completion zsh > ~/.zfunc/_estalo", "zsh, with ~/.zfunc in fpath"],
    ["estalo completion fish > ~/.config/fish/completions/estalo.fish", "fish"],
  ],
};

export const HELP_VERB: VerbSpec = {
  name: "help",
  summary: "Explain a verb.",
  operands: "[VERB]",
  options: [HELP],
  examples: [["estalo help run", "everything about run"]],
};

export const VERBS: readonly VerbSpec[] = [
  RUN_VERB,
  DEMO_VERB,
  DOCTOR_VERB,
  NET_VERB,
  SERVE_VERB,
  ...FLEET_VERBS,
  VMM_VERB,
  JAIL_VERB,
  COMPAT_VERB,
  COMPLETION_VERB,
  HELP_VERB,
];
