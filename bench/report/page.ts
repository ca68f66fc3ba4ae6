/**
 * The page: pictures, runs and the table of everything, in one file that needs no other.
 */
import type { HostView, Result } from "../results.js";
import { budgetPlot, historyPlot, ratioPlot } from "./plots.js";
import { COLOUR_STYLE, escapeXml } from "./svg.js";
import { conditionsText, htmlTable } from "./tables.js";

const PAGE_STYLE = `
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:980px;margin:0 auto;padding:24px 16px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 4px}h3{font-size:16px;margin:28px 0 4px}
p,li{max-width:75ch}.muted{color:var(--muted)}
.wide{overflow-x:auto}svg{max-width:100%;height:auto;display:block}
table{border-collapse:collapse;font-size:13px;width:100%}
th{text-align:left;border-bottom:2px solid var(--grid);padding:4px 8px 4px 0;position:sticky;top:0;background:var(--paper)}
td{border-bottom:1px solid var(--grid);padding:4px 8px 4px 0;vertical-align:top;font-variant-numeric:tabular-nums;white-space:nowrap}
td:first-child{white-space:normal;min-width:14em}
@media(max-width:700px){svg{max-width:none;width:960px}}
`;

function hostSection(view: HostView): string {
  const used = view.results.filter((result) => view.rows.some((row) => row.result === result));
  const runs = used.map((result) => `<li>${escapeXml(conditionsText(result))}</li>`).reverse();
  return `<h2>${escapeXml(view.title)}</h2>
<ul class="muted">
${runs.join("\n")}
</ul>
<h3>Cost beside the peers</h3>
<p>Ours over the peer's, in one run and in turn: 1 or less is not behind. Point at a mark for its figures.</p>
<div class="wide">${ratioPlot(view.rows)}</div>
<h3>Beside the budgets</h3>
<p>Budgets are for ordinary hardware with hardware KVM; kvm_pvm emulates the guest's kernel mode.</p>
<div class="wide">${budgetPlot(view.rows)}</div>
<h3>Everything</h3>
<p>Medians of the rounds, in brackets the least and the greatest.</p>
<div class="wide">${htmlTable(view)}</div>`;
}

/** The whole page. */
export function pageOf(views: readonly HostView[], results: readonly Result[]): string {
  const history = historyPlot(results);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Estalo's benchmarks</title>
<style>${COLOUR_STYLE}${PAGE_STYLE}</style>
</head>
<body>
<main>
<h1>Estalo's benchmarks</h1>
<p class="muted">Made from the result files beside it by <code>node bench/table.mjs</code>; bench/README.md tells how they are measured.</p>
${views.map(hostSection).join("\n")}
${history === "" ? "" : `<h2>Over time</h2>\n<div class="wide">${history}</div>`}
</main>
</body>
</html>
`;
}
