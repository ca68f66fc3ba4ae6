/**
 * A shell on a guest's serial console: types commands, and gives what they print.
 *
 * Works on any shell with a prompt: each command is followed by an `echo` of a mark.
 */
import type { MicroVm } from "estalo";
import { GUEST_PATIENCE_MS, guestReport, hasEnded } from "./guest-report.js";

/** What one command did. */
export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

/** See the file's header. */
export class GuestShell {
  readonly #vm: MicroVm;
  #text = "";
  #news: (() => void)[] = [];
  #count = 0;

  /** Listens from now on; all that the console said is in `transcript`. */
  constructor(vm: MicroVm) {
    this.#vm = vm;
    vm.console.read((bytes) => {
      this.#text += Buffer.from(bytes).toString("latin1");
      for (const wake of this.#news.splice(0)) wake();
    }, true);
    void vm.wait().then(() => {
      for (const wake of this.#news.splice(0)) wake();
    });
  }

  get transcript(): string {
    return this.#text;
  }

  /**
   * Waits until the console has said this (since `from`). Rejects with the guest's report and its last lines
   * when the guest ends before, or makes us wait too long.
   */
  async until(wanted: RegExp, from = 0): Promise<RegExpExecArray> {
    const deadline = AbortSignal.timeout(GUEST_PATIENCE_MS);
    const late = new Promise<void>((resolve) => {
      deadline.addEventListener("abort", () => resolve(), { once: true });
    });
    for (;;) {
      const found = wanted.exec(this.#text.slice(from));
      if (found !== null) return found;
      if (hasEnded(this.#vm)) this.#giveUp(`the guest ended before ${wanted}`);
      if (deadline.aborted) this.#giveUp(`no ${wanted} within ${GUEST_PATIENCE_MS} ms`);
      const news = new Promise<void>((resolve) => this.#news.push(resolve));
      await Promise.race([news, late]);
    }
  }

  #giveUp(what: string): never {
    const said = this.#text === "" ? "nothing" : `\n${this.#text.slice(-2000)}`;
    throw new Error(`${what}\n${guestReport(this.#vm)}\nconsole: ${said}`);
  }

  /** Types a line without waiting for anything. */
  async type(line: string): Promise<void> {
    await this.#vm.console.send(Buffer.from(`${line}\n`));
  }

  /** Waits for the first prompt, then turns prompt and echo off, so that only output is left. */
  async ready(prompt: RegExp): Promise<void> {
    await this.until(prompt);
    await this.type("stty -echo; PS1=; echo re''ady");
    await this.until(/ready\r\n/);
  }

  /** Runs a command line to its end; the shell is `ready`. */
  async run(line: string): Promise<CommandResult> {
    const from = this.#text.length;
    const mark = `mark${++this.#count}`;
    await this.type(`${line}; echo ${mark}=$?=`);
    const found = await this.until(new RegExp(`${mark}=([0-9]+)=\\r\\n`), from);
    const output = this.#text.slice(from, from + found.index).replaceAll("\r", "");
    return { status: Number(found[1]), output };
  }
}
