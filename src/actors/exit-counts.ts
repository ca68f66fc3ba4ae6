/**
 * Exits counted by any of their fields over a window of time, with what they took: what a live table shows.
 *
 * Bounded whatever the guest does: GROUPS_MAX groups, the rest is one sum. Quantiles come from histograms of
 * 16 steps for each power of two: at most 1/16 above the exact value.
 */
import { EstaloError } from "../errors.js";
import {
  ACCESS_SIZE_MASK,
  ACCESS_WRITE,
  EXIT_KINDS,
  type ExitBatch,
  type ExitColumns,
  type ExitKind,
  exitKindCode,
} from "./exit-batch.js";

/** What exits can be counted by. */
export const EXIT_FIELDS = ["kind", "device", "address", "direction", "vcpu"] as const;
export type ExitField = (typeof EXIT_FIELDS)[number];

/** Length of a window when nobody says, ms. */
export const WINDOW_MS = 1000;
const WINDOW_MIN_MS = 10;
const WINDOW_MAX_MS = 3_600_000;

/** Most groups of a window. */
export const GROUPS_MAX = 1000;

const STEPS = 16;
const STEP_BITS = 4;
const BUCKETS = (32 - STEP_BITS + 1) * STEPS;
const PIO = exitKindCode("pio");

/** One group of a window: the fields that it was counted by, and what its exits took. */
export interface ExitGroup {
  readonly kind?: ExitKind;
  /** Null: no device. */
  readonly device?: string | null;
  readonly address?: number;
  /** Null: not an access. */
  readonly direction?: "read" | "write" | null;
  /** Null: unknown. */
  readonly vcpu?: number | null;
  /** Exits; those that were told as one count as many as they were. */
  readonly exits: number;
  /** Records: exits that have times of their own. */
  readonly timed: number;
  /** Sum, quantiles and greatest of the time in the host, nanoseconds; 0 when none is timed. */
  readonly hostNs: number;
  readonly hostP50Ns: number;
  readonly hostP99Ns: number;
  readonly hostMaxNs: number;
  /** Sum of the time in the guest before, nanoseconds. */
  readonly guestNs: number;
}

/** A window: all groups that had an exit in it, most exits first. */
export interface ExitCounts {
  /** Begin and end of the window, nanoseconds on CLOCK_MONOTONIC. */
  readonly fromNs: number;
  readonly toNs: number;
  readonly exits: number;
  readonly groups: readonly ExitGroup[];
  /** Exits beyond GROUPS_MAX groups. */
  readonly otherExits: number;
  /** As in a batch: exits that were overwritten before they were read. */
  readonly lost: number;
}

/** Raises ERR_ESTALO_CONFIG_INVALID, with the field, for what cannot be counted by or in. */
export function checkCounting(by: readonly ExitField[], windowMs: number): void {
  const known = EXIT_FIELDS.join(", ");
  const isList = Array.isArray(by) && by.length > 0 && new Set(by).size === by.length;
  if (!isList || !by.every((field) => EXIT_FIELDS.includes(field))) {
    throw new EstaloError("ERR_ESTALO_CONFIG_INVALID", `by: some of ${known}, each once`, {
      data: { field: "by" },
    });
  }
  if (Number.isInteger(windowMs) && windowMs >= WINDOW_MIN_MS && windowMs <= WINDOW_MAX_MS) return;
  throw new EstaloError(
    "ERR_ESTALO_CONFIG_INVALID",
    `windowMs: an integer from ${WINDOW_MIN_MS} to ${WINDOW_MAX_MS}, not ${windowMs}`,
    { data: { field: "windowMs" } },
  );
}

/** Index of the histogram's bucket for a time. */
export function bucketOf(ns: number): number {
  if (ns < STEPS) return ns;
  const exponent = 31 - Math.clz32(ns);
  return (exponent - STEP_BITS + 1) * STEPS + ((ns >>> (exponent - STEP_BITS)) & (STEPS - 1));
}

/** Greatest time in a bucket. */
export function bucketEnd(bucket: number): number {
  if (bucket < STEPS) return bucket;
  const shift = Math.floor(bucket / STEPS) - 1;
  return (STEPS + (bucket % STEPS) + 1) * 2 ** shift - 1;
}

/** Sums of one group; emptied and used again. */
class Group {
  readonly fields: readonly number[];
  readonly histogram = new Uint32Array(BUCKETS);
  exits = 0;
  timed = 0;
  hostNs = 0;
  hostMaxNs = 0;
  guestNs = 0;

  constructor(fields: readonly number[]) {
    this.fields = fields;
  }

  add(columns: ExitColumns, i: number): void {
    const count = columns.count[i];
    this.exits += columns.kind[i] === PIO ? 1 : count;
    // What the device host tells, and what was before anybody watched, has no duration.
    const hostNs = columns.hostNs[i];
    const guestNs = columns.guestNs[i];
    if (hostNs === 0 && guestNs === 0) return;
    this.timed += 1;
    this.hostNs += hostNs;
    this.guestNs += guestNs;
    this.histogram[bucketOf(hostNs)] += 1;
    if (hostNs > this.hostMaxNs) this.hostMaxNs = hostNs;
  }

  quantile(q: number): number {
    const rank = Math.ceil(q * this.timed);
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS && rank > 0; bucket++) {
      seen += this.histogram[bucket];
      if (seen >= rank) return Math.min(bucketEnd(bucket), this.hostMaxNs);
    }
    return 0;
  }

  clear(): void {
    this.histogram.fill(0);
    this.exits = 0;
    this.timed = 0;
    this.hostNs = 0;
    this.hostMaxNs = 0;
    this.guestNs = 0;
  }
}

/** A level of the tree of groups: by the values of one field. */
type Level = Map<number, Level | Group>;

/** Counts exits by `fields`, window after window. */
export class ExitCounter {
  readonly #fields: readonly ExitField[];
  #tree: Level = new Map();
  #groups: Group[] = [];
  #otherExits = 0;
  #lost = 0;
  #fromNs: number;
  #devices: readonly string[] = [];

  /** `fields`: at least one, each once. `nowNs`: when the first window begins. */
  constructor(fields: readonly ExitField[], nowNs: number) {
    this.#fields = fields;
    this.#fromNs = nowNs;
  }

  add(batch: ExitBatch): void {
    this.#devices = batch.devices;
    this.#lost = batch.lost;
    for (let i = 0; i < batch.length; i++) {
      const group = this.#groupOf(batch, i);
      if (group !== undefined) group.add(batch, i);
      else this.#otherExits += batch.kind[i] === PIO ? 1 : batch.count[i];
    }
  }

  /** Ends the window and begins the next. */
  take(nowNs: number): ExitCounts {
    const used = this.#groups.filter(({ exits }) => exits > 0);
    const groups = used.map((group) => this.#describe(group)).sort((a, b) => b.exits - a.exits);
    const counts: ExitCounts = {
      fromNs: this.#fromNs,
      toNs: nowNs,
      exits: groups.reduce((sum, { exits }) => sum + exits, this.#otherExits),
      groups,
      otherExits: this.#otherExits,
      lost: this.#lost,
    };
    // Groups without an exit make room for new ones.
    if (used.length < this.#groups.length) this.#keep(used);
    for (const group of used) group.clear();
    this.#otherExits = 0;
    this.#fromNs = nowNs;
    return counts;
  }

  #groupOf(columns: ExitColumns, i: number): Group | undefined {
    let level = this.#tree;
    const last = this.#fields.length - 1;
    for (let depth = 0; depth < last; depth++) {
      const value = fieldOf(columns, i, this.#fields[depth]);
      const next = level.get(value) as Level | undefined;
      if (next === undefined) return this.#addGroup(columns, i);
      level = next;
    }
    const found = level.get(fieldOf(columns, i, this.#fields[last])) as Group | undefined;
    return found ?? this.#addGroup(columns, i);
  }

  #addGroup(columns: ExitColumns, i: number): Group | undefined {
    if (this.#groups.length >= GROUPS_MAX) return undefined;
    const group = new Group(this.#fields.map((field) => fieldOf(columns, i, field)));
    this.#groups.push(group);
    this.#plant(group);
    return group;
  }

  #keep(groups: Group[]): void {
    this.#groups = groups;
    this.#tree = new Map();
    for (const group of groups) this.#plant(group);
  }

  #plant(group: Group): void {
    let level = this.#tree;
    const values = group.fields;
    for (const value of values.slice(0, -1)) {
      const next = (level.get(value) as Level | undefined) ?? new Map();
      level.set(value, next);
      level = next;
    }
    level.set(values[values.length - 1], group);
  }

  #describe(group: Group): ExitGroup {
    const fields = Object.fromEntries(
      this.#fields.map((field, i) => [field, this.#valueOf(field, group.fields[i])]),
    );
    return {
      ...fields,
      exits: group.exits,
      timed: group.timed,
      hostNs: group.hostNs,
      hostP50Ns: group.quantile(0.5),
      hostP99Ns: group.quantile(0.99),
      hostMaxNs: group.hostMaxNs,
      guestNs: group.guestNs,
    };
  }

  #valueOf(field: ExitField, value: number): string | number | null {
    switch (field) {
      case "kind":
        return EXIT_KINDS[value] ?? "other";
      case "device":
        return this.#devices[value] ?? null;
      case "address":
        return value;
      case "direction":
        return value === 0 ? null : value === 1 ? "read" : "write";
      case "vcpu":
        return value === 0xff ? null : value;
    }
  }
}

/** A field of an exit as a number that tells its groups apart. */
function fieldOf(columns: ExitColumns, i: number, field: ExitField): number {
  switch (field) {
    case "kind":
      return columns.kind[i];
    case "device":
      return columns.device[i];
    case "address":
      return columns.address[i];
    case "direction": {
      const access = columns.access[i];
      return (access & ACCESS_SIZE_MASK) === 0 ? 0 : (access & ACCESS_WRITE) === 0 ? 1 : 2;
    }
    case "vcpu":
      return columns.vcpu[i];
  }
}
