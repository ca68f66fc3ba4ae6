/**
 * Threads: the only user of worker_threads and Comlink on this side.
 *
 * vCPU threads are kept in a pool: a worker takes tens of milliseconds to start and microseconds to take
 * over, and a stopped or paused microVM holds none. A thread in the guest does not answer and cannot be
 * terminated: whoever gives a thread back has made its vCPU leave the guest first.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { SHARE_ENV, Worker } from "node:worker_threads";
import { type Remote, wrap } from "comlink";
import nodeEndpoint from "comlink/dist/esm/node-adapter.mjs";
import { type ErrorRecord, EstaloError } from "../errors.js";
import type { VcpuOutcome, VcpuSetup, VcpuThread } from "./messages.js";

/** Beside the bundle in a package; in dist/ when a spec runs the sources. */
const CANDIDATES = ["./vcpu.worker.cjs", "../../dist/vcpu.worker.cjs"];

/** Idle threads kept for the next microVM; more are ended when they come back. */
const IDLE_THREADS_MAX = 4;

/** A worker's heap: fronts and rings need little, and every vCPU pays for it. */
const RESOURCE_LIMITS = {
  maxYoungGenerationSizeMb: 1,
  maxOldGenerationSizeMb: 32,
  codeRangeSizeMb: 4,
  stackSizeMb: 1,
};

function workerFile(): string {
  for (const candidate of CANDIDATES) {
    const path = fileURLToPath(new URL(candidate, import.meta.url));
    if (existsSync(path)) return path;
  }
  throw new EstaloError("ERR_ESTALO_ADDON", "the vCPU thread's script is not built", {
    hint: "npm run setup builds it",
  });
}

/** One worker thread that can run vCPUs. */
export class VcpuThreadHandle {
  readonly #worker: Worker;
  readonly #remote: Remote<VcpuThread & { trim(): void }>;
  readonly #waiting = new Set<(error: EstaloError) => void>();
  #death: EstaloError | undefined;

  constructor() {
    this.#worker = new Worker(workerFile(), {
      name: "estalo-vcpu",
      env: SHARE_ENV,
      // Not the process's own: --input-type, --import and the like are about its main module.
      execArgv: [],
      resourceLimits: RESOURCE_LIMITS,
      trackUnmanagedFds: false,
    });
    this.#worker.once("error", (error: Error) => this.#died(error.message, error));
    this.#worker.once("exit", (code) => this.#died(`exit code ${code}`));
    this.#remote = wrap(nodeEndpoint(this.#worker));
    this.#worker.unref();
  }

  get alive(): boolean {
    return this.#death === undefined;
  }

  attach(setup: VcpuSetup): Promise<ErrorRecord | undefined> {
    return this.#orDeath(this.#remote.attach(setup));
  }

  run(): Promise<VcpuOutcome> {
    return this.#orDeath<VcpuOutcome>(this.#remote.run());
  }

  detach(): Promise<void> {
    return this.#orDeath(this.#remote.detach());
  }

  /** Collects the thread's garbage and gives its free memory back; the thread must not be in the guest. */
  trim(): Promise<void> {
    return this.#orDeath(this.#remote.trim());
  }

  /** Keeps the process alive while the thread has a vCPU, and only then. */
  hold(): void {
    this.#worker.ref();
  }

  letGo(): void {
    this.#worker.unref();
  }

  /** Ends the thread; it must not be in the guest. */
  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  /** The thread's answer, or ERR_ESTALO_THREAD_DIED: a dead thread never answers. */
  #orDeath<T>(answer: PromiseLike<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#death !== undefined) return reject(this.#death);
      this.#waiting.add(reject);
      Promise.resolve(answer)
        .then(resolve, reject)
        .finally(() => this.#waiting.delete(reject));
    });
  }

  #died(why: string, cause?: unknown): void {
    this.#death ??= new EstaloError("ERR_ESTALO_THREAD_DIED", `a vCPU thread ended: ${why}`, {
      ...(cause === undefined ? {} : { cause }),
    });
    for (const reject of [...this.#waiting]) reject(this.#death);
  }
}

/** The process's vCPU threads. */
export class VcpuThreadPool {
  readonly #idle: VcpuThreadHandle[] = [];

  /** Starts threads ahead of time, so that the next microVMs find them ready; at most the idle maximum. */
  prepare(count: number): void {
    const wanted = Math.min(count, IDLE_THREADS_MAX);
    while (this.#idle.length < wanted) this.#idle.push(new VcpuThreadHandle());
  }

  /** An idle thread, or a new one. */
  take(): VcpuThreadHandle {
    for (;;) {
      const thread = this.#idle.pop() ?? new VcpuThreadHandle();
      if (thread.alive) {
        thread.hold();
        return thread;
      }
    }
  }

  /** Takes a thread back that has no vCPU any more. */
  async giveBack(thread: VcpuThreadHandle): Promise<void> {
    thread.letGo();
    if (!thread.alive) return;
    if (this.#idle.length < IDLE_THREADS_MAX) this.#idle.push(thread);
    else await thread.terminate();
  }

  /** Ends the idle threads. */
  async close(): Promise<void> {
    await Promise.all(this.#idle.splice(0).map((thread) => thread.terminate()));
  }
}

/** One pool for the process: threads are the process's, not a microVM's. */
export const vcpuThreads = new VcpuThreadPool();
