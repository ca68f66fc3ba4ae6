/** spec/support/plant.c, built: what gives a spec's JavaScript any system call. */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const HEADERS = join(dirname(dirname(process.execPath)), "include/node");
const SOURCE = new URL("plant.c", import.meta.url).pathname;

/** Node.js's headers and a C compiler. */
export const canBuildPlant = existsSync(join(HEADERS, "node_api.h")) && existsSync("/usr/bin/cc");

/** The built addon, in a folder that goes with it. */
export class Plant implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "estalo-plant-"));
  readonly file = join(this.#folder, "plant.node");

  constructor() {
    execFileSync("cc", ["-shared", "-fPIC", "-I", HEADERS, SOURCE, "-o", this.file]);
  }

  /** Puts it into the root of a jail, whole at once. */
  into(root: string): void {
    mkdirSync(root, { recursive: true });
    copyFileSync(this.file, join(root, "plant.part"));
    renameSync(join(root, "plant.part"), join(root, "plant.node"));
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Code that forks until it may not, and tells how often it could and the last call's result. 57 is fork, 34 pause. */
export const FORK_BOMB = `const { call } = require("/plant.node"); let made = 0, result = 0;
  while (made < 500 && (result = call(57)) > 0) made++;
  if (result === 0) for (;;) call(34);
  require("node:fs").writeSync(1, JSON.stringify([made, result]));
  process.reallyExit(0)`;
