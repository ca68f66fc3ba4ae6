/**
 * A small writer of SVG: elements as text, scales, and the colours of all plots, light and dark. Pictures stand
 * alone in a document and follow the reader's colour scheme in a page of ours alike.
 */

/** Values of attributes; `undefined` leaves one out. */
export type Attributes = Readonly<Record<string, string | number | undefined>>;

export function escapeXml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** A number as short as a picture needs. */
const short = (value: number) => String(Math.round(value * 100) / 100);

export function element(name: string, attributes: Attributes, content = ""): string {
  const written = Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined
      ? []
      : [` ${key}="${typeof value === "number" ? short(value) : escapeXml(value)}"`],
  );
  return `<${name}${written.join("")}${content === "" ? "/>" : `>${content}</${name}>`}`;
}

/** Text at a place; `title` is shown when a mouse points at it. */
export function label(x: number, y: number, text: string, attributes: Attributes = {}): string {
  return element("text", { x, y, ...attributes }, escapeXml(text));
}

export function line(x1: number, y1: number, x2: number, y2: number, name: string): string {
  return element("line", { x1, y1, x2, y2, class: name });
}

/** A text that is at most so long; its end is cut. */
export function cut(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, characters - 1).trimEnd()}…`;
}

/** What a mouse is told. */
export function tooltip(text: string): string {
  return element("title", {}, escapeXml(text));
}

const COLOURS = {
  paper: ["#ffffff", "#14171c"],
  ink: ["#1d232b", "#e4e8ee"],
  muted: ["#68717d", "#98a2b0"],
  grid: ["#e6e9ed", "#2a3039"],
  behind: ["#fdf3ee", "#241c1a"],
  over: ["#c8442b", "#ff8a6b"],
  c1: ["#2563b8", "#6ea8ff"],
  c2: ["#d07a00", "#f2b04a"],
  c3: ["#12866f", "#45c9ad"],
  c4: ["#8a4fb5", "#c697ea"],
  c5: ["#68717d", "#98a2b0"],
} as const;

const variables = (index: 0 | 1) =>
  Object.entries(COLOURS)
    .map(([name, pair]) => `--${name}:${pair[index]}`)
    .join(";");

/** Style of pictures and page. */
export const COLOUR_STYLE =
  `:root{color-scheme:light dark;${variables(0)}}` +
  `@media(prefers-color-scheme:dark){:root{${variables(1)}}}`;

const PLOT_STYLE =
  `.plot text{font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;fill:var(--ink)}` +
  ".plot .head{font-weight:600;font-size:13px}.plot .muted{fill:var(--muted)}" +
  ".plot .small{font-size:11px}.plot .paper{fill:var(--paper)}.plot .zone{fill:var(--behind)}" +
  ".plot .grid{stroke:var(--grid)}.plot .one{stroke:var(--ink);stroke-width:1.5}" +
  ".plot .over{fill:var(--over);stroke:var(--over)}" +
  ".plot .hollow{fill:var(--paper)}.plot .path{fill:none;stroke-width:1.5}" +
  [1, 2, 3, 4, 5].map((n) => `.plot .c${n}{fill:var(--c${n});stroke:var(--c${n})}`).join("") +
  [1, 2, 3, 4, 5].map((n) => `.plot .hollow.c${n}{fill:var(--paper)}`).join("") +
  ".plot .path.c1,.plot .path.c2,.plot .path.c3,.plot .path.c4,.plot .path.c5{fill:none}";

/** A whole picture. */
export function picture(width: number, height: number, title: string, content: string): string {
  const size = { width, height, viewBox: `0 0 ${width} ${height}` };
  return element(
    "svg",
    { xmlns: "http://www.w3.org/2000/svg", ...size, class: "plot", role: "img" },
    tooltip(title) +
      element("style", {}, COLOUR_STYLE + PLOT_STYLE) +
      element("rect", { width, height, class: "paper" }) +
      content,
  );
}

/** Marks that differ by form as well as by colour. */
const MARKS = [
  (x: number, y: number) => ({ name: "circle", at: { cx: x, cy: y, r: 4 } }),
  (x: number, y: number) => ({
    name: "rect",
    at: { x: x - 3.7, y: y - 3.7, width: 7.4, height: 7.4 },
  }),
  (x: number, y: number) => ({
    name: "path",
    at: { d: path([x, y - 5], [x + 4.7, y + 3.7], [x - 4.7, y + 3.7]) },
  }),
  (x: number, y: number) => ({
    name: "path",
    at: { d: path([x, y - 5], [x + 5, y], [x, y + 5], [x - 5, y]) },
  }),
  (x: number, y: number) => ({
    name: "path",
    at: { d: path([x - 4.7, y - 3.7], [x + 4.7, y - 3.7], [x, y + 5]) },
  }),
] as const;

function path(...points: readonly (readonly [number, number])[]): string {
  return `M${points.map(([x, y]) => `${short(x)} ${short(y)}`).join("L")}Z`;
}

/** The n-th mark, from 0, with what a mouse is told. */
export function mark(n: number, x: number, y: number, told: string, more = ""): string {
  const { name, at } = MARKS[n % MARKS.length](x, y);
  return element(name, { ...at, class: `c${(n % MARKS.length) + 1}${more}` }, tooltip(told));
}

/** A logarithmic scale with its ticks: 1, 2 and 5 times powers of ten. */
export interface LogScale {
  readonly at: (value: number) => number;
  readonly ticks: readonly number[];
}

/** From `from` to `to` pixels for all values and 1; ticks thin out when there are many decades. */
export function logScale(values: readonly number[], from: number, to: number): LogScale {
  const positive = [1, ...values.filter((value) => value > 0)];
  const low = Math.log10(Math.min(...positive) * 0.85);
  const high = Math.log10(Math.max(...positive) * 1.18);
  const at = (value: number) => {
    const part = (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low);
    return from + part * (to - from);
  };
  const steps = high - low > 2.5 ? [1] : high - low > 1.3 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const ticks: number[] = [];
  for (let decade = Math.floor(low); decade <= high; decade++) {
    for (const step of steps) {
      const value = Number((step * 10 ** decade).toPrecision(3));
      if (Math.log10(value) >= low && Math.log10(value) <= high) ticks.push(value);
    }
  }
  return { at, ticks };
}
