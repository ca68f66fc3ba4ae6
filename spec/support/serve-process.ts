/** `estalo serve` as a process of its own, on a socket and a state folder that go with it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { OtherUser } from "./nobody.js";

const COMMAND = fileURLToPath(new URL("../../bin/estalo.js", import.meta.url));

/** See the file's header. */
export class ServeProcess implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "estalo-serve-"));
  readonly #words: readonly string[];
  readonly #user: OtherUser | undefined;
  #child: ChildProcess | undefined;
  /** What it wrote. */
  output = "";

  /** @param words - options beside those for its socket and its state */
  private constructor(words: readonly string[], user: OtherUser | undefined) {
    this.#words = words;
    this.#user = user;
    if (user !== undefined) chownSync(this.#folder, user.id, user.id);
  }

  static async start(words: readonly string[] = [], user?: OtherUser): Promise<ServeProcess> {
    const server = new ServeProcess(words, user);
    try {
      await server.start();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** For ESTALO_HOST. */
  get host(): string {
    return `unix://${join(this.#folder, "s")}`;
  }

  get pid(): number {
    return this.#child?.pid as number;
  }

  get stateFolder(): string {
    return join(this.#folder, "state");
  }

  /** Starts it, again after `end`, with the state of before. */
  async start(): Promise<void> {
    const words = ["serve", "--state", this.stateFolder, ...this.#words];
    const listen = ["--listen", join(this.#folder, "s")];
    const { command = [], script = COMMAND } = this.#user ?? {};
    const [program, ...rest] = [...command, process.execPath, script, ...words, ...listen];
    const child = spawn(program, rest);
    this.#child = child;
    await new Promise<void>((resolve, reject) => {
      const take = (text: string) => {
        this.output += text;
        if (/^listening on /m.test(this.output)) resolve();
      };
      child.stdout.setEncoding("utf8").on("data", take);
      child.stderr.setEncoding("utf8").on("data", take);
      child.once("close", () => reject(new Error(`estalo serve ended: ${this.output}`)));
    });
  }

  /** Ends it, as its user would, or with SIGKILL. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "close");
    child.kill(signal);
    await ended;
    this.output = "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
