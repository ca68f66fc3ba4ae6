/**
 * `estalo __complete VERB WORD…`: the names of microVMs that a verb could be given next, for the shells'
 * completion. It is quick or silent: a shell waits for it, and nobody asked for its errors.
 */
import { EstaloClient } from "../../api/client/client.js";
import type { MicrovmState } from "../../api/client/types.js";
import { FLEET_VERBS } from "./verb-table.js";

/** From the start of the process to its end. */
const TIME_MS = 190;
/** Of it for the server, however long the process took to start. */
const REQUEST_MS_MIN = 60;

/** Prints one name a line, within `timeMs` from now; status 0 in any case. */
export async function complete(
  words: readonly string[],
  timeMs = Math.max(REQUEST_MS_MIN, TIME_MS - performance.now()),
): Promise<number> {
  const [name, ...given] = words;
  const verb = FLEET_VERBS.find((candidate) => candidate.name === name);
  if (verb?.microvmStates === undefined) return 0;
  const states = verb.microvmStates as readonly MicrovmState[];
  const signal = AbortSignal.timeout(Math.ceil(timeMs));
  try {
    const host = hostOf(given);
    const client = new EstaloClient(host === undefined ? {} : { host });
    const { items } = await client.microvms.list({ states, limit: 1000, signal });
    const names = items.map((microvm) => microvm.name).filter((item) => !given.includes(item));
    process.stdout.write(names.map((item) => `${item}\n`).join(""));
  } catch {
    // No server, or one that is busy: there is nothing to offer.
  }
  return 0;
}

function hostOf(words: readonly string[]): string | undefined {
  for (const [index, word] of words.entries()) {
    if (word === "--host" || word === "-H") return words[index + 1];
    if (word.startsWith("--host=")) return word.slice("--host=".length);
  }
  return undefined;
}
