/**
 * What door 2 needs of a fleet: actors/fleet.ts is one, and so is what specs play.
 */
import type { MicroVmConfig } from "../../actors/config.js";
import type { Console } from "../../actors/console.js";
import type { DeviceChanges } from "../../actors/device-changes.js";
import type {
  FleetCounters,
  FleetEvent,
  FleetPage,
  FleetQuery,
  FleetRecord,
  FleetSpec,
  FleetState,
  RestartPolicy,
} from "../../actors/fleet-messages.js";
import type { Eventually, RunningMetrics, RunningMicrovm } from "../../actors/running-microvm.js";

/** The microVM itself, while it exists. */
export interface LiveMicrovm
  extends Pick<RunningMicrovm, "devices" | "exits" | "refreshMetrics" | "vcpuThreads"> {
  readonly console: Pick<Console, "hasInput" | "history" | "read" | "send">;
  readonly metrics: RunningMetrics;
  /** Fulfilled when it has ended. */
  readonly exited: Promise<unknown>;
}

/** Every event of a fleet, the last of them kept. */
export interface Journal {
  /** Sequence numbers of the oldest and newest kept event; newest is 0 when there was none. */
  readonly oldest: number;
  readonly newest: number;
  /**
   * Those after `sequence`, oldest first and at most `limit`; "gap" when some of them are not kept any more,
   * or the number was never given.
   */
  since(sequence: number, limit?: number): readonly FleetEvent[] | "gap";
  /** Calls `listener` with every event from now on; returns what ends that. */
  subscribe(listener: (event: FleetEvent) => void): () => void;
}

/** See actors/fleet.ts for what each call does and raises. */
export interface DoorFleet {
  create(
    spec: FleetSpec,
    options?: { readonly idempotencyKey?: string },
  ): Promise<{ readonly record: FleetRecord; readonly isNew: boolean }>;
  list(query?: FleetQuery): FleetPage;
  get(idOrName: string): FleetRecord;
  update(
    idOrName: string,
    change: {
      readonly name?: string;
      readonly labels?: Readonly<Record<string, string>>;
      readonly restart?: RestartPolicy;
    },
  ): FleetRecord;
  configure(idOrName: string, change: (config: MicroVmConfig) => MicroVmConfig): FleetRecord;
  start(idOrName: string): Promise<FleetRecord>;
  pause(idOrName: string): Promise<FleetRecord>;
  resume(idOrName: string): Promise<FleetRecord>;
  kill(idOrName: string): Promise<FleetRecord>;
  stop(
    idOrName: string,
    options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal },
  ): Promise<FleetRecord>;
  remove(idOrName: string, options?: { readonly force?: boolean }): Promise<void>;
  wait(idOrName: string, options?: { readonly signal?: AbortSignal }): Promise<FleetRecord>;
  changeDevices(idOrName: string, changes: DeviceChanges): Promise<FleetRecord>;
  sendCtrlAltDelete(idOrName: string): Eventually<boolean>;
  supervisor(idOrName: string): LiveMicrovm | undefined;
  consoleLog(idOrName: string): Uint8Array;
  metrics(idOrName: string): RunningMetrics | undefined;
  readonly events: Journal;
  counts(): Readonly<Record<FleetState, number>>;
  readonly counters: FleetCounters;
}
