/**
 * A run of a fleet's microVM, from `starting` to its end, and what runs are made with.
 */
import type { EstaloError } from "../errors.js";
import type { CheckedConfig, MicroVmConfig } from "./config.js";
import { EXIT_FAILURE, EXIT_KILLED } from "./exit-code.js";
import type { FleetCounters, FleetRecord, FleetState } from "./fleet-messages.js";
import type { FleetWriter } from "./fleet-writer.js";
import type { MicroVmExit } from "./messages.js";
import type { Eventually, RunningMicrovm } from "./running-microvm.js";

/** Makes a microVM, ready to start; throws what is wrong with its files or the host. */
export type MakeSupervisor = (
  config: CheckedConfig,
  record: FleetRecord,
) => Eventually<RunningMicrovm>;

/** What a member needs of its fleet. */
export interface MemberHost {
  readonly writer: FleetWriter;
  readonly counters: { -readonly [Name in keyof FleetCounters]: number };
  /** Fills in the default guest. */
  complete(config: MicroVmConfig): Promise<MicroVmConfig & { readonly kernel: string }>;
  readonly makeSupervisor: MakeSupervisor;
  /** This microVM ended, stays so, and is to be removed. */
  onAutoRemove(id: string): void;
}

/** From `starting` to the end. */
export interface Run {
  readonly isRestart: boolean;
  readonly delayMs: number;
  readonly ended: Promise<void>;
  readonly resolveEnded: () => void;
  supervisor: RunningMicrovm | undefined;
  unsubscribe: () => void;
  /** Its owner ends it: no restart. */
  isAsked: boolean;
  /** On `performance.now()`'s clock, when the guest first ran. */
  runningAtMs: number | undefined;
}

/** A run that begins now, `delayMs` after the one before it. */
export function newRun(isRestart: boolean, delayMs: number): Run {
  let resolveEnded = () => {};
  const ended = new Promise<void>((resolve) => {
    resolveEnded = resolve;
  });
  return {
    isRestart,
    delayMs,
    ended,
    resolveEnded,
    supervisor: undefined,
    unsubscribe: () => {},
    isAsked: false,
    runningAtMs: undefined,
  };
}

const LIVING: ReadonlySet<FleetState> = new Set(["starting", "running", "paused", "stopping"]);

/** Whether a microVM in this state holds anything of the host. */
export function isLiving(state: FleetState): boolean {
  return LIVING.has(state);
}

/** The end of a run that had no supervisor. */
export function exitOf(reason: "killed" | "failed", error?: EstaloError): MicroVmExit {
  const exitCode = reason === "failed" ? EXIT_FAILURE : EXIT_KILLED;
  return { reason, guestStatus: undefined, error: error?.toRecord(), exitCode };
}
