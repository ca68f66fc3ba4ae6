/**
 * Subscribers of events: how fast many connect, and how long an event takes to each of them. Delivery is
 * complete or the bench fails: the subscribers count sequence numbers.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BenchOptions, type Measure, measureAlone } from "./harness.js";
import { subject } from "./monitors.js";
import type { EventsLoad } from "./subjects/events-load.js";

const FULL = { subscribers: 10_000, events: 20, intervalMs: 1000, rounds: 3 };
const SMOKE = { subscribers: 200, events: 5, intervalMs: 50, rounds: 1 };

type Extent = typeof FULL;

export async function benchEvents({ smoke }: BenchOptions): Promise<Measure[]> {
  const extent = smoke ? SMOKE : FULL;
  const loads: EventsLoad[] = [];
  for (let round = 0; round < extent.rounds; round++) loads.push(await measureOnce(extent));
  const title = `events: ${extent.subscribers} subscribers`;
  const wanted = extent.subscribers * extent.events;
  const one = (name: string, unit: Measure["unit"], value: (load: EventsLoad) => number) =>
    measureAlone({ name: `${title}, ${name}`, unit }, loads.map(value));
  return [
    one("delivered", "percent", ({ delivered }) => (100 * delivered) / wanted),
    one("p50", "ms", ({ p50Ms }) => p50Ms),
    one("p99", "ms", ({ p99Ms }) => p99Ms),
    one("last", "ms", ({ maxMs }) => maxMs),
    one("connections", "per second", ({ connectSeconds }) => extent.subscribers / connectSeconds),
  ];
}

async function measureOnce({ subscribers, events, intervalMs }: Extent): Promise<EventsLoad> {
  const folder = mkdtempSync(join(tmpdir(), "estalo-bench-"));
  const path = join(folder, "s");
  const numbers = [String(events), String(intervalMs)];
  const server = start("events-server", path, join(folder, "state"), ...numbers);
  let load: ChildProcess | undefined;
  try {
    await lineOf(server);
    load = start("events-load", path, String(subscribers), String(events));
    const ready = await lineOf(load);
    if (ready !== "ready") throw new Error(`the subscribers said ${ready}`);
    const result = lineOf(load);
    server.stdin?.write("go\n");
    return JSON.parse(await result) as EventsLoad;
  } finally {
    server.kill();
    load?.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

function start(name: string, ...args: string[]): ChildProcess {
  const [program, ...words] = subject(name, ...args);
  return spawn(program, words, { stdio: ["pipe", "pipe", "inherit"] });
}

/** The next line that a child writes; rejects when it ends without. */
async function lineOf(child: ChildProcess): Promise<string> {
  const line = once(child.stdout as NodeJS.ReadableStream, "data");
  const end = once(child, "exit").then(() => {
    throw new Error("a subject of the bench ended before it said what was waited for");
  });
  end.catch(() => {});
  const [data] = await Promise.race([line, end]);
  return String(data).trim();
}
