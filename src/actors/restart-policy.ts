/**
 * Whether a microVM that ended is started again, and when: a pure decision, of which fleet-member.ts keeps
 * the clock. As Docker's restart policies, except that what its owner ended stays ended.
 */
import type { RestartPolicy } from "./fleet-messages.js";

/** The delay before the first restart, ms; each quick failure after it doubles the delay. */
export const RESTART_DELAY_MIN_MS = 100;
/** The longest delay, ms. */
export const RESTART_DELAY_MAX_MS = 60_000;
/** A run of this long, ms, was a good one: the delay begins again at its least. */
export const GOOD_RUN_MS = 10_000;

/** A run that ended. */
export interface EndedRun {
  /** The run's exit code: 0 is success. */
  readonly exitCode: number;
  /** How long the guest ran, ms; 0 when it never did. */
  readonly ranMs: number;
  /** Its owner ended it: stop, kill, delete, or the fleet's close. */
  readonly wasAsked: boolean;
  /** Restarts since somebody started it. */
  readonly restartCount: number;
  /** The delay before this run, ms; 0 when somebody started it. */
  readonly lastDelayMs: number;
}

/** How long to wait before the next start, ms; `undefined`: it stays ended. */
export function restartDelayMs(restart: RestartPolicy, run: EndedRun): number | undefined {
  if (run.wasAsked || restart.policy === "no") return undefined;
  if (restart.policy === "on-failure") {
    if (run.exitCode === 0) return undefined;
    if (run.restartCount >= (restart.maxRetries ?? Number.POSITIVE_INFINITY)) return undefined;
  }
  if (run.ranMs >= GOOD_RUN_MS || run.lastDelayMs === 0) return RESTART_DELAY_MIN_MS;
  return Math.min(run.lastDelayMs * 2, RESTART_DELAY_MAX_MS);
}

/** Whether a microVM whose server died or closed while it ran is started by the next one. */
export function isRestartedAtOpen(restart: RestartPolicy): boolean {
  return restart.policy === "always";
}
