/**
 * When microVMs are due, how long each lives, and how large it is: from a rate or from a trace, the same again
 * for the same seed. Knows no clock and no server.
 */
import { exponential, type Random } from "./seeded-random.js";
import type { TraceLine } from "./trace-file.js";

/** One microVM that is due. */
export interface Arrival {
  /** From the beginning. */
  readonly atMs: number;
  /** Once it is ready; `undefined`: until its guest ends. */
  readonly lifeMs: number | undefined;
  readonly size: Size | undefined;
}

/** What --mix says of one kind. */
export interface Size {
  readonly memoryMib: number;
  readonly vcpuCount: number;
}

/** A size and how often it comes, in relation to the others. */
export interface MixEntry extends Size {
  readonly weight: number;
}

/** How long lives are. */
export type LifeLength =
  | { readonly kind: "fixed" | "exponential"; readonly meanMs: number }
  | { readonly kind: "guest" };

/** What arrivals are drawn from. */
export interface ArrivalOptions {
  /** A second; without a trace. */
  readonly rate: number;
  readonly trace: readonly TraceLine[] | undefined;
  /** The trace's times are divided by it. */
  readonly speed: number;
  readonly durationMs: number;
  readonly count: number;
  readonly life: LifeLength;
  /** Empty: the machine's own size. */
  readonly mix: readonly MixEntry[];
}

/** All arrivals, in time; without an end when the options give none. */
export function* arrivals(options: ArrivalOptions, random: Random): Generator<Arrival> {
  const { durationMs, count, life, mix } = options;
  let made = 0;
  for (const { atMs, lifeMs, memoryMib, vcpuCount } of moments(options, random)) {
    if (atMs >= durationMs || made === count) return;
    made++;
    // Both are drawn whether they are used or not: a trace that says more changes nothing else.
    const drawnMs = lifeOf(life, random);
    const drawn = pick(mix, random);
    const isSized = memoryMib !== undefined || vcpuCount !== undefined;
    const size = isSized ? { memoryMib: 128, vcpuCount: 1, ...drawn } : drawn;
    yield {
      atMs,
      lifeMs: lifeMs ?? drawnMs,
      size: size && {
        memoryMib: memoryMib ?? size.memoryMib,
        vcpuCount: vcpuCount ?? size.vcpuCount,
      },
    };
  }
}

function* moments({ trace, rate, speed }: ArrivalOptions, random: Random): Generator<TraceLine> {
  if (trace === undefined) {
    const meanMs = 1000 / rate;
    for (let atMs = exponential(meanMs, random); ; atMs += exponential(meanMs, random)) {
      yield { atMs };
    }
  }
  for (const line of trace) {
    for (let i = 0; i < (line.weight ?? 1); i++) yield { ...line, atMs: line.atMs / speed };
  }
}

function lifeOf(life: LifeLength, random: Random): number | undefined {
  if (life.kind === "guest") return undefined;
  return life.kind === "fixed" ? life.meanMs : exponential(life.meanMs, random);
}

/** One of the mix, by weight. */
function pick(mix: readonly MixEntry[], random: Random): Size | undefined {
  let left = random() * mix.reduce((sum, { weight }) => sum + weight, 0);
  const entry = mix.find(({ weight }) => {
    left -= weight;
    return left < 0;
  });
  return entry && { memoryMib: entry.memoryMib, vcpuCount: entry.vcpuCount };
}
