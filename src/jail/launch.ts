/**
 * The launcher (src/native/jail/): this process becomes it, or waits for it.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { EstaloError } from "../errors.js";
import { native } from "../native/binding.js";
import { onHost } from "./jail-error.js";

/** Beside the bundle in a package; in dist/ when a spec runs the sources. */
const CANDIDATES = ["./estalo-jail", "../../dist/estalo-jail"];

/** Path of the launcher; raises ERR_ESTALO_ADDON when it is not built. */
export function launcherFile(): string {
  for (const candidate of CANDIDATES) {
    const path = fileURLToPath(new URL(candidate, import.meta.url));
    if (existsSync(path)) return path;
  }
  throw new EstaloError("ERR_ESTALO_ADDON", "the jail's launcher is not built", {
    hint: "npm run setup builds it",
  });
}

/**
 * This process becomes the launcher, and then the program: with the same process id, unless asked otherwise.
 * `kept`: descriptors that it gets beside the standard streams.
 */
export function becomeLauncher(
  action: "start" | "remove",
  words: readonly string[],
  kept: readonly number[] = [],
): never {
  const file = launcherFile();
  return onHost("start", file, () => native().execute(file, [file, action, ...words], [], kept));
}
