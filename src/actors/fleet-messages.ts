/**
 * What the fleet says and is told: the records of its microVMs, their events, and the calls that doors make.
 * Types only; fleet.ts keeps them.
 */
import type { MicroVmConfig } from "./config.js";
import type { MicroVmEvent, MicroVmExit } from "./messages.js";

/**
 * Where a microVM of a fleet is. `configured`: described, nothing exists yet (or not any more and it may be
 * started again: then `exit` tells of the last run). `lost`: it ran when its server died.
 */
export type FleetState =
  | "configured"
  | "starting"
  | "running"
  | "paused"
  | "stopping"
  | "stopped"
  | "failed"
  | "lost";

/** When a microVM that ended is started again. */
export interface RestartPolicy {
  /** `on-failure`: exit code not 0. `always`: also after a power-off; never after stop, kill or delete. */
  readonly policy: "no" | "on-failure" | "always";
  /** Only with "on-failure": give up after so many restarts. Default: never. */
  readonly maxRetries?: number;
}

/** What a microVM of a fleet is made from. */
export interface FleetSpec {
  /** Unique in the fleet while the record exists: 1 to 64 letters, digits, hyphens, underscores, dots. */
  readonly name?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly config?: MicroVmConfig;
  /** Default `{ policy: "no" }`. */
  readonly restart?: RestartPolicy;
  /** Deletes the record when the microVM has ended. Default false. */
  readonly autoRemove?: boolean;
  /** Start it at once. Default true. */
  readonly start?: boolean;
}

/** A microVM of a fleet as it is now. All times are Unix milliseconds. */
export interface FleetRecord {
  /** Given by the fleet, or `config.id`: 1 to 64 letters, digits and hyphens. */
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly config: MicroVmConfig;
  readonly restart: RestartPolicy;
  readonly autoRemove: boolean;
  readonly state: FleetState;
  readonly createdAtMs: number;
  readonly startedAtMs: number | undefined;
  readonly endedAtMs: number | undefined;
  /** How the last run ended. */
  readonly exit: MicroVmExit | undefined;
  /** Why it is `lost`. */
  readonly lostReason: string | undefined;
  readonly restartCount: number;
}

/** What a fleet tells of one of its microVMs. */
export type FleetEvent = {
  /** Grows by one with every event of the fleet, across restarts of its server. */
  readonly sequence: number;
  readonly atMs: number;
  readonly microvm: string;
  readonly name: string;
} & (
  | { readonly type: "created" }
  | { readonly type: "updated" }
  | { readonly type: "deleted" }
  | { readonly type: "restarting"; readonly delayMs: number; readonly restartCount: number }
  | { readonly type: "lost"; readonly reason: string }
  | Omit<MicroVmEvent, "atMs">
);

/** Which microVMs a list holds. */
export interface FleetQuery {
  readonly states?: readonly FleetState[];
  readonly name?: string;
  /** Labels it must have, with these values. */
  readonly labels?: Readonly<Record<string, string>>;
  /** 1 to 1000. Default 100. */
  readonly limit?: number;
  /** Where the page before this ended: its `next`. */
  readonly after?: string;
}

/** A page of a list, oldest first. */
export interface FleetPage {
  readonly items: readonly FleetRecord[];
  /** `after` of the next page; undefined on the last one. */
  readonly next: string | undefined;
}
