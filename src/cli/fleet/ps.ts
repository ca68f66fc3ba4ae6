/**
 * `estalo ps`: the server's microVMs as a table, as ids, or as JSON Lines.
 */
import type { Microvm, MicrovmState } from "../../api/client/types.js";
import { nearest, usageError } from "../arguments.js";
import { type FleetCall, filtersOf, takesNothing, writeJson } from "./call.js";
import { type Column, span, tableText, wantsColours } from "./table.js";
import { LIVE_STATES } from "./verb-table.js";

/** What is shown of an id; unique beginnings of ids name microVMs, too. */
const SHORT_ID = 12;

const STATES: readonly MicrovmState[] = [
  ...(["configured", "starting", "running", "paused"] as const),
  ...(["stopping", "stopped", "failed", "lost"] as const),
];

const COLOURS: Readonly<Partial<Record<MicrovmState, number>>> = {
  running: 32,
  paused: 33,
  starting: 36,
  stopping: 36,
  failed: 31,
  lost: 31,
};

/** The verb. */
export async function ps(call: FleetCall): Promise<number> {
  takesNothing(call);
  const { switches } = call.parsed;
  const microvms: Microvm[] = [];
  for await (const microvm of chosen(call)) {
    if (call.isJson) writeJson(microvm);
    else if (switches.has("quiet")) process.stdout.write(`${shownId(call, microvm)}\n`);
    else microvms.push(microvm);
  }
  if (call.isJson || switches.has("quiet")) return 0;
  const columns = columnsOf((microvm) => shownId(call, microvm), Date.now());
  process.stdout.write(tableText(columns, microvms, wantsColours(process.stdout)));
  return 0;
}

function shownId({ parsed }: FleetCall, { id }: Microvm): string {
  return parsed.switches.has("no-trunc") ? id : id.slice(0, SHORT_ID);
}

async function* chosen(call: FleetCall): AsyncGenerator<Microvm> {
  const filters = filtersOf(call, ["state", "name", "id", "label"]);
  const names = filters.get("name");
  const ids = filters.get("id");
  const keys = (filters.get("label") ?? []).filter((label) => !label.includes("="));
  const options = { states: statesOf(call, filters.get("state")), labels: labelsOf(filters) };
  for await (const microvm of call.client.microvms.all(options)) {
    if (names !== undefined && !names.some((part) => microvm.name.includes(part))) continue;
    if (ids !== undefined && !ids.some((start) => microvm.id.startsWith(start))) continue;
    if (!keys.every((key) => Object.hasOwn(microvm.labels, key))) continue;
    yield microvm;
  }
}

function statesOf(
  { parsed }: FleetCall,
  wanted: readonly string[] | undefined,
): readonly MicrovmState[] {
  if (wanted === undefined) return parsed.switches.has("all") ? [] : LIVE_STATES;
  for (const state of wanted) {
    if ((STATES as readonly string[]).includes(state)) continue;
    const near = nearest(state, STATES);
    const hint = near === undefined ? `states are ${STATES.join(", ")}` : `did you mean ${near}?`;
    throw usageError(`there is no state ${state}`, hint);
  }
  return wanted as readonly MicrovmState[];
}

function labelsOf(filters: ReadonlyMap<string, readonly string[]>): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const label of filters.get("label") ?? []) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(label) ?? [];
    if (key !== undefined) labels[key] = value;
  }
  return labels;
}

/** The table, as it is at this moment. */
export function columnsOf(
  id: (microvm: Microvm) => string,
  nowMs: number,
): readonly Column<Microvm>[] {
  return [
    { title: "ID", cell: id },
    { title: "NAME", cell: ({ name }) => name },
    {
      title: "STATUS",
      cell: (microvm) => statusText(microvm, nowMs),
      colour: ({ state }) => COLOURS[state],
    },
    { title: "CREATED", cell: ({ createdAtMs }) => `${span(nowMs - createdAtMs)} ago` },
    { title: "VCPUS", cell: ({ config }) => String(config.vcpuCount ?? 1), isNumber: true },
    { title: "MEMORY", cell: ({ config }) => `${config.memoryMib ?? 128} MiB`, isNumber: true },
  ];
}

/** Where it is, since when, and with which exit code. */
export function statusText(microvm: Microvm, nowMs: number): string {
  const { state, startedAtMs, endedAtMs, exit, restartCount } = microvm;
  const again = restartCount === 0 ? "" : `, restarted ${restartCount}×`;
  const isLive = (LIVE_STATES as readonly string[]).includes(state);
  if (isLive) {
    const since = startedAtMs === null ? "" : ` ${span(nowMs - startedAtMs)}`;
    return `${state}${since}${again}`;
  }
  const code = exit === null ? "" : ` (${exit.exitCode})`;
  const ago = endedAtMs === null ? "" : ` ${span(nowMs - endedAtMs)} ago`;
  return `${state}${code}${ago}${again}`;
}
