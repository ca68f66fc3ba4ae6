/**
 * What the fleet says and is told: the records of its microVMs, their events, and the calls that doors make.
 * Types only; fleet.ts keeps them.
 */
import type { StoredConfig } from "./config.js";
import type { MicroVmEvent, MicroVmExit } from "./messages.js";

/**
 * Where a microVM of a fleet is. `configured`: described, never started. `stopped`, `failed`: the last run
 * ended, `exit` tells how, and nothing of it is held; `restartAtMs` is set while it waits for its restart.
 * `lost`: it ran when its server died, `lostReason` tells more. All four may be started.
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
  /**
   * Unique in the fleet while the record exists: 1 to 64 letters, digits, hyphens, underscores, dots, the first
   * a letter or digit. Default: the id.
   */
  readonly name?: string;
  /** At most 64: keys of 1 to 63 letters, digits and ._/-, values of at most 256 characters. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly config?: StoredConfig;
  /** Default `{ policy: "no" }`. */
  readonly restart?: RestartPolicy;
  /** Deletes the record when the microVM has ended. Default false. */
  readonly autoRemove?: boolean;
  /** Start it at once: then a start that fails takes the whole creation back. Default true. */
  readonly start?: boolean;
}

/** A microVM of a fleet as it is now. All times are Unix milliseconds. */
export interface FleetRecord {
  /** Given by the fleet, or `config.id`: 1 to 64 letters, digits and hyphens. */
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly config: StoredConfig;
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
  /** Restarts by its policy since somebody started it. */
  readonly restartCount: number;
  /** When its policy starts it again, while it waits for that. */
  readonly restartAtMs: number | undefined;
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
  | Untimed<MicroVmEvent>
);

/** An event without its time, whatever its type. */
export type Untimed<E> = E extends unknown ? Omit<E, "atMs"> : never;

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

/** What may change of a microVM's record at any time. */
export interface FleetChange {
  readonly name?: string;
  /** All labels it has afterwards. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly restart?: RestartPolicy;
}

/** What a fleet has counted since it was opened. */
export interface FleetCounters {
  readonly created: number;
  readonly removed: number;
  /** Runs begun, restarts included. */
  readonly starts: number;
  /** Runs that ended as `failed`, and starts that did not come to a run. */
  readonly failures: number;
  readonly restarts: number;
  /** MicroVMs found lost when the fleet was opened. */
  readonly lost: number;
  readonly events: number;
  /** Times the state could not be stored (no space, say); it is tried again until it can. */
  readonly storeErrors: number;
  /** Clean-ups after a lost microVM that failed. */
  readonly cleanupErrors: number;
  /** Listeners of events that threw. */
  readonly listenerErrors: number;
}

/** A page of a list, oldest first. */
export interface FleetPage {
  readonly items: readonly FleetRecord[];
  /** `after` of the next page; undefined on the last one. */
  readonly next: string | undefined;
}

/** What a creation made, or found made. */
export interface FleetCreation {
  readonly record: FleetRecord;
  /** False: the idempotency key was used before, and `record` is what came of it. */
  readonly isNew: boolean;
}
