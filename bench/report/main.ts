/**
 * Everything that is made from the result files, as files: the page, its pictures, the tables. Written, or with
 * `--check` compared with what is there.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readResults, viewsOf } from "../results.js";
import { pageOf } from "./page.js";
import { budgetPlot, historyPlot, ratioPlot } from "./plots.js";
import { conditionsText, fullTables, headlineTable, runsText } from "./tables.js";

const BEGIN = "<!-- benchmarks: made by node bench/table.mjs -->";
const END = "<!-- /benchmarks -->";

/** `text` with `content` between the markers. */
export function between(text: string, content: string, file: string): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${file} has no lines ${BEGIN} and ${END}`);
  return `${text.slice(0, begin + BEGIN.length)}\n${content}${text.slice(end)}`;
}

/** What the files are to be, by their names from `root`. */
export function reportFiles(root: string): ReadonlyMap<string, string> {
  const results = readResults(join(root, "bench/results"));
  const views = viewsOf(results);
  const [newest] = views;
  if (newest === undefined) throw new Error("there is no result file in bench/results");
  const runs = newest.results.filter((result) => newest.rows.some((row) => row.result === result));
  const history = historyPlot(results);
  const list = runs.map((result) => `- ${conditionsText(result)}\n`).reverse();
  const readme = readFileSync(join(root, "README.md"), "utf8");
  return new Map([
    ["bench/results/index.html", pageOf(views, results)],
    ["bench/results/ratios.svg", `${ratioPlot(newest.rows)}\n`],
    ["bench/results/budgets.svg", `${budgetPlot(newest.rows)}\n`],
    ...(history === "" ? [] : ([["bench/results/history.svg", `${history}\n`]] as const)),
    ["bench/results/README.md", resultsReadme(list.join(""), fullTables(newest), history !== "")],
    [
      "README.md",
      between(readme, `\n${runsText(newest)}\n${headlineTable(newest)}\n`, "README.md"),
    ],
  ]);
}

function resultsReadme(runs: string, tables: string, hasHistory: boolean): string {
  return `# Results

Made by \`node bench/table.mjs\` from the files in this folder; [../README.md](../README.md) tells how they are measured and
what stands out. [index.html](index.html) has the same as a page, with older machines.

${runs}
A ratio is cost, ours over the peer's: 1 or less is not behind. Figures are medians of the rounds, in brackets the least
and the greatest.

![Cost beside the peers](ratios.svg)

![Figures beside their budgets](budgets.svg)
${hasHistory ? "\n![Figures over time](history.svg)\n" : ""}
${tables}`;
}

/** Writes what differs; with `check` names it instead. Gives the names. */
export function report(root: string, check: boolean): string[] {
  const different = [...reportFiles(root)].filter(([file, text]) => {
    try {
      return readFileSync(join(root, file), "utf8") !== text;
    } catch {
      return true;
    }
  });
  if (!check) for (const [file, text] of different) writeFileSync(join(root, file), text);
  return different.map(([file]) => file);
}
