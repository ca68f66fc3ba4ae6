/**
 * A verb of the command that asks a server, done in this process: what it wrote and its status.
 */

import { parseArguments } from "../../src/cli/arguments.js";
import { fleetVerb } from "../../src/cli/fleet/index.js";
import { errorText } from "../../src/cli/report.js";
import { VERBS, type VerbSpec } from "../../src/cli/verbs.js";

/** What a command left. */
export interface VerbOutcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Does `words` on the server at `host`, as main.ts would. */
export async function fleetCommand(host: string, ...words: string[]): Promise<VerbOutcome> {
  const [name, ...rest] = words;
  const verb = VERBS.find((candidate) => candidate.name === name) as VerbSpec;
  return captured(async () => {
    try {
      return await fleetVerb(verb, parseArguments(verb, [`--host=${host}`, ...rest]));
    } catch (error) {
      process.stderr.write(errorText(error));
      return 125;
    }
  });
}

/** What `work` writes to our streams. */
export async function captured(work: () => Promise<number>): Promise<VerbOutcome> {
  const written = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  const streams = ["stdout", "stderr"] as const;
  const before = streams.map((name) => process[name].write);
  for (const name of streams) {
    process[name].write = ((chunk: string | Uint8Array) => {
      written[name].push(Buffer.from(chunk as Uint8Array));
      return true;
    }) as typeof process.stdout.write;
  }
  const text = (name: "stdout" | "stderr") => Buffer.concat(written[name]).toString("utf8");
  try {
    const status = await work();
    return { status, stdout: text("stdout"), stderr: text("stderr") };
  } finally {
    streams.forEach((name, index) => {
      process[name].write = before[index];
    });
  }
}
