/**
 * `firecracker` as its clients start it: the built program as a child, and its API by plain HTTP.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { fileURLToPath } from "node:url";
import { GUEST_PATIENCE_MS } from "./guest-report.js";

/** The package's own program. */
export const FIRECRACKER = fileURLToPath(new URL("../../bin/firecracker", import.meta.url));

/** An answer of the API. */
export interface VmmReply {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
}

/** How the process ended. */
export interface VmmEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Options of {@link VmmProcess}. */
export interface VmmProcessOptions {
  /** Path of its socket, for `send`. */
  readonly socket?: string;
  readonly cwd?: string;
  /** A descriptor that becomes its standard input. Default: none. */
  readonly stdin?: number;
  /** What is started instead: a jailer, that becomes it. */
  readonly program?: string;
}

/** One process. Kill it, whatever happened: `using`. */
export class VmmProcess implements Disposable {
  readonly child: ChildProcess;
  readonly end: Promise<VmmEnd>;
  readonly #socket: string;
  stdout = "";
  stderr = "";

  constructor(args: readonly string[], options: VmmProcessOptions = {}) {
    this.#socket = options.socket ?? "";
    this.child = spawn(options.program ?? FIRECRACKER, args, {
      stdio: [options.stdin ?? "ignore", "pipe", "pipe"],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    this.child.stdout?.on("data", (bytes) => {
      this.stdout += bytes.toString("latin1");
    });
    this.child.stderr?.on("data", (bytes) => {
      this.stderr += bytes.toString("latin1");
    });
    this.end = new Promise((resolve) => {
      this.child.once("close", (status, signal) => resolve({ status, signal }));
    });
  }

  /** Sends a request; rejects when nobody answers. */
  send(method: string, path: string, body?: unknown, timeoutMs = 20_000): Promise<VmmReply> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const headers = { "Content-Type": "application/json" };
      const call = request(
        { socketPath: this.#socket, method, path, headers, timeout: timeoutMs },
        (reply) => {
          let answer = "";
          reply.setEncoding("utf8").on("data", (part) => {
            answer += part;
          });
          reply.once("end", () =>
            resolve({ status: reply.statusCode ?? 0, headers: reply.headers, text: answer }),
          );
        },
      );
      call.once("timeout", () => call.destroy(new Error(`${method} ${path}: no answer`)));
      call.once("error", reject);
      call.end(text);
    });
  }

  /** As `send`, and rejects for what is no success. */
  async ok(method: string, path: string, body?: unknown, timeoutMs?: number): Promise<unknown> {
    const { status, text } = await this.send(method, path, body, timeoutMs);
    if (status !== 200 && status !== 204) throw new Error(`${method} ${path}: ${status} ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  }

  /** Waits until the API answers, as the Go SDK does: socket, then a request, each 10 ms. */
  async ready(): Promise<void> {
    let hasEnded = false;
    void this.end.then(() => {
      hasEnded = true;
    });
    for (;;) {
      if (hasEnded) throw new Error(`it ended before it answered: ${this.stderr}`);
      if (existsSync(this.#socket)) {
        const reply = await this.send("GET", "/machine-config", undefined, 500).catch(() => {});
        if (reply?.status === 200) return;
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Waits until its standard output has this, since `from`. */
  async prints(wanted: RegExp, from = 0): Promise<RegExpExecArray> {
    let hasEnded = false;
    void this.end.then(() => {
      hasEnded = true;
    });
    const deadlineMs = performance.now() + GUEST_PATIENCE_MS;
    for (;;) {
      const found = wanted.exec(this.stdout.slice(from));
      if (found !== null) return found;
      if (hasEnded || performance.now() > deadlineMs) {
        throw new Error(`in vain for ${wanted}:\n${this.stdout.slice(-2000)}\n${this.stderr}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Names of its threads. */
  threads(): string[] {
    const tasks = `/proc/${this.child.pid}/task`;
    return readdirSync(tasks).map((task) => readFileSync(`${tasks}/${task}/comm`, "utf8").trim());
  }

  [Symbol.dispose](): void {
    this.child.kill("SIGKILL");
  }
}
