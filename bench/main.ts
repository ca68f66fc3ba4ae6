/**
 * The benches' entry: `npm run bench -- [--smoke] [exits queues disk network vsock starts memory scale trace api jail events vmm limiters]`.
 *
 * Prints each measure when it is there, and writes all of them to bench/results/ (a full run) or build/bench/
 * (a part of it, or a smoke run). Ends with status 1 when a bench could not run; never for a figure.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { benchApi } from "./api.bench.js";
import { benchDisk } from "./disk.bench.js";
import { benchEvents } from "./events.bench.js";
import { benchExits } from "./exit.bench.js";
import type { BenchOptions, Measure } from "./harness.js";
import { benchJails } from "./jail.bench.js";
import { benchLimiters } from "./limiter.bench.js";
import { benchMemory } from "./memory.bench.js";
import { benchNet } from "./net.bench.js";
import { benchQueues } from "./queue.bench.js";
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

/** What the figures depend on. */
function describeHost() {
  const emulated = existsSync("/sys/module/kvm_pvm");
  const hardware = ["kvm_intel", "kvm_amd"].find((name) => existsSync(`/sys/module/${name}`));
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    linux: /^\d+\.\d+/.exec(release())?.[0] ?? release(),
    node: process.version,
    kvm: emulated ? "kvm_pvm" : (hardware ?? "none"),
  };
}

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
const date = new Date().toISOString().slice(0, 10);
const measures: Measure[] = [];
for (const name of names) {
  const found = await BENCHES[name]({ smoke });
  for (const measure of found) show(measure);
  measures.push(...found);
}
const host = describeHost();
const isFull = !smoke && asked.length === 0;
const folder = isFull ? "bench/results" : "build/bench";
const file = `${folder}/${isFull ? `${date}-${host.kvm}` : "last"}.json`;
mkdirSync(folder, { recursive: true });
writeFileSync(file, `${JSON.stringify({ host, date, measures }, null, 2)}\n`);
console.log(`written to ${file}`);
