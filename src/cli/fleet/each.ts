/**
 * `estalo start`, `stop`, `kill`, `rm`, `pause` and `resume`: one call for each microVM, several at once,
 * told in the order they were given.
 */

import { EXIT_FAILURE } from "../../actors/exit-code.js";
import type { EstaloClient } from "../../api/client/client.js";
import type { Microvm } from "../../api/client/types.js";
import { errorText } from "../report.js";
import { type FleetCall, givenMicrovms, wholeNumber, withMicrovm, writeJson } from "./call.js";

/** Calls on their way at the same time. */
const AT_ONCE = 16;
const STOP_SECONDS_MAX = 3600;

type Work = (client: EstaloClient, id: string, call: FleetCall) => Promise<Microvm | undefined>;

const WORK: Readonly<Record<string, Work>> = {
  start: ({ microvms }, id) => microvms.start(id),
  stop: ({ microvms }, id, call) => {
    const seconds = call.parsed.values.get("time")?.[0];
    if (seconds === undefined) return microvms.stop(id);
    const timeoutMs = 1000 * wholeNumber("--time", seconds, STOP_SECONDS_MAX);
    return microvms.stop(id, { timeoutMs });
  },
  kill: ({ microvms }, id) => microvms.kill(id),
  rm: async ({ microvms }, id, { parsed }) => {
    await microvms.delete(id, parsed.switches.has("force") ? { force: true } : {});
    return undefined;
  },
  pause: ({ microvms }, id) => microvms.pause(id),
  resume: ({ microvms }, id) => microvms.resume(id),
};

/** The verb; 125 when one of the microVMs could not. */
export async function each(call: FleetCall): Promise<number> {
  const work = WORK[call.verb.name];
  let status = 0;
  const given = givenMicrovms(call);
  for await (const [name, outcome] of inOrder(given, AT_ONCE, (id) =>
    withMicrovm(call.client, id, (found) => work(call.client, found, call)),
  )) {
    if (outcome.status === "rejected") {
      process.stderr.write(errorText(outcome.reason));
      status = EXIT_FAILURE;
    } else if (call.isJson) writeJson(outcome.value ?? { id: name, deleted: true });
    else process.stdout.write(`${name}\n`);
  }
  return status;
}

/** What becomes of `work` for each item, in order, with at most `atOnce` on their way. */
export async function* inOrder<Item, Result>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<Result>,
): AsyncGenerator<readonly [Item, PromiseSettledResult<Result>]> {
  const started: Promise<PromiseSettledResult<Result>>[] = [];
  const start = () => {
    const item = items[started.length];
    started.push(Promise.allSettled([work(item)]).then(([outcome]) => outcome));
  };
  for (let index = 0; index < items.length; index++) {
    while (started.length < Math.min(items.length, index + atOnce)) start();
    yield [items[index], await started[index]];
  }
}
