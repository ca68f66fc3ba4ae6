/**
 * The tables: the headlines for README.md, and everything, as Markdown and as HTML.
 */
import { benchOf, type HostView, type Result, type Row, titleOf } from "../results.js";
import { figure, ratioText, withUnit } from "./plots.js";
import { escapeXml } from "./svg.js";

/** What README.md shows, as far as it was measured: the beginning of a measure's name, and how it is called. */
const HEADLINES: readonly (readonly [string, string])[] = [
  ["start: cold, spawn to first instruction", "cold start, spawn to the guest's first instruction"],
  ["start: cold, spawn to Linux init", "cold start, spawn to Linux' init"],
  [
    "start: warm, create to first instruction, p50",
    "start in a running process, to the first instruction",
  ],
  ["start: started and killed in a second of CPU", "started and killed in a second of CPU"],
  ["memory: each of 50 in one process", "memory of each of 50 in one process, besides the guest's"],
  ["memory: each further, paused", "the same, paused"],
  ["memory: each of 5 in processes of their own", "memory of each of 5 in a process of its own"],
  ["vmm: spawn to the API's first answer", "`estalo vmm`, spawn to its API's first answer"],
  ["exit: MMIO read, ring 0, p50", "exit: MMIO read"],
  ["exit: port write, p50", "exit: port write"],
  ["trace: a record, nobody watches", "a trace record"],
  ["queue: depth 1, doorbell to interrupt, p50", "doorbell to interrupt, depth 1"],
  ["queue: depth 32, doorbell to interrupt, p50", "doorbell to interrupt, depth 32"],
  ["disk: ", "disk"],
  ["network: ", "network"],
  ["vsock: ", "vsock"],
];

/** How many of one headline at most: a bench of devices has dozens of measures. */
const EACH_MAX = 6;

function spread(value: number | undefined, range: readonly [number, number] | undefined): string {
  if (value === undefined || range === undefined) return "";
  return `${figure(value)} (${figure(range[0])} to ${figure(range[1])})`;
}

function markdown(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows;
  const lines = [head, head.map(() => "---"), ...body];
  return `${lines.map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`).join("\n")}\n`;
}

/** Peers of one measure in one row, the nearest to us last. */
function withPeers(rows: readonly Row[]): { readonly peer: string; readonly ratio: string } {
  const compared = rows.filter(({ ratio }) => ratio !== undefined);
  return {
    peer: compared.map(({ peerName, peer }) => `${peerName} ${figure(peer as number)}`).join("; "),
    ratio: compared.map(({ ratio }) => ratioText(ratio as number)).join("; "),
  };
}

/** The peers of each figure together; a measure may have one in operations and one in bytes. */
function byFigure(rows: readonly Row[]): Row[][] {
  const key = ({ name, unit }: Row) => `${name} ${unit}`;
  return [...new Set(rows.map(key))].map((wanted) => rows.filter((row) => key(row) === wanted));
}

/** The table of README.md. */
export function headlineTable({ rows }: HostView): string {
  const measures = byFigure(rows);
  const lines = HEADLINES.flatMap(([start, title]) => {
    const found = measures.filter(([{ name, ratio, budget }]) => {
      return name.startsWith(start) && (ratio ?? budget) !== undefined;
    });
    const isWhole = !start.endsWith(": ");
    const best = found.filter(
      ([{ name }], index) =>
        isWhole ||
        (!/, p99|CPU time/.test(name) && found.findIndex(([it]) => it.name === name) === index),
    );
    return best.slice(0, isWhole ? 1 : EACH_MAX).map((own) => {
      const [{ name, ours, unit, budget }] = own;
      const { peer, ratio } = withPeers(own);
      const what = isWhole ? title : `${title}: ${titleOf(name)}`;
      return [what, withUnit(ours, unit), peer, ratio, budget === undefined ? "" : String(budget)];
    });
  });
  return markdown([["measure", "ours", "peer", "ratio", "budget"], ...lines]);
}

/** What a reader should know of a run, in one line. */
export function conditionsText(result: Result): string {
  const { date, host, conditions, version, peers } = result;
  const machine = `${host.cores} cores of ${host.cpu}, ${host.memoryGib} GiB, Linux ${host.linux}, Node.js ${host.node}, ${host.kvm}`;
  const load =
    conditions === undefined
      ? "nobody noted whether the machine was quiet"
      : `${conditions.isQuiet ? "a quiet machine" : "other work on the machine"}: ` +
        `${conditions.busyPercent.start} % of its processors busy before, ${conditions.busyPercent.end} % after, ` +
        `load average ${conditions.loadAverage.start[0]} and ${conditions.loadAverage.end[0]}`;
  const took = Object.entries(peers ?? {}).map(([name, text]) => `${name}: ${text}`);
  const benches = [...new Set(result.measures.map(({ name }) => benchOf(name)))].join(", ");
  const failed = (result.failures ?? []).map(
    ({ bench, message }) => `${bench} could not run: ${message}`,
  );
  return [
    `${date} (${benches}): ${machine}`,
    ...(version === undefined ? [] : [`Estalo ${version}`]),
    load,
    ...took,
    ...failed,
  ].join("; ");
}

/** The runs of a view in a line, for who wants the figures first. */
export function runsText({ title, rows }: HostView): string {
  const runs = [...new Set(rows.map(({ result }) => result))].sort((a, b) =>
    a.date < b.date ? -1 : 1,
  );
  const told = runs.map(({ date, conditions }) => {
    if (conditions === undefined) return `${date} (load not noted)`;
    return conditions.isQuiet ? `${date} (quiet)` : `${date} (with other work on the machine)`;
  });
  const emulated = title.endsWith("kvm_pvm") ? ", whose KVM emulates the guest's kernel mode" : "";
  return `On ${title}${emulated}: ${[...new Set(told)].join(", ")}.\n`;
}

/** Everything, one section for each bench. */
export function fullTables({ rows }: HostView): string {
  const benches = [...new Set(rows.map(({ name }) => benchOf(name)))];
  return benches
    .map((bench) => {
      const own = byFigure(rows.filter(({ name }) => benchOf(name) === bench));
      const lines = own.map((measure) => {
        const [{ name, unit, ours, oursSpread, budget }] = measure;
        const { ratio } = withPeers(measure);
        const peer = measure
          .filter((row) => row.peer !== undefined)
          .map((row) => `${row.peerName} ${spread(row.peer, row.peerSpread)}`)
          .join("; ");
        const limit = budget === undefined ? "" : String(budget);
        return [titleOf(name), unit, spread(ours, oursSpread), peer, ratio, limit];
      });
      const head = ["measure", "unit", "ours", "peer", "ratio", "budget"];
      const { date } = own[0][0].result;
      return `### ${bench} (${date})\n\n${markdown([head, ...lines])}`;
    })
    .join("\n");
}

/** The same for the page. */
export function htmlTable({ rows }: HostView): string {
  const lines = byFigure(rows).map((measure) => {
    const [{ name, unit, ours, oursSpread, budget, result }] = measure;
    const { ratio } = withPeers(measure);
    const peer = measure
      .filter((row) => row.peer !== undefined)
      .map((row) => `${row.peerName} ${spread(row.peer, row.peerSpread)}`);
    const cells = [
      escapeXml(name),
      spread(ours, oursSpread),
      unit,
      peer.map(escapeXml).join("<br>"),
    ];
    const more = [ratio.replaceAll("; ", "<br>"), budget ?? "", result.date];
    return `<tr>${[...cells, ...more].map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  });
  const head = ["measure", "ours", "unit", "peer", "ratio", "budget", "run"];
  return `<table><thead><tr>${head.map((name) => `<th>${name}</th>`).join("")}</tr></thead><tbody>
${lines.join("\n")}
</tbody></table>`;
}
