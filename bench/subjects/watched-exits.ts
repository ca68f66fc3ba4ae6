/**
 * Subject: a guest that exits all the time, while so many readers follow its trace ring.
 *
 * `node watched-exits.js KERNEL EXITS WATCHERS` prints one line of JSON (WatchedExits).
 */
import { MicroVm } from "../../src/index.js";

/** What this subject prints. */
export interface WatchedExits {
  /** The guest's own report of its loop. */
  readonly report: string;
  /** Records read by all watchers, and those that were overwritten before. */
  readonly seen: number;
  readonly lost: number;
}

/** How often a watcher looks: a ring holds a thousand records. */
const INTERVAL_MS = 5;

const [kernel, exits, watchers] = process.argv.slice(2);
const vm = await MicroVm.create({
  kernel,
  bootArgs: `bench=mmio-write n=${exits}`,
  memoryMib: 128,
});
let output = "";
vm.console.read((bytes) => {
  output += Buffer.from(bytes).toString("latin1");
});
const readers = Array.from({ length: Number(watchers) }, () => vm.traceReaders()[0]);
let seen = 0;
const timer = setInterval(() => {
  for (const reader of readers) seen += reader.read().length;
}, INTERVAL_MS);
await vm.start();
await vm.wait();
clearInterval(timer);
const result: WatchedExits = {
  report: /\{.*\}/.exec(output)?.[0] ?? "",
  seen,
  lost: readers.reduce((sum, { lost }) => sum + Number(lost), 0),
};
console.log(JSON.stringify(result));
