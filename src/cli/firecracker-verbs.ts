/**
 * The verbs that stand for Firecracker's programs, for help and completion.
 */
import type { FirecrackerFlag } from "./firecracker-flags.js";
import { JAIL_FLAGS } from "./jail-arguments.js";
import { HELP, type OptionSpec, type VerbSpec } from "./verb-spec.js";
import { VMM_FLAGS } from "./vmm-arguments.js";

const optionOf = ({ name, value, isMultiple, help }: FirecrackerFlag): OptionSpec => ({
  name,
  help,
  ...(value === undefined ? {} : { value: value.replace("PATH", "FILE") }),
  ...(isMultiple === true ? { multiple: true } : {}),
});

/** Their programs know no short options. */
const LONG_HELP: OptionSpec = { name: "help", help: HELP.help };

export const VMM_VERB: VerbSpec = {
  name: "vmm",
  summary: "Run one microVM by Firecracker's command line and API.",
  options: [...VMM_FLAGS.map(optionOf), LONG_HELP],
  details: `Options are Firecracker's: only --NAME VALUE, each once. Exit statuses are Firecracker's as well
(docs/exit-codes.md). docs/compatibility.md says what is the same and what differs.`,
  examples: [
    ["estalo vmm --api-sock vm.sock", "wait for requests on a Unix socket"],
    ["estalo vmm --no-api --config-file vm.json", "run the machine that a file describes"],
  ],
};

export const JAIL_VERB: VerbSpec = {
  name: "jail",
  summary: "Run a program in a jail by Firecracker's jailer's command line; take a jail away.",
  operands: "[-- ARGUMENT…]",
  options: [...JAIL_FLAGS.map(optionOf), LONG_HELP],
  details: `Options are those of Firecracker's jailer: only --NAME VALUE. --id, --exec-file, --uid and --gid are needed; what
follows -- is the program's. estalo jail rm ID [--force] takes a jail away that was started without --clean, with
--chroot-base-dir and --exec-file as it was started. docs/jailer.md says what a jail is.`,
  examples: [
    [
      "estalo jail --id one --exec-file bin/firecracker --uid 1000 --gid 1000 -- --api-sock /run/s",
      "estalo vmm in a jail, its socket below /srv/jailer/firecracker/one/root",
    ],
    ["estalo jail rm one --force", "end it, and leave nothing of it"],
  ],
};

export const COMPAT_VERB: VerbSpec = {
  name: "compat",
  summary: "Link the drop-ins for Firecracker's programs into a folder.",
  operands: "FOLDER",
  options: [HELP],
  details: "What is in the folder by that name already is left alone, unless it is such a link.",
  examples: [["estalo compat ~/bin/firecracker-compat", "then put that folder on a client's PATH"]],
};
