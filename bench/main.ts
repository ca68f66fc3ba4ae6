/**
 * The benches' entry: `npm run bench -- [--smoke] [--keep] [BENCH…]`, by the names of BENCHES below.
 *
 * Prints each measure when it is there, and writes all of them to bench/results/ (a full run, or with --keep a
 * part of it; page, pictures and tables are made again) or build/bench/. Ends with status 1 when a bench could
 * not run, after the others; never for a figure.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { benchApi } from "./api.bench.js";
import {
  conditionsOf,
  describeHost,
  describeVersion,
  lookAround,
  peerVersions,
} from "./conditions.js";
import { benchDisk } from "./disk.bench.js";
import { benchEvents } from "./events.bench.js";
import { benchExits } from "./exit.bench.js";
import type { BenchOptions, Measure } from "./harness.js";
import { benchJails } from "./jail.bench.js";
import { benchLimiters } from "./limiter.bench.js";
import { benchMemory } from "./memory.bench.js";
import { benchNet } from "./net.bench.js";
import { benchQueues } from "./queue.bench.js";
import { report } from "./report/main.js";
import type { BenchFailure, ResultFile } from "./results.js";
import { benchScale } from "./scale.bench.js";
import { benchStarts } from "./start.bench.js";
import { benchTrace } from "./trace.bench.js";
import { benchVmm } from "./vmm.bench.js";
import { benchVsock } from "./vsock.bench.js";

const BENCHES: Readonly<Record<string, (options: BenchOptions) => Promise<Measure[]>>> = {
  exits: benchExits,
  queues: benchQueues,
  disk: benchDisk,
  network: benchNet,
  vsock: benchVsock,
  starts: benchStarts,
  memory: benchMemory,
  scale: benchScale,
  trace: benchTrace,
  api: benchApi,
  jail: benchJails,
  events: benchEvents,
  vmm: benchVmm,
  limiters: benchLimiters,
};

function show(measure: Measure): void {
  const { name, unit, ours, oursSpread, peer, peerSpread, peerName, ratio, budget } = measure;
  const left = `${name}: ${ours} ${unit} (${oursSpread.join(" to ")})`;
  const right =
    peer === undefined || peerSpread === undefined
      ? ""
      : `; ${peerName} ${peer} (${peerSpread.join(" to ")}), ratio ${ratio}`;
  console.log(`${left}${right}${budget === undefined ? "" : `; budget ${budget}`}`);
}

const args = process.argv.slice(2);
const smoke = args.includes("--smoke");
const asked = args.filter((arg) => !arg.startsWith("--"));
const unknown = asked.find((name) => BENCHES[name] === undefined);
if (unknown !== undefined || !existsSync("/dev/kvm")) {
  const known = Object.keys(BENCHES).join(", ");
  console.error(
    unknown === undefined ? "bench: no /dev/kvm here" : `bench: no bench "${unknown}"; ${known}`,
  );
  process.exit(1);
}
const names = asked.length > 0 ? asked : Object.keys(BENCHES);
const start = await lookAround(smoke);
const measures: Measure[] = [];
const failures: BenchFailure[] = [];
for (const bench of names) {
  try {
    const found = await BENCHES[bench]({ smoke });
    for (const measure of found) show(measure);
    measures.push(...found);
  } catch (error) {
    // What others measured is not lost with it.
    const message = error instanceof Error ? error.message : String(error);
    failures.push({ bench, message: message.split("\n")[0] });
    console.error(`bench: ${bench} could not run: ${message}`);
  }
}
const host = describeHost();
const result: ResultFile = {
  host,
  date: start.at.slice(0, 10),
  version: describeVersion(),
  conditions: conditionsOf(start, await lookAround(smoke)),
  peers: peerVersions(),
  ...(failures.length === 0 ? {} : { failures }),
  measures,
};
const isFull = asked.length === 0;
const isKept = !smoke && (isFull || args.includes("--keep"));
const name = [result.date, host.kvm, ...(isFull ? [] : asked)].join("-");
const file = isKept ? `bench/results/${name}.json` : "build/bench/last.json";
mkdirSync(isKept ? "bench/results" : "build/bench", { recursive: true });
writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
console.log(`written to ${file}`);
if (isKept) for (const made of report(".", false)) console.log(`written: ${made}`);
process.exitCode = failures.length === 0 ? 0 : 1;
