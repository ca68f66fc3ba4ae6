/**
 * What a jail costs: from the start of the process to the API's first answer, jailed and not, in turn. Both run
 * under their seccomp filters; the jailed one starts Node.js twice. Needs root.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { alternate, type BenchOptions, compare, type Measure } from "./harness.js";

const ROUNDS = 21;
/** From build/bench/, where benches run. */
const BIN = new URL("../../bin/", import.meta.url).pathname;
/** A user that nobody is. */
const USER = "31417";
const AGAIN_MS = 2;

export async function benchJails({ smoke }: BenchOptions): Promise<Measure[]> {
  if (process.getuid?.() !== 0) {
    console.error("jail: left out, it needs root");
    return [];
  }
  const folder = mkdtempSync(join(tmpdir(), "estalo-bench-"));
  let count = 0;
  const firecracker = join(BIN, "firecracker");
  const plain = () => {
    const socket = join(folder, `plain-${count++}`);
    return timeToAnswer(socket, [firecracker, "--api-sock", socket]);
  };
  const jailed = () => {
    const id = `jail-${count++}`;
    const words = ["--id", id, "--exec-file", firecracker, "--uid", USER, "--gid", USER];
    const own = ["--chroot-base-dir", folder, "--empty-network", "--clean"];
    const socket = join(folder, "firecracker", id, "root/s");
    const end = ["--", "--api-sock", "s"];
    return timeToAnswer(socket, [join(BIN, "jailer"), ...words, ...own, ...end]);
  };
  try {
    const runs = await alternate(smoke ? 1 : ROUNDS, new Map(Object.entries({ plain, jailed })));
    return compare(
      { name: "jail: spawn to the API's answer", unit: "ms" },
      runs.get("jailed") ?? [],
      new Map([["without a jail", runs.get("plain") ?? []]]),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Milliseconds. */
async function timeToAnswer(socket: string, [file, ...words]: string[]): Promise<number> {
  const startMs = performance.now();
  const child = spawn(file, words, { stdio: "ignore" });
  try {
    while (!(await answers(socket))) {
      if (child.exitCode !== null) throw new Error(`${file} ended with ${child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
    return performance.now() - startMs;
  } finally {
    await end(child);
  }
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    request({ socketPath, path: "/" }, (reply) => resolve(reply.resume().statusCode === 200))
      .on("error", () => resolve(false))
      .end();
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}
