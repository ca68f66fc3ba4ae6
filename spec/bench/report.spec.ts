/**
 * What is made from the benches' result files: that it is up to date, that it shows what they say, and that every
 * bench is run.
 */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { conditionsOf, lookAround, peerVersions } from "../../bench/conditions.js";
import type { Measure } from "../../bench/harness.js";
import { between, report } from "../../bench/report/main.js";
import { budgetPlot, historyPlot, ratioPlot } from "../../bench/report/plots.js";
import { logScale } from "../../bench/report/svg.js";
import { fullTables, headlineTable, runsText } from "../../bench/report/tables.js";
import {
  budgetRatio,
  type Result,
  type ResultFile,
  readResults,
  viewsOf,
} from "../../bench/results.js";

const ROOT = new URL("../..", import.meta.url).pathname;
const HOST = { cpu: "C", cores: 2, memoryGib: 4, linux: "6.1", node: "v20", kvm: "kvm_amd" };

function measure(name: string, ours: number, more: Partial<Measure> = {}): Measure {
  return { name, unit: "us", ours, oursSpread: [ours, ours], rounds: 1, ...more };
}

function beside(name: string, ours: number, peer: number, peerName = "bare C loop"): Measure {
  return measure(name, ours, { peer, peerSpread: [peer, peer], peerName, ratio: ours / peer });
}

function result(date: string, measures: readonly Measure[], more: Partial<Result> = {}): Result {
  return { file: `${date}.json`, host: HOST, date, measures, ...more };
}

describe("page, pictures and tables of this checkout", () => {
  it("are what its result files say: node bench/table.mjs makes them again", () => {
    expect(report(ROOT, true)).toEqual([]);
  });
});

describe("a report", () => {
  let root: string;
  const write = (file: string, text: string) => writeFileSync(join(root, file), text);
  const read = (file: string) => readFileSync(join(root, file), "utf8");
  const kept = (file: string, value: ResultFile) =>
    write(`bench/results/${file}`, JSON.stringify(value));

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "estalo-report-"));
    mkdirSync(join(root, "bench/results"), { recursive: true });
    cpSync(join(ROOT, "README.md"), join(root, "README.md"));
    const name = "start: warm, create to first instruction, p50";
    kept("a.json", { host: HOST, date: "2026-01-01", measures: [beside(name, 3, 2)] });
  });
  afterEach(() => rmSync(root, { recursive: true }));

  it("is written once, checked without a change, and out of date when a figure changes", () => {
    const files = ["index.html", "ratios.svg", "budgets.svg", "README.md"];
    const all = [...files.map((file) => `bench/results/${file}`), "README.md"];
    expect(report(root, true)).toEqual(all);
    expect(report(root, false)).toEqual(all);
    expect(report(root, false)).toEqual([]);
    expect(read("README.md")).toContain("to the first instruction | 3 us | bare C loop 2 | 1.50 |");
    const name = "start: warm, create to first instruction, p50";
    kept("b.json", { host: HOST, date: "2026-01-02", measures: [beside(name, 4, 2)] });
    // Two runs have a history; budgets there are none.
    const changed = [...all.slice(0, 2), "bench/results/history.svg", ...all.slice(3)];
    expect(report(root, true)).toEqual(changed);
    report(root, false);
    expect(read("README.md")).toContain("| 4 us | bare C loop 2 | 2.00 |");
  });

  it("wants its markers, its files whole, and one at least", () => {
    expect(() => between("no markers", "x", "README.md")).toThrow("README.md has no lines");
    write(
      "bench/results/c.json",
      JSON.stringify({ host: HOST, date: "2026-01-01", measures: [{}] }),
    );
    expect(() => report(root, true)).toThrow("c.json is not a result file");
    rmSync(join(root, "bench/results"), { recursive: true });
    mkdirSync(join(root, "bench/results"));
    expect(() => report(root, true)).toThrow("no result file");
  });

  it("says of each file when it was, what took part, and whether the machine was quiet", () => {
    const look = { at: "2026-01-03T00:00:00.000Z", busyPercent: 2, loadAverage: [0.1, 0, 0] };
    kept("d.json", {
      host: HOST,
      date: "2026-01-03",
      version: "0.1.0 (abc)",
      conditions: conditionsOf(look, look),
      peers: { qemu: "QEMU 9" },
      failures: [{ bench: "disk", message: "no space" }],
      measures: [beside("exit: port write, p50", 1, 1)],
    });
    report(root, false);
    expect(read("bench/results/README.md")).toContain(
      "- 2026-01-03 (exit): 2 cores of C, 4 GiB, Linux 6.1, Node.js v20, kvm_amd; Estalo 0.1.0 (abc); " +
        "a quiet machine: 2 % of its processors busy before, 2 % after, load average 0.1 and 0.1; " +
        "qemu: QEMU 9; disk could not run: no space\n",
    );
    expect(read("README.md")).toContain("2026-01-01 (load not noted), 2026-01-03 (quiet)");
  });
});

describe("several result files", () => {
  const old = result("2026-01-01", [
    beside("exit: a", 1, 1),
    beside("exit: gone", 1, 1),
    measure("memory: m", 1),
  ]);
  const later = result("2026-01-02", [beside("exit: a", 2, 1)]);

  it("are one view: of every bench the newest run, whole", () => {
    const [{ rows }] = viewsOf([old, later]);
    expect(rows.map(({ name, ours, result: { date } }) => [name, ours, date])).toEqual([
      ["memory: m", 1, "2026-01-01"],
      ["exit: a", 2, "2026-01-02"],
    ]);
  });

  it("are read from the oldest to the newest, by when they were finished", () => {
    const dates = readResults(join(ROOT, "bench/results")).map(({ date }) => date);
    expect(dates).toEqual([...dates].sort());
  });

  it("of different machines are not mixed; the machine of the newest comes first", () => {
    const other = result("2026-01-03", [measure("memory: m", 9)], {
      host: { ...HOST, kvm: "kvm_pvm" },
    });
    const views = viewsOf([old, later, other]);
    expect(views.map(({ title }) => title)).toEqual(["C, 2 cores, kvm_pvm", "C, 2 cores, kvm_amd"]);
    expect(views[0].rows).toHaveLength(1);
    expect(runsText(views[0])).toContain("whose KVM emulates the guest's kernel mode");
  });
});

describe("pictures", () => {
  const rows = viewsOf([
    result("2026-01-01", [
      beside("exit: <a> & b", 3, 2),
      beside("exit: <a> & b", 3, 4, "qemu microvm"),
      measure("start: s", 4, { budget: 5 }),
      measure("start: rate", 100, { unit: "per second", budget: 50 }),
      measure("trace: lost", 0, { unit: "percent", budget: 5 }),
    ]),
  ])[0].rows;

  it("show every ratio with its peer's mark, and say the figures", () => {
    const svg = ratioPlot(rows);
    expect(svg).toContain(">1.50<");
    expect(svg).toContain(">0.75<");
    expect(svg).toContain("exit: &lt;a&gt; &amp; b: 3 us, qemu microvm 4, ratio 0.75");
    expect(svg).not.toContain("<a>");
    expect(svg).toContain("prefers-color-scheme:dark");
  });

  it("show how much of a budget is used, and nothing used, too", () => {
    expect(rows.map(budgetRatio)).toEqual([0.8, 0.5, undefined, undefined, 0]);
    const svg = budgetPlot(rows);
    expect(svg).toContain("4 us, at most 5");
    expect(svg).toContain("100 a second, at least 50");
    expect(svg).toContain("0 %, at most 5");
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  it("show what was measured more than once over time, hollow where the machine was not quiet", () => {
    const look = { at: "", busyPercent: 0, loadAverage: [0, 0, 0] };
    const quiet = result("2026-01-02", [beside("exit: a", 1, 1)], {
      conditions: conditionsOf(look, look),
    });
    expect(historyPlot([quiet])).toBe("");
    const svg = historyPlot([result("2026-01-01", [beside("exit: a", 2, 1)]), quiet]);
    expect(svg.match(/class="c1 hollow"/g)).toHaveLength(1);
    expect(svg.match(/class="c1"/g)).toHaveLength(1);
    expect(svg).toContain("2026-01-01: 2.00");
  });

  it("have scales on which 1 always is, and few ticks", () => {
    for (const values of [[1], [0.9, 1.1], [5, 9], [0.001, 2000]]) {
      const { at, ticks } = logScale(values, 0, 100);
      for (const value of [...values, 1]) expect(at(value) >= 0 && at(value) <= 100).toBe(true);
      expect(ticks).toContain(1);
      expect(ticks.length).toBeLessThan(10);
    }
  });
});

describe("tables", () => {
  it("hold peers of one measure in one row", () => {
    const [view] = viewsOf([
      result("2026-01-01", [
        beside("exit: port write, p50", 2, 1),
        beside("exit: port write, p50", 2, 4, "qemu microvm"),
      ]),
    ]);
    expect(headlineTable(view).trim().split("\n").at(-1)).toBe(
      "| exit: port write | 2 us | bare C loop 1; qemu microvm 4 | 2.00; 0.50 |  |",
    );
    expect(fullTables(view)).toContain(
      "### exit (2026-01-01)\n\n| measure | unit | ours | peer | ratio | budget |",
    );
  });
});

describe("conditions", () => {
  it("are read off this machine", async () => {
    const look = await lookAround(true);
    expect(look.busyPercent).toBeGreaterThanOrEqual(0);
    expect(look.busyPercent).toBeLessThanOrEqual(100);
    expect(look.loadAverage).toHaveLength(3);
    expect(Object.values(peerVersions()).every((version) => /\d/.test(version))).toBe(true);
  });

  it("are quiet only when the machine was, before and after", () => {
    const at = (busyPercent: number) => ({ at: "t", busyPercent, loadAverage: [0, 0, 0] });
    expect(conditionsOf(at(3), at(9)).isQuiet).toBe(true);
    expect(conditionsOf(at(3), at(11)).isQuiet).toBe(false);
    expect(conditionsOf(at(50), at(1)).isQuiet).toBe(false);
  });
});

describe("npm run bench", () => {
  it("runs every bench that there is, and so does the smoke run of npm test", () => {
    const main = readFileSync(join(ROOT, "bench/main.ts"), "utf8");
    const benches = readdirSync(join(ROOT, "bench")).filter((file) => file.endsWith(".bench.ts"));
    expect(benches.length).toBeGreaterThan(9);
    for (const file of benches) {
      const [, name] = new RegExp(
        `import \\{ (\\w+) \\} from "./${file.replace(/ts$/, "js")}"`,
      ).exec(main) ?? [file];
      expect(main, `${file} is not among BENCHES`).toMatch(new RegExp(`^  \\w+: ${name},$`, "m"));
    }
    const test = readFileSync(join(ROOT, "scripts/test.mjs"), "utf8");
    expect(test).toContain('["bench/run.mjs", "--smoke"]');
  });
});
