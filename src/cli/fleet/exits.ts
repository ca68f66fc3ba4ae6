/**
 * `estalo exits`: a microVM's exits while they happen, a line each, or counted by their fields in a table.
 */
import type {
  ExitsBatchMessage,
  ExitsCountsMessage,
  ExitsHelloMessage,
} from "../../api/client/types.js";
import { type FleetCall, givenMicrovms, outputRoom, withMicrovm, writeJson } from "./call.js";
import { countsTable, exitLine } from "./exit-table.js";

/** What `--top` counts by when nobody says. */
const TOP_FIELDS = "device,address,direction";
/** Rows of a terminal that does not say. */
const ROWS = 24;
/** Rows of a terminal that are not for groups: sum, titles, the others, the cursor. */
const OTHER_ROWS = 4;
const HOME = "\x1b[H";
const CLEAR_SCREEN = "\x1b[H\x1b[2J";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";

/** Options that are parameters of the stream, by their names there. */
const PARAMETERS = [
  ["kind", "kind"],
  ["device", "device"],
  ["vcpu", "vcpu"],
  ["direction", "direction"],
  ["address", "address"],
  ["size", "size"],
  ["sample", "sample"],
  ["history", "history"],
  ["window", "windowMs"],
] as const;

type Message = ExitsHelloMessage | ExitsBatchMessage | ExitsCountsMessage;

/** The verb; it ends with the microVM. */
export async function exits(call: FleetCall): Promise<number> {
  const { client, parsed, isJson } = call;
  const [given] = givenMicrovms(call, 1);
  const { id } = await withMicrovm(client, given, (found) => client.microvms.get(found));
  const isTop = parsed.switches.has("top");
  const by = parsed.values.get("by")?.[0] ?? (isTop ? TOP_FIELDS : undefined);
  const query: Record<string, string> = {};
  for (const [option, name] of PARAMETERS) {
    const values = parsed.values.get(option);
    if (values !== undefined) query[name] = values.join(",");
  }
  if (parsed.switches.has("rip")) query.rip = "true";
  if (by !== undefined) query.by = by;
  const show = isJson ? jsonLines : people(by?.split(",") ?? [], isTop);
  for await (const message of client.exits(id, { query })) {
    if ("json" in message) show(message.json as Message);
    // Who reads slowly misses some, and is told how many.
    await outputRoom();
  }
  return 0;
}

/** A line for each exit or window. */
function jsonLines(message: Message): void {
  if (message.type === "counts") writeJson(message);
  else if (message.type === "exits") for (const exit of message.exits) writeJson(exit);
}

/** Text; on a terminal `--top` is a table that stays where it is. */
function people(by: readonly string[], isTop: boolean): (message: Message) => void {
  const { stdout, stderr } = process;
  let zeroUnixMs = 0;
  let missing = 0;
  let isFirst = true;
  const isLive = isTop && stdout.isTTY === true;
  return (message) => {
    if (message.type === "hello") zeroUnixMs = message.zeroUnixMs;
    else if (message.type === "exits") {
      for (const exit of message.exits) stdout.write(exitLine(exit, zeroUnixMs));
      if (message.lost + message.dropped > missing) {
        missing = message.lost + message.dropped;
        stderr.write(`estalo: ${message.lost} exits lost, ${message.dropped} dropped\n`);
      }
    } else if (isLive) {
      const table = countsTable(message, by, Math.max(1, (stdout.rows || ROWS) - OTHER_ROWS));
      const text = table.replaceAll("\n", `${CLEAR_LINE}\n`);
      stdout.write(`${isFirst ? CLEAR_SCREEN : HOME}${text}${CLEAR_BELOW}`);
      isFirst = false;
    } else stdout.write(countsTable(message, by));
  };
}
