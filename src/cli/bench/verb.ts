/**
 * The verb `estalo bench`, for parsing, help and completion.
 */
import { HELP, HOST_OPTION, MACHINE_OPTIONS, type VerbSpec } from "../verb-spec.js";

/** Options of a machine that lives may share: sizes are --mix's, taps and names are one microVM's. */
export const SHARED_OPTIONS: readonly string[] = [
  ...["kernel", "initrd", "rootfs", "drive", "cmdline", "env", "workdir", "cpu-template"],
  "config-file",
];

export const BENCH_VERB: VerbSpec = {
  name: "bench",
  summary: "Load a server with microVMs that come and go, and measure how it does.",
  operands: "load [-- COMMAND [ARG…]]",
  options: [
    { name: "rate", value: "N", help: "Arrivals a second, at random (Poisson). Default 1." },
    {
      name: "trace",
      value: "FILE",
      help: "Arrivals as recorded: CSV or JSON Lines; docs/load.md tells the form.",
    },
    { name: "speed", value: "FACTOR", help: "Play the trace so many times as fast. Default 1." },
    { name: "duration", value: "TIME", help: "Arrivals for so long. Default 30s, or the trace." },
    { name: "count", value: "N", help: "At most so many arrivals." },
    {
      name: "life",
      value: "TIME|exp:TIME|guest",
      help: "How long each lives once it is ready: 200ms, exp:1s on average, or until its guest ends. Default exp:1s.",
    },
    {
      name: "mix",
      value: "MIB:VCPUS:WEIGHT,…",
      help: "Sizes and how often they come: 128:1:70,512:2:30. Default 128:1:1.",
    },
    {
      name: "ready",
      value: "MARK",
      help: "When one is ready: started, booted, output (first byte on the console) or exec (a command ran). Default booted; output with a system of your own.",
    },
    {
      name: "concurrency",
      value: "N",
      help: "At most so many at once; an arrival beyond them is refused. Default 50.",
    },
    {
      name: "timeout",
      value: "TIME",
      help: "One that is not ready in this time has failed. Default 60s.",
    },
    {
      name: "graceful",
      help: "End lives by estalo stop, so that guests shut down; otherwise they are killed.",
    },
    {
      name: "seed",
      value: "TEXT",
      help: "The same seed gives the same arrivals, lives and sizes.",
    },
    {
      name: "max-failures",
      value: "N|N%",
      help: "Status 1 when more fail, or more per cent of what was started. Default 0.",
    },
    { name: "json", help: "Write JSON Lines: a line a second, and the summary at the end." },
    ...MACHINE_OPTIONS.filter(({ name }) => SHARED_OPTIONS.includes(name)),
    HOST_OPTION,
    HELP,
  ],
  details: `Times are numbers with a unit: 200ms, 1.5s, 10m, 1h. Latencies are counted from the moment an arrival was
due, not from when it could be sent. Ctrl-C ends it early: what it made is removed, and the summary is shown.`,
  examples: [
    ["estalo bench load --rate 5 --life exp:2s --duration 1m", "five a second for a minute"],
    [
      "estalo bench load --rate 20 --mix 128:1:70,512:2:30 --concurrency 100 --seed monday",
      "mixed sizes, the same again tomorrow",
    ],
    [
      "estalo bench load --trace day.csv --speed 60 --json | tail -1",
      "an hour of a trace a minute",
    ],
    ["estalo bench load --life guest -- true", "from arrival to the end of a command"],
  ],
};
