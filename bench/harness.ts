/**
 * What every bench shares: runs in turn, order statistics, and the record of a measure.
 *
 * Contestants run A B C A B C …, so that whatever else the machine does meets all of them; a measure is the
 * median over the rounds, its spread the least and the greatest of them. A ratio is always cost, ours over
 * the peer's: 1 or less is not behind.
 */

/** How much a bench does. */
export interface BenchOptions {
  /** Seconds instead of minutes, and figures that mean nothing. */
  readonly smoke: boolean;
}

/** Median, least and greatest of the rounds. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** One line of a result file. */
export interface Measure {
  readonly name: string;
  readonly unit: "ns" | "us" | "ms" | "MiB" | "per second" | "MiB per second" | "percent";
  readonly ours: number;
  /** Least and greatest of the rounds. */
  readonly oursSpread: readonly [number, number];
  readonly peer?: number;
  readonly peerSpread?: readonly [number, number];
  readonly peerName?: string;
  /** Cost, ours over the peer's; for a rate, the peer's over ours. */
  readonly ratio?: number;
  /** Ours may be this much, in `unit`, on ordinary hardware (for a rate: at least). */
  readonly budget?: number;
  readonly rounds: number;
}

/** The q-quantile (0 to 1) by rank: an element of `values`. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: quantile(values, 0.5), min: Math.min(...values), max: Math.max(...values) };
}

/** Runs the contestants in turn for `rounds` rounds; returns each one's results by name. */
export async function alternate<T>(
  rounds: number,
  contestants: ReadonlyMap<string, () => Promise<T>>,
): Promise<Map<string, T[]>> {
  const results = new Map<string, T[]>([...contestants.keys()].map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [name, run] of contestants) results.get(name)?.push(await run());
  }
  return results;
}

/** Three significant digits say all that a run on a shared machine can know. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

/** What a measure is called and what it may cost. */
export interface MeasureKind {
  readonly name: string;
  readonly unit: Measure["unit"];
  readonly budget?: number;
}

/** The measure of our `values` alone. */
export function measureAlone(kind: MeasureKind, values: readonly number[]): Measure {
  const { median, min, max } = spreadOf(values);
  return {
    ...kind,
    ours: rounded(median),
    oursSpread: [rounded(min), rounded(max)],
    rounds: values.length,
  };
}

/** One measure for each peer that has values, or one of our values alone when none has. */
export function compare(
  kind: MeasureKind,
  ours: readonly number[],
  peers: ReadonlyMap<string, readonly number[]>,
): Measure[] {
  const alone = measureAlone(kind, ours);
  const measures = [...peers].map(([peerName, values]): Measure => {
    const peer = spreadOf(values);
    const cost = spreadOf(ours).median / peer.median;
    return {
      ...alone,
      peer: rounded(peer.median),
      peerSpread: [rounded(peer.min), rounded(peer.max)],
      peerName,
      ratio: rounded(kind.unit.endsWith("per second") ? 1 / cost : cost),
    };
  });
  return measures.length === 0 ? [alone] : measures;
}
