/**
 * The verbs that ask a server (`estalo serve`), as table: named and shaped as a user of docker expects them.
 */
import { BENCH_VERB } from "../bench/verb.js";
import {
  HELP,
  HOST_OPTION,
  MACHINE_OPTIONS,
  type OptionSpec,
  RECORD_OPTIONS,
  type VerbSpec,
} from "../verb-spec.js";

const JSON_LINES: OptionSpec = { name: "json", help: "Write JSON Lines, for programs." };
const COMMON: readonly OptionSpec[] = [HOST_OPTION, HELP];
const NO_STREAM: OptionSpec = { name: "no-stream", help: "One look, of one second, and no more." };

/** States in which something of a microVM runs. */
export const LIVE_STATES = ["starting", "running", "paused", "stopping"] as const;
const STARTABLE_STATES = ["configured", "stopped", "failed", "lost"];

export const PS_VERB: VerbSpec = {
  name: "ps",
  summary: "List the server's microVMs that run.",
  options: [
    { name: "all", short: "a", help: "Those that do not run, too." },
    { name: "quiet", short: "q", help: "Ids only." },
    {
      name: "filter",
      short: "f",
      value: "KEY=VALUE",
      multiple: true,
      help: "Only these: state=STATE, name=PART, id=START, label=KEY or label=KEY=VALUE.",
    },
    { name: "no-trunc", help: "Whole ids." },
    JSON_LINES,
    ...COMMON,
  ],
  details: "Several states, names or ids are alternatives; labels must all be there.",
  examples: [
    ["estalo ps", "what runs"],
    ["estalo ps -a --filter label=team=blue --filter state=failed", "what failed of a team's"],
    ["estalo stop $(estalo ps -q)", "stops everything"],
    ["estalo ps -a --json | jq -r '.name + \" \" + .state'", "for programs"],
  ],
};

export const CREATE_VERB: VerbSpec = {
  name: "create",
  summary: "Describe a microVM to the server without starting it.",
  operands: "[--] [COMMAND [ARG…]]",
  takesCommand: true,
  options: [...MACHINE_OPTIONS, ...RECORD_OPTIONS, JSON_LINES, HELP],
  details: "As estalo run -d, but for the start. Prints the id.",
  examples: [
    ["estalo create --name web -m 256 -- sh", "estalo start web starts it"],
    ["estalo create --config-file vm.json --label team=blue", "as Firecracker describes it"],
  ],
};

/** A verb that does one thing to each microVM it is given. */
function each(
  name: string,
  summary: string,
  microvmStates: readonly string[],
  options: readonly OptionSpec[],
  example: readonly [string, string],
): VerbSpec {
  return {
    name,
    summary,
    operands: "MICROVM…",
    microvmStates,
    options: [...options, JSON_LINES, ...COMMON],
    details:
      "A microVM is its name, its id, or the beginning of an id that no other has. Prints each that it is\n" +
      "done to, as it was given; errors of single ones do not keep it from the others.",
    examples: [example],
  };
}

export const EACH_VERBS: readonly VerbSpec[] = [
  each(
    "start",
    "Start microVMs that do not run.",
    STARTABLE_STATES,
    [],
    ["estalo start web db", "starts two"],
  ),
  each(
    "stop",
    "Ask microVMs to shut down, and kill those that do not.",
    LIVE_STATES,
    [
      {
        name: "time",
        short: "t",
        value: "SECONDS",
        help: "How long they have for it, 0 to 3600. Default 5.",
      },
    ],
    ["estalo stop -t 30 db", "gives it half a minute"],
  ),
  each("kill", "End microVMs at once.", LIVE_STATES, [], ["estalo kill web", "as pulling a plug"]),
  each(
    "rm",
    "Delete microVMs that do not run.",
    [],
    [{ name: "force", short: "f", help: "Kill those that run first." }],
    ["estalo rm -f web", "whether it runs or not"],
  ),
  each(
    "pause",
    "Stop the vCPUs and devices of microVMs.",
    ["running"],
    [],
    ["estalo pause web", "until estalo resume web"],
  ),
  each("resume", "Let paused microVMs go on.", ["paused"], [], ["estalo resume web", "goes on"]),
];

export const LOGS_VERB: VerbSpec = {
  name: "logs",
  summary: "Show what a microVM wrote to its console.",
  operands: "MICROVM",
  microvmStates: [],
  options: [
    { name: "follow", short: "f", help: "And what it writes from now on, until it ends." },
    { name: "tail", short: "n", value: "LINES", help: "Only the last ones. Default: all kept." },
    ...COMMON,
  ],
  details: "The last 64 KiB are kept, those of the last run when it has ended.",
  examples: [
    ["estalo logs --tail 20 web", "the last lines"],
    ["estalo logs -f web | grep error", "as they come"],
  ],
};

export const CONSOLE_VERB: VerbSpec = {
  name: "console",
  summary: "Join a microVM's console; ctrl-p ctrl-q leaves it.",
  operands: "MICROVM",
  microvmStates: ["starting", "running", "paused"],
  options: [
    { name: "no-history", help: "Without what it showed before." },
    { name: "no-stdin", help: "Only look." },
    ...COMMON,
  ],
  details: `On a terminal all keys are the guest's, but ctrl-p ctrl-q: it leaves, and the microVM runs on. Otherwise
standard input goes to the guest and its output to standard output, until the microVM ends; its status is ours.`,
  examples: [
    ["estalo console web", "a terminal"],
    ["echo 'uname -a' | estalo console web", "types a line, then shows what happens until it ends"],
  ],
};

export const EXEC_VERB: VerbSpec = {
  name: "exec",
  summary: "Run a command in a microVM's guest.",
  operands: "MICROVM [--] COMMAND [ARG…]",
  takesCommand: true,
  microvmStates: ["running"],
  options: [
    { name: "interactive", short: "i", help: "Give it our standard input." },
    { name: "tty", short: "t", help: "Give it a terminal." },
    { name: "env", short: "e", value: "KEY=VALUE", multiple: true, help: "Set a variable." },
    { name: "workdir", short: "w", value: "FOLDER", help: "Run it in this folder of the guest." },
    { name: "user", short: "u", value: "USER", help: "Run it as this user of the guest's." },
    ...COMMON,
  ],
  details: `The guest needs its agent, as the default guest has it, and the microVM a vsock device. The status is the
command's; 126 and 127 as from a shell. Ending estalo exec kills the command.`,
  examples: [
    ["estalo exec -it web -- sh", "a shell"],
    ["tar c . | estalo exec -i web -- tar x -C /srv", "with input"],
  ],
};

export const CP_VERB: VerbSpec = {
  name: "cp",
  summary: "Copy files into a microVM's guest, or out of it.",
  operands: "SOURCE MICROVM:TARGET | MICROVM:SOURCE TARGET",
  options: [{ name: "json", help: "Write what was copied as JSON." }, ...COMMON],
  details: `A folder with all that is in it, with permissions, times, symbolic links and holes. A target that is a folder
gets the source under its name.`,
  examples: [
    ["estalo cp site web:/srv", "as /srv/site, where /srv is"],
    ["estalo cp web:/var/log ./log", "out of the guest"],
  ],
};

export const INSPECT_VERB: VerbSpec = {
  name: "inspect",
  summary: "Show all that the server knows of microVMs, as JSON.",
  operands: "MICROVM…",
  microvmStates: [],
  options: [{ name: "json", help: "One line for each, instead of a list." }, ...COMMON],
  examples: [["estalo inspect web | jq '.[0].config.drives'", "its drives"]],
};

export const WAIT_VERB: VerbSpec = {
  name: "wait",
  summary: "Wait until microVMs have ended; print their exit codes.",
  operands: "MICROVM…",
  microvmStates: LIVE_STATES,
  options: [{ name: "json", help: "Write each as it ended, as JSON Lines." }, ...COMMON],
  details:
    "The status is the exit code; of several microVMs it is the first that is not 0. One that restarts has not\n" +
    "ended; one that was never started is waited for.",
  examples: [["estalo wait web && echo done", "the exit code is the guest's"]],
};

export const EVENTS_VERB: VerbSpec = {
  name: "events",
  summary: "Show what happens to the server's microVMs, as it happens.",
  options: [
    {
      name: "since",
      value: "SEQUENCE",
      help: "Begin after this event; 0: with the oldest that is kept. Default: from now on.",
    },
    {
      name: "filter",
      short: "f",
      value: "KEY=VALUE",
      multiple: true,
      help: "Only these: type=TYPE or microvm=MICROVM; several are alternatives.",
    },
    { name: "no-follow", help: "Only what has happened already; with --since." },
    JSON_LINES,
    ...COMMON,
  ],
  details: "Nothing is left out or shown twice when the server is away for a while.",
  examples: [
    [
      "estalo events --json | jq -c 'select(.type == \"exited\") | [.name, .exit.exitCode]'",
      "ends",
    ],
    ["estalo events --since 0 --no-follow --filter microvm=web", "what happened to one"],
  ],
};

export const EXITS_VERB: VerbSpec = {
  name: "exits",
  summary: "Show the exits of a microVM's vCPUs while they happen.",
  operands: "MICROVM",
  microvmStates: LIVE_STATES,
  options: [
    {
      name: "by",
      value: "FIELD,…",
      help: "Count instead, by some of kind, device, address, direction, vcpu.",
    },
    { name: "top", help: "A live table; by device, address and direction unless --by says." },
    { name: "window", value: "MS", help: "How long is counted, 10 to 3600000. Default 1000." },
    {
      name: "kind",
      value: "KIND,…",
      multiple: true,
      help: "Only these: pio, mmio, hlt, notify, …",
    },
    {
      name: "device",
      value: "NAME,…",
      multiple: true,
      help: "Only these: serial, entropy, drive root, …, or none for what no device answers.",
    },
    { name: "vcpu", value: "N,…", multiple: true, help: "Only these vCPUs." },
    { name: "direction", value: "read|write", help: "Only such accesses." },
    {
      name: "address",
      value: "FROM[-TO]",
      help: "Only accesses there: 0x3f8, 0xc0001000-0xc0001fff.",
    },
    {
      name: "size",
      value: "BYTES,…",
      multiple: true,
      help: "Only accesses of 1, 2, 4 or 8 bytes.",
    },
    { name: "sample", value: "N", help: "One in N of those." },
    { name: "history", value: "N", help: "Begin N exits of each vCPU ago, at most 1023." },
    { name: "rip", help: "With the guest's RIP, which slows its exits a little." },
    JSON_LINES,
    ...COMMON,
  ],
  details: `Several of a list are alternatives. Exits that come faster than they can be shown are left out, and
counted on standard error. docs/streams.md tells what the fields and kinds mean.`,
  examples: [
    ["estalo exits web --by device,address --top", "what keeps a guest from running"],
    ["estalo exits web --device serial --direction write", "each byte to the serial port"],
    ["estalo exits web --json --kind mmio | jq -r .address | sort | uniq -c", "for programs"],
  ],
};

export const STATS_VERB: VerbSpec = {
  name: "stats",
  summary: "Show what microVMs use, once a second.",
  operands: "[MICROVM…]",
  microvmStates: LIVE_STATES,
  options: [NO_STREAM, JSON_LINES, ...COMMON],
  details:
    "All that run, or those that are given. CPU is of their vCPU threads; 100 % is one core.",
  examples: [
    ["estalo stats", "a live table"],
    ["estalo stats --no-stream --json web", "one look, for programs"],
  ],
};

export const TOP_VERB: VerbSpec = {
  name: "top",
  summary: "Show the vCPUs and drives of a microVM, once a second.",
  operands: "MICROVM",
  microvmStates: LIVE_STATES,
  options: [NO_STREAM, JSON_LINES, ...COMMON],
  details: "CPU is of the vCPU's thread. Exits are those that a device model answered.",
  examples: [["estalo top web", "a live table"]],
};

/** All of them, in the order of help. */
export const FLEET_VERBS: readonly VerbSpec[] = [
  PS_VERB,
  CREATE_VERB,
  ...EACH_VERBS,
  LOGS_VERB,
  CONSOLE_VERB,
  EXEC_VERB,
  CP_VERB,
  INSPECT_VERB,
  WAIT_VERB,
  EVENTS_VERB,
  EXITS_VERB,
  STATS_VERB,
  TOP_VERB,
  BENCH_VERB,
];
