/**
 * What the words of `estalo bench load` ask for, checked.
 */
import { randomInt } from "node:crypto";
import type { EstaloError } from "../../errors.js";
import { TIMER_MS_MAX } from "../../units.js";
import { helpHint, type ParsedArguments, usageError } from "../arguments.js";
import type { ArrivalOptions, LifeLength, MixEntry } from "./arrivals.js";
import { BENCH_VERB } from "./verb.js";

/** When a microVM counts as ready. */
export const READY_MARKS = ["started", "booted", "output", "exec"] as const;
export type ReadyMark = (typeof READY_MARKS)[number];

/** See the file's header. */
export interface LoadOptions extends Omit<ArrivalOptions, "trace"> {
  readonly traceFile: string | undefined;
  readonly ready: ReadyMark;
  readonly concurrency: number;
  readonly timeoutMs: number;
  readonly isGraceful: boolean;
  readonly seed: string;
  readonly maxFailures: { readonly value: number; readonly isPercent: boolean };
}

const RATE_MAX = 100_000;
const COUNT_MAX = 1_000_000_000;
const CONCURRENCY_MAX = 100_000;
const DURATION_MS = 30_000;
const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** The options of words taken apart; raises ERR_ESTALO_USAGE. */
export function loadOptions({ values, switches }: ParsedArguments): LoadOptions {
  const one = <T>(name: string, convert: (text: string, option: string) => T, otherwise: T): T => {
    const text = values.get(name)?.[0];
    return text === undefined ? otherwise : convert(text, `--${name}`);
  };
  const traceFile = values.get("trace")?.[0];
  if (traceFile !== undefined && values.has("rate")) {
    throw wrong("--rate and --trace do not go together: a trace has its own times");
  }
  if (traceFile === undefined && values.has("speed")) throw wrong("--speed is for --trace");
  const hasEnd = traceFile !== undefined || values.has("count");
  const isForeign = ["kernel", "initrd", "rootfs", "config-file"].some((name) => values.has(name));
  const hasMix = values.has("mix");
  return {
    traceFile,
    rate: one("rate", number(RATE_MAX), 1),
    speed: one("speed", number(1_000_000), 1),
    durationMs: one("duration", time, hasEnd ? Number.POSITIVE_INFINITY : DURATION_MS),
    count: one("count", whole(COUNT_MAX), Number.POSITIVE_INFINITY),
    life: one("life", lifeLength, { kind: "exponential", meanMs: 1000 }),
    mix: hasMix || !values.has("config-file") ? one("mix", mixOf, [DEFAULT_SIZE]) : [],
    ready: one("ready", readyMark, isForeign ? "output" : "booted"),
    concurrency: one("concurrency", whole(CONCURRENCY_MAX), 50),
    timeoutMs: one("timeout", time, 60_000),
    isGraceful: switches.has("graceful"),
    seed: values.get("seed")?.[0] ?? String(randomInt(2 ** 32)),
    maxFailures: one("max-failures", failureLimit, { value: 0, isPercent: false }),
  };
}

const DEFAULT_SIZE: MixEntry = { memoryMib: 128, vcpuCount: 1, weight: 1 };

/** `200ms`, `1.5s`, `10m`, `1h`. */
function time(text: string, option: string): number {
  const [, digits, unit] = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)$/.exec(text) ?? [];
  const ms = Number(digits) * UNITS_MS[unit];
  if (ms > 0 && ms <= TIMER_MS_MAX) return ms;
  throw wrong(`${option} is a time as 200ms, 1.5s, 10m or 1h, not ${text}`);
}

function number(max: number) {
  return (text: string, option: string): number => {
    const value = /^[0-9]*\.?[0-9]+$/.test(text) ? Number(text) : Number.NaN;
    if (value > 0 && value <= max) return value;
    throw wrong(`${option} is a number above 0, at most ${max}, not ${text}`);
  };
}

function whole(max: number) {
  return (text: string, option: string): number => {
    const value = /^[0-9]{1,12}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= 1 && value <= max) return value;
    throw wrong(`${option} is a whole number from 1 to ${max}, not ${text}`);
  };
}

function lifeLength(text: string, option: string): LifeLength {
  if (text === "guest") return { kind: "guest" };
  const isRandom = text.startsWith("exp:");
  const meanMs = time(isRandom ? text.slice("exp:".length) : text, option);
  return { kind: isRandom ? "exponential" : "fixed", meanMs };
}

/** `MIB:VCPUS[:WEIGHT],…`; what a machine may have is the server's to say. */
function mixOf(text: string, option: string): readonly MixEntry[] {
  return text.split(",").map((entry) => {
    const [, mib, vcpus, share = "1"] =
      /^([0-9]{1,7}):([0-9]{1,2})(?::([0-9]{1,6}))?$/.exec(entry) ?? [];
    const [memoryMib, vcpuCount, weight] = [mib, vcpus, share].map(Number);
    if (memoryMib > 0 && vcpuCount > 0 && weight > 0) return { memoryMib, vcpuCount, weight };
    throw wrong(`${option} is MIB:VCPUS:WEIGHT, each above 0, with commas between, not ${entry}`);
  });
}

function readyMark(text: string, option: string): ReadyMark {
  const mark = READY_MARKS.find((candidate) => candidate === text);
  if (mark !== undefined) return mark;
  throw wrong(`${option} is one of ${READY_MARKS.join(", ")}, not ${text}`);
}

function failureLimit(text: string, option: string): LoadOptions["maxFailures"] {
  const [, digits, percent] = /^([0-9]{1,9}(?:\.[0-9]+)?)(%?)$/.exec(text) ?? [];
  const value = Number(digits);
  const isPercent = percent === "%";
  if (isPercent ? value <= 100 : Number.isInteger(value)) return { value, isPercent };
  throw wrong(`${option} is a whole number, or per cent as 5%, not ${text}`);
}

function wrong(message: string): EstaloError {
  return usageError(message, helpHint(BENCH_VERB));
}
