/**
 * Exits as text for people: a line for each, or a table of what a window counted. No terminal, no clock:
 * messages in, text out.
 */
import type { ExitMessage, ExitsCountsMessage } from "../../api/client/types.js";
import { type Column, printable, tableText } from "./table.js";

type Group = ExitsCountsMessage["groups"][number];

/** Most characters of a device's name in a line. */
const DEVICE_WIDTH = 12;

/** Nanoseconds in three digits and the unit that suits: "612 ns", "21.0 us". */
export function duration(ns: number): string {
  if (ns < 1000) return `${Math.round(ns)} ns`;
  for (const [unit, unitNs] of [
    ["us", 1e3],
    ["ms", 1e6],
    ["s", 1e9],
  ] as const) {
    const value = ns / unitNs;
    if (value < 999.5 || unit === "s")
      return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${unit}`;
  }
  return "";
}

/** One exit in a line; `zeroUnixMs` is what the stream's hello told. */
export function exitLine(exit: ExitMessage, zeroUnixMs: number): string {
  const { kind, vcpu, device, address, sizeBytes, direction, data, count, rip } = exit;
  // Microseconds, which a Date has not.
  const unixUs = Math.floor(zeroUnixMs * 1000) + Math.floor(exit.atNs / 1000);
  const time = new Date(Math.floor(unixUs / 1000));
  const isTold = exit.atNs > 0 && !Number.isNaN(time.getTime());
  const at = isTold
    ? `${time.toISOString().slice(11, 23)}${String(unixUs % 1000).padStart(3, "0")}`
    : "-".padEnd(15);
  const access =
    direction === null
      ? ""
      : ` ${(device ?? "-").padEnd(DEVICE_WIDTH)} ${direction.padEnd(5)} ${address} ${sizeBytes} ${data}`;
  const parts = [
    `${at} ${vcpu ?? "-"} ${kind.padEnd(6)}${access}`,
    count === 1 ? "" : ` x${count}`,
    rip === undefined ? "" : ` rip ${rip}`,
    exit.hostNs === 0 && exit.guestNs === 0
      ? ""
      : ` guest ${duration(exit.guestNs)} host ${duration(exit.hostNs)}`,
  ];
  return `${printable(parts.join(""))}\n`;
}

const FIELDS: readonly Column<Group>[] = [
  { title: "KIND", cell: ({ kind }) => kind ?? "-" },
  { title: "DEVICE", cell: ({ device }) => device ?? "-" },
  { title: "ADDRESS", cell: ({ address }) => address ?? "-" },
  { title: "DIRECTION", cell: ({ direction }) => direction ?? "-" },
  { title: "VCPU", cell: ({ vcpu }) => (vcpu == null ? "-" : String(vcpu)), isNumber: true },
];

/** The columns of what `counts` was counted by, in the order of `by`; then rates and times. */
function columnsOf({ fromNs, toNs, exits }: ExitsCountsMessage, by: readonly string[]) {
  const seconds = Math.max(1e-9, (toNs - fromNs) / 1e9);
  const fields = by.flatMap((field) =>
    FIELDS.filter(({ title }) => title.toLowerCase() === field.toLowerCase()),
  );
  const timed = (value: (group: Group) => number) => (group: Group) =>
    group.timed === 0 ? "-" : duration(value(group));
  const numbers: Column<Group>[] = [
    { title: "EXITS/S", cell: (group) => rate(group.exits / seconds), isNumber: true },
    { title: "SHARE", cell: (group) => percent(group.exits, exits), isNumber: true },
    { title: "HOST P50", cell: timed(({ hostP50Ns }) => hostP50Ns), isNumber: true },
    { title: "HOST P99", cell: timed(({ hostP99Ns }) => hostP99Ns), isNumber: true },
    { title: "HOST", cell: ({ hostNs }) => percent(hostNs / 1e9, seconds), isNumber: true },
    {
      title: "GUEST BEFORE",
      cell: timed(({ guestNs, timed: of }) => guestNs / of),
      isNumber: true,
    },
  ];
  return [...fields, ...numbers];
}

/** A window as a table: at most `rows` groups, the rest in a line of its own. */
export function countsTable(
  counts: ExitsCountsMessage,
  by: readonly string[],
  rows = Number.POSITIVE_INFINITY,
): string {
  const { fromNs, toNs, exits, groups, otherExits, lost, dropped } = counts;
  const seconds = Math.max(1e-9, (toNs - fromNs) / 1e9);
  const shown = groups.slice(0, rows);
  const rest = groups.slice(rows).reduce((sum, group) => sum + group.exits, otherExits);
  const title = `${rate(exits / seconds)} exits/s, ${groups.length} groups, ${lost} lost, ${dropped} windows dropped\n`;
  const more = rest === 0 ? "" : `and ${rate(rest / seconds)} exits/s in others\n`;
  return `${title}${tableText(columnsOf(counts, by), shown)}${more}`;
}

function rate(value: number): string {
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(1)} %`;
}
