/**
 * A recorded load: when microVMs arrived, how long they lived, and how large they were. docs/load.md has the
 * form. The whole file is checked before anything is started, line by line.
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { EstaloError, toEstaloError } from "../../errors.js";
import { TIMER_MS_MAX } from "../../units.js";

/** What one line says; what is absent is left to the options. */
export interface TraceLine {
  /** From the beginning of the trace. */
  readonly atMs: number;
  readonly lifeMs?: number;
  readonly memoryMib?: number;
  readonly vcpuCount?: number;
  /** So many arrive then. Default 1. */
  readonly weight?: number;
}

/** Lines of one trace; they are kept in memory. */
const LINES_MAX = 1_000_000;

interface Field {
  readonly min: number;
  readonly max: number;
  readonly isWhole: boolean;
}

const FIELDS: Readonly<Record<keyof TraceLine, Field>> = {
  atMs: { min: 0, max: TIMER_MS_MAX, isWhole: false },
  lifeMs: { min: 0, max: TIMER_MS_MAX, isWhole: false },
  memoryMib: { min: 1, max: 1_048_576, isWhole: true },
  vcpuCount: { min: 1, max: 32, isWhole: true },
  weight: { min: 1, max: 10_000, isWhole: true },
};
const NAMES = Object.keys(FIELDS).join(", ");

/** Reads and checks a trace; raises ERR_ESTALO_CONFIG_FILE, which names the line that is wrong. */
export async function readTrace(path: string): Promise<readonly TraceLine[]> {
  const input = createReadStream(path, "utf8");
  try {
    return await parseTrace(createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY }), path);
  } catch (error) {
    if (error instanceof EstaloError) throw error;
    throw new EstaloError("ERR_ESTALO_CONFIG_FILE", `${path}: ${toEstaloError(error).message}`, {
      data: { file: path },
      cause: error,
    });
  } finally {
    input.destroy();
  }
}

/** The trace of these lines: CSV with a header, or JSON Lines when the first one is an object. */
export async function parseTrace(
  lines: AsyncIterable<string> | Iterable<string>,
  file: string,
): Promise<readonly TraceLine[]> {
  const trace: TraceLine[] = [];
  let parse: ((line: string) => Record<string, unknown>) | undefined;
  let number = 0;
  for await (const raw of lines) {
    number++;
    const line = (number === 1 ? raw.replace(/^\ufeff/, "") : raw).trim();
    if (line === "" || line.startsWith("#")) continue;
    try {
      if (parse === undefined) {
        const isJson = line.startsWith("{");
        parse = isJson ? jsonLine : csvParser(line);
        if (!isJson) continue;
      }
      trace.push(checked(parse(line), trace.at(-1)));
      if (trace.length > LINES_MAX) throw new Wrong(`a trace has at most ${LINES_MAX} arrivals`);
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      throw new EstaloError("ERR_ESTALO_CONFIG_FILE", `${file}:${number}: ${error.message}`, {
        data: { file, line: number },
        hint: "docs/load.md has the form of a trace",
      });
    }
  }
  if (trace.length > 0) return trace;
  throw new EstaloError("ERR_ESTALO_CONFIG_FILE", `${file}: there is no arrival in it`, {
    data: { file },
    hint: "docs/load.md has the form of a trace",
  });
}

/** What is wrong with a line, without its place. */
class Wrong extends Error {}

function jsonLine(line: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new Wrong(`this is not JSON: ${(error as Error).message}`);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new Wrong("a line is an object");
}

function csvParser(header: string): (line: string) => Record<string, unknown> {
  const names = header.split(",").map((name) => name.trim());
  for (const name of names) checkName(name);
  if (new Set(names).size < names.length) throw new Wrong("a column is named twice");
  return (line) => {
    const cells = line.split(",").map((cell) => cell.trim());
    if (cells.length !== names.length) {
      throw new Wrong(`expected ${names.length} columns, got ${cells.length}`);
    }
    const values = names.map((name, index): [string, unknown] => [name, decimal(cells[index])]);
    return Object.fromEntries(values.filter(([, value]) => value !== undefined));
  };
}

/** A cell's number, nothing when it is empty, or the cell, for the message. */
function decimal(cell: string): number | string | undefined {
  if (cell === "") return undefined;
  return /^[0-9]+(\.[0-9]+)?$/.test(cell) ? Number(cell) : cell;
}

function checkName(name: string): asserts name is keyof TraceLine {
  if (Object.hasOwn(FIELDS, name)) return;
  throw new Wrong(`there is no field ${JSON.stringify(name)}; fields are ${NAMES}`);
}

function checked(values: Record<string, unknown>, before: TraceLine | undefined): TraceLine {
  for (const [name, value] of Object.entries(values)) {
    checkName(name);
    const { min, max, isWhole } = FIELDS[name];
    const isNumber = typeof value === "number" && (!isWhole || Number.isInteger(value));
    if (isNumber && value >= min && value <= max) continue;
    const kind = isWhole ? "a whole number" : "a number";
    throw new Wrong(`${name} is ${kind} from ${min} to ${max}, not ${JSON.stringify(value)}`);
  }
  const line = values as unknown as TraceLine;
  if (line.atMs === undefined) throw new Wrong("atMs is missing");
  if (before !== undefined && line.atMs < before.atMs) {
    throw new Wrong(`atMs goes back, from ${before.atMs} to ${line.atMs}`);
  }
  return line;
}
