/**
 * A policy for more guest memory than the host has: when the host waits for memory guests give some of theirs,
 * by their balloons, and when it has been calm for a while they get it back.
 *
 *     pressure$ ─▶ phase: inflate, hold, deflate ─▶ a step for each balloon, inside its bounds ─▶ setTarget
 *
 * It is an operator over any stream of pressure and any list of balloons; who wants another policy writes
 * another operator, or filters what comes in. Nothing runs unless somebody subscribes.
 */
import { concatMap, defer, type OperatorFunction, scan } from "rxjs";
import type { BalloonFamily } from "./balloon-family.js";
import { integer, invalid, onlyFields } from "./config-checks.js";
import type { Fleet } from "./fleet.js";
import type { MemoryPressure } from "./memory-pressure.js";
import type { RunningBalloon } from "./running-microvm.js";

/** A microVM as the policy sees it; every `MicroVm` with a balloon is one. */
export interface BalloonMember {
  readonly id: string;
  /** Left alone unless it is "running"; listed in other states, it is not forgotten. */
  readonly state: string;
  readonly balloon: Pick<RunningBalloon, "amounts" | "setTarget">;
}

/** Bounds, hysteresis and rate of {@link memoryPolicy}. */
export interface MemoryPolicyOptions {
  /** Guests give memory while at least so much of the time was waited for it, percent. Default 10. */
  readonly inflatePercent?: number;
  /** Guests get it back once it is no more than this, percent; below the other. Default 1. */
  readonly deflatePercent?: number;
  /** How long it stays that low before they do, ms. Default 10,000. */
  readonly calmMs?: number;
  /** The least memory that each guest keeps, MiB. Default: half of what it has. */
  readonly minMib?: number;
  /** What a guest that tells statistics keeps of what it says is available, MiB. Default 32. */
  readonly spareMib?: number;
  /** The most by which one balloon changes in a second, MiB. Default 64. */
  readonly rateMibPerS?: number;
}

/** A balloon's target that the policy has changed. */
export interface BalloonStep {
  readonly id: string;
  readonly direction: "inflate" | "deflate";
  readonly fromMib: number;
  readonly toMib: number;
  readonly pressure: MemoryPressure;
}

type Checked = Required<Omit<MemoryPolicyOptions, "minMib">> & { readonly minMib?: number };

/** What the pressure asks for, and since when it has been low. */
interface Phase {
  readonly direction: BalloonStep["direction"] | "hold";
  readonly pressure: MemoryPressure;
  readonly calmSinceMs: number | undefined;
}

const MIB_MAX = 1024 * 1024;
const CALM_MAX_MS = 3_600_000;
/** What a balloon's rate can save up where pressure is looked at more often than that, ms. */
const CREDIT_MS = 1000;

/**
 * Changes the balloons' targets by the pressure that comes in, and gives each change. Raises
 * ERR_ESTALO_CONFIG_INVALID.
 *
 * @param members - asked at each look for the microVMs there are, paused ones as well: of one that is not among
 *   them the policy forgets which target its owner had set
 *
 * @example
 * ```ts
 * const policy = pressure$().pipe(memoryPolicy(() => balloonsOf(fleet), { minMib: 256 }));
 * const watching = policy.subscribe(({ id, direction, toMib }) => console.log(id, direction, toMib));
 * ```
 */
export function memoryPolicy(
  members: () => Iterable<BalloonMember>,
  options: MemoryPolicyOptions = {},
): OperatorFunction<MemoryPressure, BalloonStep> {
  const checked = checkMemoryPolicy(options);
  return (source) =>
    defer(() => {
      const balloons = new Balloons(checked);
      return source.pipe(
        scan<MemoryPressure, Phase | undefined>(
          (before, pressure) => nextPhase(before, pressure, checked),
          undefined,
        ),
        concatMap((phase) => balloons.follow(phase as Phase, members())),
      );
    });
}

/** The options with their defaults, or ERR_ESTALO_CONFIG_INVALID naming the field. */
export function checkMemoryPolicy(options: MemoryPolicyOptions): Checked {
  onlyFields("memoryPolicy", options, [
    "inflatePercent",
    "deflatePercent",
    "calmMs",
    "minMib",
    "spareMib",
    "rateMibPerS",
  ]);
  const inflatePercent = percent("inflatePercent", options.inflatePercent ?? 10);
  const deflatePercent = percent("deflatePercent", options.deflatePercent ?? 1);
  if (deflatePercent >= inflatePercent) {
    throw invalid(
      "memoryPolicy.deflatePercent",
      `less than inflatePercent, ${inflatePercent}`,
      deflatePercent,
    );
  }
  const whole = (field: keyof MemoryPolicyOptions, value: number, min: number, max: number) =>
    integer(`memoryPolicy.${field}`, value, min, max);
  return {
    inflatePercent,
    deflatePercent,
    calmMs: whole("calmMs", options.calmMs ?? 10_000, 0, CALM_MAX_MS),
    ...(options.minMib === undefined
      ? {}
      : { minMib: whole("minMib", options.minMib, 0, MIB_MAX) }),
    spareMib: whole("spareMib", options.spareMib ?? 32, 0, MIB_MAX),
    rateMibPerS: whole("rateMibPerS", options.rateMibPerS ?? 64, 1, MIB_MAX),
  };
}

function percent(field: string, value: number): number {
  if (typeof value === "number" && value >= 0 && value <= 100) return value;
  throw invalid(`memoryPolicy.${field}`, "a number from 0 to 100", value);
}

/** Hysteresis: between the two levels nothing changes, and the lower one counts after a while only. */
function nextPhase(
  before: Phase | undefined,
  pressure: MemoryPressure,
  { inflatePercent, deflatePercent, calmMs }: Checked,
): Phase {
  const { atMs, somePercent } = pressure;
  if (somePercent >= inflatePercent) {
    return { direction: "inflate", pressure, calmSinceMs: undefined };
  }
  if (somePercent > deflatePercent) return { direction: "hold", pressure, calmSinceMs: undefined };
  const calmSinceMs = before?.calmSinceMs ?? atMs;
  return { direction: atMs - calmSinceMs >= calmMs ? "deflate" : "hold", pressure, calmSinceMs };
}

/** What the policy knows of one balloon. */
interface Known {
  /** Its owner's own target, which it goes back to. */
  baseMib: number;
  /** What we set last. */
  setMib: number;
  /** Until when its rate is used up. */
  paidMs: number;
}

/** The balloons of one subscription. */
class Balloons {
  readonly #options: Checked;
  #known = new Map<string, Known>();
  #lookedAtMs: number | undefined;

  constructor(options: Checked) {
    this.#options = options;
  }

  /** Changes targets as the phase asks for; gives what it changed. */
  follow({ direction, pressure }: Phase, members: Iterable<BalloonMember>): BalloonStep[] {
    const creditMs = Math.max(CREDIT_MS, pressure.atMs - (this.#lookedAtMs ?? pressure.atMs));
    this.#lookedAtMs = pressure.atMs;
    const known = new Map<string, Known>();
    const steps: BalloonStep[] = [];
    for (const member of members) {
      if (member.state !== "running") {
        // What its owner had set is still what it goes back to when it runs again.
        const before = this.#known.get(member.id);
        if (before !== undefined) known.set(member.id, before);
        continue;
      }
      const { amounts } = member.balloon;
      const own = this.#knownOf(member.id, amounts.targetMib, pressure.atMs);
      known.set(member.id, own);
      if (direction === "hold") continue;
      const paidMs = Math.max(own.paidMs, pressure.atMs - creditMs);
      const { rateMibPerS } = this.#options;
      const stepMib = Math.floor((rateMibPerS * (pressure.atMs - paidMs)) / 1000);
      const fromMib = amounts.targetMib;
      const toMib =
        direction === "inflate"
          ? this.#inflated(amounts, stepMib)
          : Math.max(own.baseMib, fromMib - stepMib);
      if (toMib === fromMib) continue;
      // One that cannot be asked any more has ended.
      Promise.resolve(member.balloon.setTarget(toMib)).catch(() => {});
      own.setMib = toMib;
      own.paidMs = paidMs + (Math.abs(toMib - fromMib) * 1000) / rateMibPerS;
      steps.push({ id: member.id, direction, fromMib, toMib, pressure });
    }
    // Those that are not there any more are forgotten.
    this.#known = known;
    return steps;
  }

  #knownOf(id: string, targetMib: number, atMs: number): Known {
    const known = this.#known.get(id);
    if (known === undefined) return { baseMib: targetMib, setMib: targetMib, paidMs: atMs };
    // Somebody else has set it: that is its owner's target now.
    if (known.setMib !== targetMib) known.baseMib = known.setMib = targetMib;
    return known;
  }

  /** The next target above this one; the same one when there is no more to be had, or not yet. */
  #inflated(amounts: BalloonFamily["amounts"], stepMib: number): number {
    const { memoryMib, targetMib, actualMib, availableMib } = amounts;
    // A guest that has not given what it was asked for is not asked for more.
    if (actualMib < targetMib) return targetMib;
    const { minMib = Math.ceil(memoryMib / 2), spareMib } = this.#options;
    const canGiveMib =
      availableMib === undefined ? Number.POSITIVE_INFINITY : availableMib - spareMib;
    const mostMib = Math.floor(Math.min(memoryMib - minMib, actualMib + canGiveMib));
    return Math.max(targetMib, Math.min(targetMib + stepMib, mostMib));
  }
}

/** Microvms of one page of the fleet's list. */
const PAGE_LIMIT = 1000;

/** The running and paused microVMs of a fleet that have a balloon, as they are now. */
export function* balloonsOf(fleet: Pick<Fleet, "list" | "supervisor">): Iterable<BalloonMember> {
  let after: string | undefined;
  do {
    const query = { states: ["running", "paused"], limit: PAGE_LIMIT } as const;
    const page = fleet.list(after === undefined ? query : { ...query, after });
    for (const { id } of page.items) {
      const supervisor = fleet.supervisor(id);
      const balloon = supervisor?.devices.balloon;
      if (supervisor !== undefined && balloon !== undefined) {
        yield { id, state: supervisor.state, balloon };
      }
    }
    after = page.next;
  } while (after !== undefined);
}
