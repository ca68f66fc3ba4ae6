/**
 * Prints a result file as a Markdown table: `node bench/table.mjs bench/results/FILE.json`.
 */
import { readFileSync } from "node:fs";

const { measures } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const spread = (value, range) =>
  value === undefined ? "" : `${value} (${range[0]} to ${range[1]})`;
const rows = measures.map((measure) => [
  measure.name,
  measure.unit,
  spread(measure.ours, measure.oursSpread),
  measure.peerName ?? "",
  spread(measure.peer, measure.peerSpread),
  measure.ratio ?? "",
  measure.budget ?? "",
]);
const head = ["measure", "unit", "ours", "peer", "its figure", "ratio", "budget"];
for (const row of [head, head.map(() => "---"), ...rows]) console.log(`| ${row.join(" | ")} |`);
