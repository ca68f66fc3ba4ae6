/**
 * The pictures: ratios beside peers, figures beside their budgets, and both over time.
 */
import { benchOf, budgetRatio, type Result, type Row, titleOf } from "../results.js";
import {
  cut,
  element,
  type LogScale,
  label,
  line,
  logScale,
  mark,
  picture,
  tooltip,
} from "./svg.js";

const WIDTH = 960;
const LEFT = 330;
const RIGHT = 760;
const ROW = 20;
/** Of the ratios as numbers, one for each mark. */
const COLUMN = 44;
const GROUP = 34;
const TOP = 66;

/** Peers that a reader knows, in the order of their marks; all others share the last one. */
const PEERS = ["bare C loop", "qemu microvm", "firecracker", "cloud hypervisor"];

function markOf(peerName: string): number {
  // "qemu microvm, vhost" is QEMU's, too.
  const known = PEERS.findIndex((name) => peerName.startsWith(name));
  return known < 0 ? PEERS.length : known;
}

/** Items in groups, each with its place from above. */
interface Placed<T> {
  readonly heads: readonly { readonly title: string; readonly y: number }[];
  readonly items: readonly { readonly item: T; readonly y: number }[];
  readonly height: number;
}

function place<T>(groups: ReadonlyMap<string, readonly T[]>, top: number): Placed<T> {
  const heads: { title: string; y: number }[] = [];
  const items: { item: T; y: number }[] = [];
  let y = top;
  for (const [title, own] of groups) {
    y += GROUP;
    heads.push({ title, y: y - 10 });
    for (const item of own) {
      items.push({ item, y: y + ROW / 2 });
      y += ROW;
    }
  }
  return { heads, items, height: y + 16 };
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    groups.set(key, [...(groups.get(key) ?? []), item]);
  }
  return groups;
}

/** Grid and axis of a logarithmic plot whose 1 is a border: more is worse. */
function frame(
  scale: LogScale,
  placed: Placed<unknown>,
  words: { readonly better: string; readonly worse: string },
): string {
  const one = scale.at(1);
  const bottom = placed.height - 10;
  const rect = { x: one, y: TOP, width: RIGHT - one, height: bottom - TOP, class: "zone" };
  return [
    element("rect", rect),
    ...placed.items.map(({ y }) => line(LEFT, y, RIGHT, y, "grid")),
    ...scale.ticks.map((tick) => {
      const x = scale.at(tick);
      return (
        line(x, TOP, x, bottom, tick === 1 ? "one" : "grid") +
        label(x, TOP - 6, String(tick), { "text-anchor": "middle", class: "muted small" })
      );
    }),
    label(one - 8, TOP - 24, `← ${words.better}`, { "text-anchor": "end", class: "muted" }),
    label(one + 8, TOP - 24, `${words.worse} →`, { class: "muted" }),
  ].join("");
}

/** Everything with a peer: how much more it costs here. */
export function ratioPlot(rows: readonly Row[]): string {
  const compared = rows.filter(({ ratio }) => ratio !== undefined);
  const byName = [...groupBy(compared, ({ name }) => name).values()];
  const placed = place(
    groupBy(byName, ([{ name }]) => benchOf(name)),
    TOP - 12,
  );
  const scale = logScale(
    compared.map(({ ratio }) => ratio as number),
    LEFT,
    RIGHT,
  );
  const peers = [...new Set(compared.map(({ peerName = "" }) => markOf(peerName)))].sort();
  const column = (n: number) => RIGHT + 24 + peers.indexOf(n) * COLUMN;
  const legend = peers.map((n, index) => {
    const x = 14 + index * 150;
    const name = label(x + 10, 24, PEERS[n] ?? "another, see the table");
    return mark(n, x, 20, "") + name + mark(n, column(n), TOP - 10, "");
  });
  const body = placed.items.map(({ item, y }) => {
    const [first] = item;
    // One of several peers with the same mark: that which is nearest to us last, as in the tables.
    const numbers = new Map(item.map((row) => [markOf(row.peerName ?? ""), row.ratio as number]));
    const ratios = [...numbers].map(([n, ratio]) =>
      label(column(n), y + 4, ratioText(ratio), { class: "small", "text-anchor": "middle" }),
    );
    const marks = item.map((row) => {
      const told = `${row.name}: ${row.ours} ${row.unit}, ${row.peerName} ${row.peer}, ratio ${row.ratio}`;
      return mark(markOf(row.peerName ?? ""), scale.at(row.ratio as number), y, told);
    });
    return [
      label(LEFT - 10, y + 4, cut(titleOf(first.name), 48), { "text-anchor": "end" }),
      ...marks,
      ...ratios,
    ].join("");
  });
  const words = { better: "ours costs less", worse: "ours costs more" };
  const content = [frame(scale, placed, words), heads(placed), ...body, ...legend];
  return picture(WIDTH, placed.height, "Cost beside the peers", content.join(""));
}

function heads({ heads: list }: Placed<unknown>): string {
  return list.map(({ title, y }) => label(14, y + 4, title, { class: "head" })).join("");
}

/** "4.2 ms", "12 %", "113 a second". */
export function withUnit(value: number, unit: Row["unit"]): string {
  const words = unit === "percent" ? "%" : unit.replace(/\bper second/, "a second");
  return `${figure(value)} ${words}`;
}

/** Two places, as far as they say something. */
export function ratioText(ratio: number): string {
  return ratio < 10 ? ratio.toFixed(2) : figure(ratio);
}

/** Three digits. */
export function figure(value: number): string {
  return value >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));
}

/** Everything with a budget: how much of it is used. */
export function budgetPlot(rows: readonly Row[]): string {
  // Beside several peers a measure stands there several times.
  const budgeted = [...groupBy(rows, ({ name }) => name).values()]
    .map(([first]) => first)
    .filter(({ budget }) => budget !== undefined);
  const placed = place(
    groupBy(budgeted, ({ name }) => benchOf(name)),
    TOP - 12,
  );
  const shares = budgeted.map((row) => Math.max(SHARE_MIN, budgetRatio(row) as number));
  const scale = logScale(shares, LEFT, RIGHT);
  const body = placed.items.map(({ item, y }) => {
    const share = Math.max(SHARE_MIN, budgetRatio(item) as number);
    const limit = item.unit.endsWith("per second") ? "at least" : "at most";
    const text = `${withUnit(item.ours, item.unit)}, ${limit} ${item.budget}`;
    const [one, x] = [scale.at(1), scale.at(share)];
    const colour = share > 1 ? "over" : "c1";
    const bar = { x: Math.min(one, x), y: y - 2, width: Math.abs(x - one), height: 4 };
    return [
      label(LEFT - 10, y + 4, cut(titleOf(item.name), 48), { "text-anchor": "end" }),
      element("rect", { ...bar, class: colour, opacity: "0.35" }),
      element("circle", { cx: x, cy: y, r: 4, class: colour }, tooltip(`${item.name}: ${text}`)),
      label(RIGHT + 12, y + 4, cut(text, 32), { class: "small" }),
    ].join("");
  });
  const words = { better: "within the budget", worse: "over it" };
  const content = [
    label(14, 24, "Share of the budget that is used", { class: "muted" }),
    frame(scale, placed, words),
    heads(placed),
    ...body,
  ];
  return picture(WIDTH, placed.height, "Figures beside their budgets", content.join(""));
}

/** Nothing used is drawn as this share. */
const SHARE_MIN = 0.01;

/** One figure over the runs: its ratio beside its first peer, or its share of the budget. */
interface Course {
  readonly name: string;
  readonly beside: string;
  readonly points: readonly { readonly value: number; readonly result: Result }[];
}

function coursesOf(results: readonly Result[]): Course[] {
  const all = results.flatMap((result) => result.measures.map((row) => ({ row, result })));
  const keyed = groupBy(
    all.filter(({ row }) => row.ratio !== undefined || row.budget !== undefined),
    ({ row }) => `${row.name}|${row.peerName ?? "its budget"}`,
  );
  return [...keyed].flatMap(([key, own]) => {
    const [name, beside] = key.split("|");
    const points = own.flatMap(({ row, result }) => {
      const value = row.ratio ?? budgetRatio(row);
      return value === undefined || value <= 0 ? [] : [{ value, result }];
    });
    return points.length > 1 ? [{ name, beside, points }] : [];
  });
}

const CELLS = 4;
const CELL_WIDTH = WIDTH / CELLS;
const CELL_HEIGHT = 112;

/** What was measured in more than one run, run by run. Nothing, when there is no such measure. */
export function historyPlot(results: readonly Result[]): string {
  const courses = coursesOf(results);
  if (courses.length === 0) return "";
  const cells = courses.map((course, index) => {
    const x = (index % CELLS) * CELL_WIDTH;
    const y = 40 + Math.floor(index / CELLS) * CELL_HEIGHT;
    return element("g", { transform: `translate(${x} ${y})` }, cell(course));
  });
  const legend =
    label(14, 20, "Cost beside a peer or the budget, run by run; the line is 1.") +
    label(14, 35, "Filled: the machine was quiet. Hollow: it was not, or nobody knows.", {
      class: "muted small",
    });
  const height = 48 + Math.ceil(courses.length / CELLS) * CELL_HEIGHT;
  return picture(WIDTH, height, "Figures over time", legend + cells.join(""));
}

function cell({ name, beside, points }: Course): string {
  const [left, right, top, bottom] = [16, CELL_WIDTH - 46, 46, CELL_HEIGHT - 18];
  const scale = logScale(
    points.map(({ value }) => value),
    bottom,
    top,
  );
  const x = (index: number) => left + (index * (right - left)) / Math.max(1, points.length - 1);
  const spots = points.map(({ value, result }, index) => {
    const isQuiet = result.conditions?.isQuiet === true;
    const told = `${result.date}: ${ratioText(value)} (${result.file})`;
    return mark(0, x(index), scale.at(value), told, isQuiet ? "" : " hollow");
  });
  const course = points.map(
    ({ value }, index) => `${x(index).toFixed(1)},${scale.at(value).toFixed(1)}`,
  );
  const last = points[points.length - 1];
  return [
    tooltip(`${name}, beside ${beside}`),
    label(left - 4, 16, cut(titleOf(name), 38), { class: "small" }),
    label(left - 4, 30, cut(`${benchOf(name)}, beside ${beside}`, 38), { class: "muted small" }),
    line(left, scale.at(1), right, scale.at(1), "one"),
    element("polyline", { points: course.join(" "), class: "path c1" }),
    ...spots,
    label(right + 8, scale.at(last.value) + 4, ratioText(last.value), { class: "small" }),
    label(left - 4, CELL_HEIGHT - 4, points[0].result.date, { class: "muted small" }),
    label(right + 4, CELL_HEIGHT - 4, last.result.date, {
      class: "muted small",
      "text-anchor": "end",
    }),
  ].join("");
}
