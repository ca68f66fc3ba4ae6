/** The guest's agent as a process of this machine, a new one for each connection, with a socket pair between. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { GuestAgent } from "../../src/actors/agent/guest-agent.js";

/** Compiled once, for one spec file. */
export class AgentProcess implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "estalo-agent-"));
  readonly agent = new GuestAgent(async () => this.connect());
  readonly #path = join(this.folder, "estalo-agent");
  readonly #children = new Set<ChildProcess>();

  constructor() {
    const sources = readdirSync("guest/agent").filter((name) => name.endsWith(".c"));
    const flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-result", "-Werror"];
    execFileSync("cc", [
      ...flags,
      ...["-fsanitize=address,undefined", "-fno-sanitize-recover", "-o", this.#path],
      ...sources.map((name) => join("guest/agent", name)),
    ]);
  }

  /** A connection with a new agent, which is started by this program when one is given. */
  connect(...starter: readonly string[]): Duplex {
    const [program, ...words] = [...starter, this.#path, "--connection", "3"];
    const child = spawn(program, words, {
      stdio: ["ignore", "inherit", "inherit", "pipe"],
      env: { PATH: process.env.PATH, HOME: "/root", ASAN_OPTIONS: "detect_leaks=0" },
    });
    this.#children.add(child);
    child.once("exit", () => this.#children.delete(child));
    return child.stdio[3] as unknown as Duplex;
  }

  /** Exit status of an agent that hears these bytes and then nothing more; null when a signal ended it. */
  async statusAfter(bytes: Uint8Array): Promise<number | null> {
    const stream = this.connect();
    const child = [...this.#children].at(-1) as ChildProcess;
    stream.on("error", () => {});
    stream.resume();
    stream.end(bytes);
    const [status] = await once(child, "exit");
    return status;
  }

  /** Fulfilled when every agent has ended, as all do that have nothing to do. */
  async ended(): Promise<void> {
    await Promise.all([...this.#children].map((child) => once(child, "exit")));
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}
