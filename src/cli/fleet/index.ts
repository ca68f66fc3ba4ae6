/**
 * The verbs that ask a server, in one module: one file to load, and nothing native behind it.
 */
import type { ParsedArguments } from "../arguments.js";
import type { VerbSpec } from "../verb-spec.js";
import { connect, type FleetHandler } from "./call.js";
import { joinConsole, logs } from "./console.js";
import { each } from "./each.js";
import { events } from "./events.js";
import { copy, exec } from "./exec.js";
import { exits } from "./exits.js";
import { inspect, wait } from "./inspect.js";
import { ps } from "./ps.js";
import { stats, top } from "./stats.js";
import { EACH_VERBS } from "./verb-table.js";

export { complete } from "./complete.js";

const HANDLERS: Readonly<Record<string, FleetHandler>> = {
  bench: async (call) => (await import("../bench/load.js")).bench(call),
  ps,
  // What plans a microVM is loaded by who makes one.
  create: async (call) => (await import("./create.js")).create(call),
  run: async (call) => (await import("./create.js")).runDetached(call),
  ...Object.fromEntries(EACH_VERBS.map(({ name }) => [name, each])),
  logs,
  console: joinConsole,
  exec,
  cp: copy,
  inspect,
  wait,
  events,
  exits,
  stats,
  top,
};

/** Does a verb of the table, or `run -d`; its status. */
export async function fleetVerb(verb: VerbSpec, parsed: ParsedArguments): Promise<number> {
  const client = connect(parsed);
  try {
    return await HANDLERS[verb.name]({ verb, client, parsed, isJson: parsed.switches.has("json") });
  } finally {
    await client[Symbol.asyncDispose]();
  }
}
