/**
 * Tables, ages, sizes and colours for people. What comes from a server is shown without anything that a
 * terminal would obey.
 */

/** A column of a table. */
export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string;
  /** Numbers stand at the right. */
  readonly isNumber?: boolean;
  /** An SGR number; absent or undefined: plain. */
  readonly colour?: (row: Row) => number | undefined;
}

const GAP = "   ";

/** A table with its titles, one line a row. */
export function tableText<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  isColoured = false,
): string {
  const cells = rows.map((row) => columns.map(({ cell }) => printable(cell(row))));
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...cells.map((line) => line[index].length)),
  );
  const line = (texts: readonly string[], row?: Row) =>
    texts
      .map((text, index) => {
        const { isNumber, colour } = columns[index];
        const isLast = index === columns.length - 1 && !isNumber;
        const width = isLast ? 0 : widths[index];
        const padded = isNumber ? text.padStart(width) : text.padEnd(width);
        const sgr = row === undefined || !isColoured ? undefined : colour?.(row);
        return sgr === undefined ? padded : `\x1b[${sgr}m${padded}\x1b[0m`;
      })
      .join(GAP)
      .trimEnd();
  const lines = [line(columns.map(({ title }) => title))];
  rows.forEach((row, index) => {
    lines.push(line(cells[index], row));
  });
  return `${lines.join("\n")}\n`;
}

/** Text without control characters. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "\ufffd");
}

/** NO_COLOR counts when it is not empty (no-color.org). */
export function wantsColours(stream: { readonly isTTY?: boolean }): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR;
}

const UNITS: readonly (readonly [string, number])[] = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1000],
];

/** A time span in its largest unit: "3 minutes". */
export function span(ms: number): string {
  for (const [unit, unitMs] of UNITS) {
    const count = Math.floor(ms / unitMs);
    if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"}`;
  }
  return "less than a second";
}

/** Bytes with a binary prefix: "1.5 MiB". */
export function size(bytes: number): string {
  const prefixes = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let index = 0;
  while (value >= 1024 && index < prefixes.length - 1) {
    value /= 1024;
    index++;
  }
  return `${index === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${prefixes[index]}`;
}
