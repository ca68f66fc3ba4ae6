/**
 * The verbs that stand for Firecracker's programs, for help and completion.
 */
import { HELP, type VerbSpec } from "./verb-spec.js";
import { VMM_FLAGS } from "./vmm-arguments.js";

export const VMM_VERB: VerbSpec = {
  name: "vmm",
  summary: "Run one microVM by Firecracker's command line and API.",
  options: VMM_FLAGS.map(({ name, value, help }) =>
    value === undefined ? { name, help } : { name, value: value.replace("PATH", "FILE"), help },
  ),
  details: `Options are Firecracker's: only --NAME VALUE, each once. Exit statuses are Firecracker's as well
(docs/exit-codes.md). docs/compatibility.md says what is the same and what differs.`,
  examples: [
    ["estalo vmm --api-sock vm.sock", "wait for requests on a Unix socket"],
    ["estalo vmm --no-api --config-file vm.json", "run the machine that a file describes"],
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
