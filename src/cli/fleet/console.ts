/**
 * `estalo console` and `estalo logs`: a microVM's serial console joined to our streams, or only looked at.
 */
import { once } from "node:events";
import type { Readable } from "node:stream";
import type { ReadStream } from "node:tty";
import type { EstaloClient } from "../../api/client/client.js";
import type { ConsoleStream } from "../../api/client/console-stream.js";
import type { Microvm } from "../../api/client/types.js";
import { isEstaloError } from "../../errors.js";
import { RawMode, typedInput } from "../terminal.js";
import { type FleetCall, givenMicrovms, wholeNumber, withMicrovm } from "./call.js";
import { LIVE_STATES } from "./verb-table.js";

const LINES_MAX = 1_000_000;
const NEWLINE = 0x0a;

/** `estalo console`: the microVM's exit code when it ended, 0 when the user left. */
export async function joinConsole(call: FleetCall): Promise<number> {
  const { client, parsed } = call;
  const [given] = givenMicrovms(call, 1);
  const { id, name } = await withMicrovm(client, given, (found) => client.microvms.get(found));
  const write = !parsed.switches.has("no-stdin");
  const console = client.console(id, { history: !parsed.switches.has("no-history"), write });
  const { stdin, stdout } = process;
  const isTerminal = stdin.isTTY === true && stdout.isTTY === true && write;
  const raw = isTerminal ? new RawMode(stdin as ReadStream) : undefined;
  let hasLeft = false;
  const leave = () => {
    hasLeft = true;
    console.destroy();
  };
  const resize = () => {
    const { columns, rows } = stdout;
    if (columns > 0 && rows > 0) console.resize(columns, rows);
  };
  if (isTerminal) {
    resize();
    process.on("SIGWINCH", resize);
    console.once("ready", () => raw?.enter());
  }
  if (write) feed(console, raw === undefined ? stdin : typedInput(stdin, leave));
  try {
    await pass(console);
  } catch (error) {
    if (!hasLeft) throw error;
  } finally {
    process.off("SIGWINCH", resize);
    raw?.leave();
  }
  if (!hasLeft) return exitCodeNow(client, id);
  process.stderr.write(`\nestalo: left the console; estalo console ${name} comes back\n`);
  return 0;
}

/** Writes our input to the console; where it breaks off it ends. */
function feed(console: ConsoleStream, input: AsyncIterable<Uint8Array>): void {
  const write = async () => {
    for await (const bytes of input) {
      if (console.destroyed) return;
      if (!console.write(bytes)) await once(console, "drain");
    }
  };
  // What goes wrong with the console is told by reading it.
  write().catch(() => {});
}

/** Shows a stream to its end, as fast as it is read. */
async function pass(stream: Readable, skipBytes = 0): Promise<void> {
  let toSkip = skipBytes;
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    const bytes = chunk.subarray(Math.min(toSkip, chunk.length));
    toSkip -= chunk.length - bytes.length;
    if (bytes.length > 0 && !process.stdout.write(bytes)) await once(process.stdout, "drain");
  }
}

/** How the run that was watched has ended. */
async function exitCodeNow(client: EstaloClient, id: string): Promise<number> {
  try {
    const { exit, state } = await client.microvms.get(id);
    // It runs again by its restart policy: no end to pass on.
    const isLive = (LIVE_STATES as readonly string[]).includes(state);
    return isLive ? 0 : (exit?.exitCode ?? 0);
  } catch (error) {
    // Deleted by itself, with --rm.
    if (isEstaloError(error) && error.code === "ERR_ESTALO_NOT_FOUND") return 0;
    throw error;
  }
}

/** `estalo logs`. */
export async function logs(call: FleetCall): Promise<number> {
  const { client, parsed } = call;
  const [given] = givenMicrovms(call, 1);
  const lines = parsed.values.get("tail")?.[0];
  const tail = lines === undefined ? undefined : wholeNumber("--tail", lines, LINES_MAX);
  if (!parsed.switches.has("follow")) {
    const bytes = await withMicrovm(client, given, (id) => client.microvms.logs(id));
    process.stdout.write(bytes.subarray(skippedBytes(bytes, tail)));
    return 0;
  }
  const microvm = await withMicrovm(client, given, (id) => client.microvms.get(id));
  await follow(client, microvm, tail);
  return 0;
}

async function follow(client: EstaloClient, microvm: Microvm, tail: number | undefined) {
  const { id } = microvm;
  // A stream of the console begins with the history that was just asked for.
  const skip = tail === undefined ? 0 : skippedBytes(await client.microvms.logs(id), tail);
  await pass(client.console(id, { write: false }), skip);
}

/** Where the last lines begin; a last one without its end counts. */
export function skippedBytes(bytes: Uint8Array, lines: number | undefined): number {
  if (lines === undefined) return 0;
  if (lines === 0) return bytes.length;
  let at = bytes.at(-1) === NEWLINE ? bytes.length - 1 : bytes.length;
  for (let count = 0; count < lines; count++) {
    at = at === 0 ? -1 : bytes.lastIndexOf(NEWLINE, at - 1);
    if (at === -1) return 0;
  }
  return at + 1;
}
