/**
 * The command's verbs and their options, as one table: parsing, help and shell completion are made from it.
 */

/** One option of a verb. */
export interface OptionSpec {
  readonly name: string;
  readonly short?: string;
  /** What the value is called in help; absent: a switch. `FILE` and `PATH` complete file names. */
  readonly value?: string;
  /** May be given more than once. */
  readonly multiple?: boolean;
  readonly help: string;
}

/** One verb. */
export interface VerbSpec {
  readonly name: string;
  readonly summary: string;
  /** What follows the options. */
  readonly operands?: string;
  /** The first word that is no option, and all after it, are the operands: a command's own options stay its own. */
  readonly takesCommand?: boolean;
  readonly options: readonly OptionSpec[];
  readonly details?: string;
  /** Command and what it does. */
  readonly examples: readonly (readonly [string, string])[];
}

const HELP: OptionSpec = { name: "help", short: "h", help: "Show this help." };
const JSON_OUTPUT = "Write JSON to standard output, for programs.";

export const RUN_VERB: VerbSpec = {
  name: "run",
  summary: "Start a microVM and run a command or a shell in it.",
  operands: "[--] [COMMAND [ARG…]]",
  takesCommand: true,
  options: [
    {
      name: "kernel",
      value: "FILE",
      help: "Boot this vmlinux or bzImage. Default: the guest that comes with Estalo.",
    },
    { name: "initrd", value: "FILE", help: "Initial RAM disk for the kernel." },
    {
      name: "rootfs",
      value: "FILE",
      help: "Root file system image, attached first, writable; FILE:ro for read-only.",
    },
    {
      name: "drive",
      value: "FILE[:ro][,KEY=VALUE…]",
      multiple: true,
      help: "Attach a disk. Keys: id=NAME, cache=writeback|unsafe, io=auto|io_uring|libuv.",
    },
    { name: "vcpus", short: "c", value: "N", help: "Virtual CPUs, 1 to 32. Default 1." },
    {
      name: "memory",
      short: "m",
      value: "MIB",
      help: "Guest memory in MiB, or with a suffix: 512M, 2G. Default 128.",
    },
    {
      name: "cmdline",
      value: "ARGS",
      help: "Kernel arguments: added to the default guest's, or all of them with --kernel.",
    },
    {
      name: "env",
      short: "e",
      value: "KEY=VALUE",
      multiple: true,
      help: "Set the command's environment.",
    },
    {
      name: "workdir",
      short: "w",
      value: "FOLDER",
      help: "Run the command in this folder of the guest.",
    },
    { name: "name", value: "NAME", help: "Name of the microVM, and host name of the guest." },
    { name: "cpu-template", value: "FILE", help: "Custom CPU template in Firecracker's JSON." },
    { name: "config-file", value: "FILE", help: "The whole machine in Firecracker's JSON." },
    {
      name: "console",
      help: "Connect to the guest's serial console instead of the command's streams.",
    },
    { name: "timeout", value: "SECONDS", help: "Kill the microVM after this time; status 124." },
    { name: "timings", help: "Say at the end where the milliseconds went." },
    { name: "json", help: "Write events, output and the end as JSON Lines to standard output." },
    { name: "verbose", short: "v", help: "Show the guest's kernel messages on standard error." },
    HELP,
  ],
  details: `On a terminal the command gets one too; ctrl-p ctrl-q leaves it and stops the microVM. Otherwise
standard input, output and error are the command's, and nothing else is written to standard output. The
command's exit status is ours; docs/exit-codes.md lists the others (124 timed out, 125 Estalo failed).`,
  examples: [
    ["estalo run", "a shell in a fresh microVM"],
    ["echo hi | estalo run -- tr a-z A-Z", "a filter"],
    [
      "estalo run -c 2 -m 512 --drive data.img -- sh -c 'mount /dev/vdb /mnt && ls /mnt'",
      "with a disk",
    ],
    ["estalo run --kernel vmlinux --rootfs debian.ext4 --memory 1G", "your own kernel and system"],
    ["estalo run --config-file vm.json", "a machine described for Firecracker"],
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
  COMPLETION_VERB,
  HELP_VERB,
];
