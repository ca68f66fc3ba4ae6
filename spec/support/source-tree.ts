/** The checkout's sources as text: files, imports, code without comments. Plain scanning, no compiler. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCES = /\.(ts|c|cc|h|mjs|js|sh)$/;

/** Paths of the source files below a folder, relative to the checkout, sorted. */
export function sourceFiles(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && SOURCES.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(ROOT.length))
    .sort();
}

export function readSource(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** The text without block comments and without lines that are comments, line numbers unchanged. */
export function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ""))
    .replace(/^\s*\/\/.*$/gm, "");
}

/** One import or re-export. */
export interface ImportOf {
  /** The importing file. */
  readonly from: string;
  /** The file imported, or a package's name as it is written. */
  readonly to: string;
  readonly isType: boolean;
  readonly isPackage: boolean;
}

const STATEMENT =
  /^\s*(?:import|export)\s+(type\s)?[^;"]*?from\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/gm;

/** Every import of a TypeScript file, `import type` and `import()` too. */
export function importsOf(from: string): ImportOf[] {
  return [...withoutComments(readSource(from)).matchAll(STATEMENT)].map((match) => {
    const target = match[2] ?? match[3];
    const isPackage = !target.startsWith(".");
    const to = isPackage ? target : normalize(join(dirname(from), target)).replace(/\.js$/, ".ts");
    return { from, to, isType: match[1] !== undefined, isPackage };
  });
}

/** The first cycle among files, each with the files it leads to; `undefined` when there is none. */
export function findCycle(next: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    for (const target of next.get(file) ?? []) {
      const cycle = visit(target, [...path, file]);
      if (cycle !== undefined) return cycle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of next.keys()) {
    const cycle = visit(file, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

/** Functions and methods with a body of more than `maxLines` lines, as "path:line (lines)". */
export function longFunctions(path: string, maxLines: number): string[] {
  const lines = readSource(path).split("\n");
  return lines.flatMap((line, start) => {
    // The formatter's shape: a signature's last line, and the brace that closes it at the same indent.
    const indent = /^( {0,2})(?:\S.*)?\)(?:: [^=]+| =>)? \{$/.exec(line)?.[1];
    if (indent === undefined) return [];
    const length = lines.slice(start).findIndex((other) => other.startsWith(`${indent}}`));
    return length > maxLines ? [`${path}:${start + 1} (${length} lines)`] : [];
  });
}
