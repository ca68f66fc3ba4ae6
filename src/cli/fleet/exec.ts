/**
 * `estalo exec` and `estalo cp`: programs in a microVM's guest and files in and out of it, by its agent.
 */
import { once } from "node:events";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import type { ReadStream } from "node:tty";
import type { GuestProcess } from "../../actors/agent/process.js";
import { helpHint, usageError } from "../arguments.js";
import { RawMode } from "../terminal.js";
import { type FleetCall, withMicrovm, writeJson } from "./call.js";

/** A microVM and a path in its guest; a word with a slash before the colon is a path of ours. */
const GUEST_PATH = /^([A-Za-z0-9_.-]{1,64}):(.+)$/s;
const SIGNAL_STATUS = 128;
const PASSED_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

function usage({ verb }: FleetCall, what: string) {
  return usageError(`estalo ${verb.name} ${verb.operands}: ${what}`, helpHint(verb));
}

/** `estalo exec`: the program's status. */
export async function exec(call: FleetCall): Promise<number> {
  const { client, parsed } = call;
  const { operands, switches, values } = parsed;
  const [given, ...words] = operands;
  const command = words[0] === "--" ? words.slice(1) : words;
  if (given === undefined) throw usage(call, "which microVM?");
  if (command.length === 0) throw usage(call, "which command?");
  const { id } = await withMicrovm(client, given, (found) => client.microvms.get(found));
  const { stdin, stdout } = process;
  const tty = switches.has("tty");
  const size = () => ({ rows: stdout.rows || 24, columns: stdout.columns || 80 });
  const cwd = values.get("workdir")?.[0];
  const user = values.get("user")?.[0];
  const waiting = new AbortController();
  const program = client.agent(id).exec(command, {
    signal: waiting.signal,
    env: environmentOf(call, values.get("env") ?? []),
    stdin: switches.has("interactive") ? "pipe" : new Uint8Array(0),
    ...(cwd === undefined ? {} : { cwd }),
    ...(user === undefined ? {} : { user }),
    ...(tty ? { tty: size() } : {}),
  });
  const raw =
    tty && switches.has("interactive") && stdin.isTTY
      ? new RawMode(stdin as ReadStream)
      : undefined;
  const resize = () => void program.resize(size()).catch(() => {});
  // Until it has started there is nothing to signal, but for our waiting for it.
  let pass = (signal: NodeJS.Signals) => waiting.abort(signal);
  const onSignal = (signal: NodeJS.Signals) => pass(signal);
  const streams = [show(program.stdout, stdout), show(program.stderr, process.stderr)];
  if (tty) process.on("SIGWINCH", resize);
  for (const signal of PASSED_SIGNALS) process.on(signal, onSignal);
  try {
    await program.pid;
    pass = (signal) => void program.kill(signal).catch(() => {});
    raw?.enter();
    if (switches.has("interactive")) feed(program);
    const { exitCode } = await program;
    await Promise.all(streams);
    return exitCode;
  } catch (error) {
    if (!waiting.signal.aborted) throw error;
    return SIGNAL_STATUS + constants.signals[waiting.signal.reason as NodeJS.Signals];
  } finally {
    raw?.leave();
    process.off("SIGWINCH", resize);
    for (const signal of PASSED_SIGNALS) process.off(signal, onSignal);
    // Nothing keeps us for the user's next key.
    if (switches.has("interactive")) stdin.destroy();
  }
}

function environmentOf(call: FleetCall, assignments: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    assignments.map((assignment) => {
      const at = assignment.indexOf("=");
      if (at > 0) return [assignment.slice(0, at), assignment.slice(at + 1)];
      throw usage(call, `--env is KEY=VALUE, not ${assignment}`);
    }),
  );
}

function feed(program: GuestProcess): void {
  process.stdin.pipe(program.stdin);
  process.stdin.on("error", () => program.stdin.end());
}

/** Shows a stream as fast as ours takes it; what ends it otherwise the program's result tells. */
async function show(from: Readable, to: Writable): Promise<void> {
  try {
    for await (const bytes of from) if (!to.write(bytes)) await once(to, "drain");
  } catch {
    // The result says so.
  }
}

/** `estalo cp`. */
export async function copy(call: FleetCall): Promise<number> {
  const { client, parsed, isJson } = call;
  const [source, target, ...more] = parsed.operands;
  if (source === undefined || target === undefined || more.length > 0) {
    throw usage(call, "one source and one target");
  }
  const [from, to] = [GUEST_PATH.exec(source), GUEST_PATH.exec(target)];
  if ((from === null) === (to === null)) {
    throw usage(call, "one of the two is MICROVM:PATH, the other a path of this machine");
  }
  const [, given, path] = (from ?? to) as RegExpExecArray;
  const { id } = await withMicrovm(client, given, (found) => client.microvms.get(found));
  const { files } = client.agent(id);
  const summary = await (from === null ? files.copyIn(source, path) : files.copyOut(path, target));
  if (isJson) writeJson(summary);
  else if (summary.skipped > 0) {
    process.stderr.write(`estalo: ${summary.skipped} devices, pipes or sockets were left out\n`);
  }
  return 0;
}
