/**
 * `estalo inspect` and `estalo wait`: microVMs as the server knows them, now and when they have ended.
 */
import { EXIT_FAILURE } from "../../actors/exit-code.js";
import type { Microvm } from "../../api/client/types.js";
import { EstaloError } from "../../errors.js";
import { errorText } from "../report.js";
import { type FleetCall, givenMicrovms, withMicrovm, writeJson } from "./call.js";
import { inOrder } from "./each.js";

/** Calls on their way at the same time. */
const AT_ONCE = 16;
/** Waits on their way: one with --rm can be waited for until its end only. */
const WAITS_AT_ONCE = 256;

/** A JSON list of them, or a line for each; 125 when one is not there. */
export async function inspect(call: FleetCall): Promise<number> {
  const found: Microvm[] = [];
  let status = 0;
  const { client } = call;
  const get = (given: string) => withMicrovm(client, given, (id) => client.microvms.get(id));
  for await (const [, outcome] of inOrder(givenMicrovms(call), AT_ONCE, get)) {
    if (outcome.status === "rejected") {
      process.stderr.write(errorText(outcome.reason));
      status = EXIT_FAILURE;
    } else if (call.isJson) writeJson(outcome.value);
    else found.push(outcome.value);
  }
  if (!call.isJson) process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
  return status;
}

/** The exit codes; the first that is not 0 is the status, or 125 when one of them cannot be told. */
export async function wait(call: FleetCall): Promise<number> {
  let status = 0;
  let hasFailed = false;
  const { client } = call;
  const end = async (given: string) => {
    const microvm = await withMicrovm(client, given, (id) => client.microvms.wait(id));
    return { microvm, exitCode: exitCodeOf(microvm) };
  };
  for await (const [, outcome] of inOrder(givenMicrovms(call), WAITS_AT_ONCE, end)) {
    if (outcome.status === "rejected") {
      process.stderr.write(errorText(outcome.reason));
      hasFailed = true;
      continue;
    }
    const { microvm, exitCode } = outcome.value;
    if (call.isJson) writeJson(microvm);
    else process.stdout.write(`${exitCode}\n`);
    status ||= exitCode;
  }
  return hasFailed ? EXIT_FAILURE : status;
}

function exitCodeOf({ id, name, exit, state, lostReason }: Microvm): number {
  if (exit !== null) return exit.exitCode;
  throw new EstaloError(
    "ERR_ESTALO_STATE",
    `how ${name} ended is not known: it is ${state}${lostReason === null ? "" : `, ${lostReason}`}`,
    { data: { id, state } },
  );
}
