/**
 * Requests to the API: how many a second, and how long they take, at 1, 64 and 512 connections, beside Node's own
 * HTTP server with the same handler behind it.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import { subject } from "./monitors.js";
import { execute } from "./process.js";
import type { ApiLoad } from "./subjects/api-load.js";

const CONNECTIONS = [1, 64, 512];
const SERVERS = ["estalo", "node"];
const ROUNDS = 5;
const ROUND_MS = 2000;
const WARM_UP_MS = 1000;

export async function benchApi({ smoke }: BenchOptions): Promise<Measure[]> {
  const folder = mkdtempSync(join(tmpdir(), "estalo-bench-"));
  const children = await Promise.all(SERVERS.map((kind) => serve(kind, join(folder, kind))));
  try {
    const load = async (kind: string, connections: number, ms: number) => {
      const command = subject("api-load", join(folder, kind), String(connections), String(ms));
      return JSON.parse((await execute(command)).stdout) as ApiLoad;
    };
    // Both have compiled what they run before any of it counts.
    for (const kind of SERVERS) await load(kind, 8, smoke ? 20 : WARM_UP_MS);
    const measures: Measure[] = [];
    for (const connections of CONNECTIONS) {
      const runs = await alternate(
        smoke ? 1 : ROUNDS,
        new Map(
          SERVERS.map(
            (kind) => [kind, () => load(kind, connections, smoke ? 50 : ROUND_MS)] as const,
          ),
        ),
      );
      measures.push(...measuresOf(connections, runs));
    }
    return measures;
  } finally {
    for (const child of children) child.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

function measuresOf(connections: number, runs: ReadonlyMap<string, ApiLoad[]>): Measure[] {
  const title = `api: ${connections} connection${connections === 1 ? "" : "s"}`;
  const one = (name: string, unit: Measure["unit"], value: (load: ApiLoad) => number) => {
    const values = (kind: string) => (runs.get(kind) ?? []).map(value);
    const peers = new Map([["node:http", values("node")]]);
    return compare({ name: `${title}, ${name}`, unit }, values("estalo"), peers);
  };
  return [
    ...one("requests", "per second", ({ requests, seconds }) => requests / seconds),
    ...one("p50", "us", ({ p50Us }) => p50Us),
    ...one("p99", "us", ({ p99Us }) => p99Us),
  ];
}

/** Starts a server and waits until it listens. */
async function serve(kind: string, path: string) {
  const [program, ...args] = subject("api-server", kind, path);
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const isListening = once(child.stdout, "data");
  const hasEnded = once(child, "exit").then(() => {
    throw new Error(`the server ${kind} ended before it listened`);
  });
  // It ends after the bench, when nobody waits for this any more.
  hasEnded.catch(() => {});
  await Promise.race([isListening, hasEnded]);
  return child;
}
