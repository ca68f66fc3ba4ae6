/**
 * Subject: exits over a WebSocket, from a server in a process of its own to clients in this one.
 *
 * `node socket-exits.js KERNEL ROUNDS PHASE_MS LONG_MS` starts `estalo serve`, runs a guest in it that exits all
 * the time, and prints one line of JSON: a StreamPhase for each phase of each round; the last one is LONG_MS of
 * frames without a break.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { EstaloClient } from "../../src/api/client/client.js";
import type { ExitsBatchMessage } from "../../src/api/client/types.js";
import { decodeExitFrame } from "../../src/api/exit-frames.js";
import type { StreamPhase } from "./streamed-exits.js";

/** Long enough for what is compiled when it is first needed. */
const WARM_UP_MS = 1000;

const [kernel, rounds, phaseMs, longMs] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), "estalo-bench-"));
const socket = join(folder, "s.sock");
const command = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));
const server = spawn(
  process.execPath,
  [command, "serve", "--state", join(folder, "state"), "--listen", socket],
  { stdio: "ignore" },
);
const client = new EstaloClient({ host: `unix://${socket}` });

async function ready(): Promise<void> {
  for (;;) {
    try {
      await client.info();
      return;
    } catch {
      if (server.exitCode !== null) throw new Error("the server ended");
      await sleep(50);
    }
  }
}

/** Reads one stream until it is told to end; the last counters it saw. `onFirst`: something has come. */
async function follow(id: string, format: string, signal: AbortSignal, onFirst: () => void) {
  const last = { seen: 0, lost: 0, dropped: 0 };
  for await (const message of client.exits(id, { query: { format }, signal })) {
    if (last.seen > 0) onFirst();
    if ("bytes" in message) {
      const batch = decodeExitFrame(message.bytes);
      last.seen += batch.length;
      Object.assign(last, { lost: batch.lost, dropped: batch.dropped });
    } else if ("exits" in message.json) {
      const batch = message.json as ExitsBatchMessage;
      last.seen += batch.exits.length;
      Object.assign(last, { lost: batch.lost, dropped: batch.dropped });
    }
  }
  return last;
}

async function phase(
  id: string,
  [name, clients, format]: readonly [string, number, string],
  ms: number,
): Promise<StreamPhase> {
  const abort = new AbortController();
  const begun: Promise<void>[] = [];
  const followers = Array.from({ length: clients }, () => {
    let onFirst = () => {};
    begun.push(
      new Promise((resolve) => {
        onFirst = resolve;
      }),
    );
    return follow(id, format, abort.signal, onFirst);
  });
  await Promise.all(begun);
  const before = await client.microvms.metrics(id);
  await sleep(ms);
  const after = await client.microvms.metrics(id);
  const [first, last] = [before.vcpus[0], after.vcpus[0]];
  const exits = (last.exitMmioWrite - first.exitMmioWrite) >>> 0;
  const seconds = (after.atMs - before.atMs) / 1000;
  const exitsPerCpuSecond = (1000 * exits) / ((last.cpuMs ?? 0) - (first.cpuMs ?? 0));
  abort.abort();
  const ends = await Promise.all(followers);
  const missing = Math.max(0, ...ends.map(({ lost, dropped }) => lost + dropped));
  const lostPercent = (100 * missing) / exits;
  return { name, exitsPerSecond: exits / seconds, exitsPerCpuSecond, lostPercent };
}

const PHASES = [
  ["no client", 0, "json"],
  ["1 client, frames", 1, "binary"],
  ["1 client, JSON", 1, "json"],
  ["10 clients, frames", 10, "binary"],
] as const;

try {
  await ready();
  const { id } = await client.microvms.create({
    config: { kernel, bootArgs: "bench=forever ring=0", memoryMib: 128 },
  });
  for (const one of PHASES) await phase(id, one, WARM_UP_MS);
  const phases: StreamPhase[] = [];
  for (let round = 0; round < Number(rounds); round++) {
    for (const one of PHASES) phases.push(await phase(id, one, Number(phaseMs)));
  }
  phases.push(await phase(id, ["1 client, frames, in one go", 1, "binary"], Number(longMs)));
  phases.push(await phase(id, ["no client, after it", 0, "binary"], Number(phaseMs)));
  console.log(JSON.stringify(phases));
} finally {
  await client[Symbol.asyncDispose]();
  server.kill();
  rmSync(folder, { recursive: true, force: true });
}
