/**
 * Threads of a cell as this host sees them: in its own process namespace they have other numbers.
 */
import { readdirSync, readFileSync } from "node:fs";

/** See the file's header. */
export class ThreadFolders {
  readonly #pid: number | undefined;
  readonly #known = new Map<number, string>();

  /** @param pid - of the cell, on this host */
  constructor(pid: number | undefined) {
    this.#pid = pid;
  }

  /** Folder in /proc of the thread with this number in the cell; empty: there is none. */
  of(id: number): string {
    if (id === 0 || this.#pid === undefined) return "";
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    this.#look();
    return this.#known.get(id) ?? "";
  }

  /** As few look-ups as threads: what a cell says of numbers that it has not is looked for each time. */
  #look(): void {
    this.#known.clear();
    const tasks = `/proc/${this.#pid}/task`;
    try {
      for (const task of readdirSync(tasks)) {
        const status = readFileSync(`${tasks}/${task}/status`, "latin1");
        // Linux, proc.rst: its numbers from the outermost namespace to its own.
        const inner = /^NSpid:.*?(\d+)$/m.exec(status)?.[1];
        if (inner !== undefined) this.#known.set(Number(inner), `${tasks}/${task}`);
      }
    } catch {
      // It has ended.
    }
  }
}
