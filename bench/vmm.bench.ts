/**
 * What `firecracker`, the package's own, costs until its API answers: as the Go SDK waits for it, by looking for
 * the socket and then asking for the machine's configuration, each 10 ms. Beside it what Node.js alone costs
 * with an HTTP server of one line.
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";
import type { Command } from "./process.js";

const POLL_MS = 10;
const PATIENCE_MS = 30_000;

/** The bundles are in build/bench. */
const FIRECRACKER = fileURLToPath(new URL("../../bin/firecracker", import.meta.url));

const BARE_SERVER = `require("node:http").createServer((request, reply) => reply.end("{}")).listen(process.argv[1])`;

function isAnswered(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const call = request({ socketPath, path: "/machine-config" }, (reply) => {
      reply.resume().once("end", () => resolve(reply.statusCode === 200));
    });
    call.once("error", () => resolve(false)).end();
  });
}

/** Milliseconds from spawn to the first good answer. */
async function startMs([program, ...args]: Command, socketPath: string): Promise<number> {
  rmSync(socketPath, { force: true });
  const begin = performance.now();
  const child = spawn(program, args, { stdio: "ignore" });
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    while (!existsSync(socketPath) || !(await isAnswered(socketPath))) {
      if (performance.now() - begin > PATIENCE_MS) throw new Error(`${program} does not answer`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return performance.now() - begin;
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
}

/** Spawn to the first answer of the API. */
export async function benchVmm({ smoke }: BenchOptions): Promise<Measure[]> {
  const folder = mkdtempSync(join(tmpdir(), "estalo-bench-"));
  const socketPath = join(folder, "api.sock");
  const contestants = new Map<string, Command>([
    ["firecracker", [FIRECRACKER, "--api-sock", socketPath]],
    ["node:http", [process.execPath, "-e", BARE_SERVER, socketPath]],
  ]);
  try {
    const times = await alternate(
      smoke ? 1 : 20,
      new Map(
        [...contestants].map(
          ([name, command]) => [name, () => startMs(command, socketPath)] as const,
        ),
      ),
    );
    const ours = times.get("firecracker") ?? [];
    times.delete("firecracker");
    const kind = { name: "vmm: spawn to the API's first answer", unit: "ms", budget: 120 } as const;
    return compare(kind, ours, times);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
