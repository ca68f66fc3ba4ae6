/**
 * What door 1 needs of a machine: `estalo vmm` gives it the one of its process, a server one of its fleet.
 */
import type { DriveChange } from "../../actors/config.js";
import type { NetworkInterfaceChange } from "../../actors/config-net.js";
import type { PmemChange } from "../../actors/config-pmem.js";
import type { BalloonChange } from "../../actors/device-changes.js";
import type { MetadataStore } from "../../actors/metadata-store.js";
import type {
  Eventually,
  RunningBalloon,
  RunningMemoryHotplug,
} from "../../actors/running-microvm.js";
import type { Draft } from "./draft.js";
import type { LoggerJson, MetricsJson } from "./schemas.js";

/** Where the machine is, in Firecracker's words. */
export type Phase = "Not started" | "Running" | "Paused";

/** Logger and metrics of the process, where the door may set them. */
export interface Diagnostics {
  /** Raises a Fault, or what the host says, when the log cannot be opened. */
  configureLogger(config: LoggerJson): void;
  /** As above. May be called once. */
  configureMetrics(config: MetricsJson): void;
  /** Writes a line of metrics. */
  flushMetrics(): void;
}

/** One machine. Calls may raise EstaloErrors; they are answered with 400 and their message. */
export interface FirecrackerTarget {
  /** 1 to 64 letters, digits and hyphens. */
  readonly id: string;
  readonly phase: Phase;
  /** What is configured; after the start only what is told of it changes. */
  draft: Draft;
  start(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** False: the guest has not taken the last ones yet. */
  sendCtrlAltDelete(): Eventually<boolean>;
  /** Changes a drive of the running machine; a path is opened again also when it is the same. */
  updateDrive(id: string, change: DriveChange): Promise<void>;
  /** Changes limits of a network interface of the running machine. */
  updateInterface(id: string, change: NetworkInterfaceChange): Eventually<void>;
  /** Changes limits of persistent memory of the running machine. */
  updatePmem(id: string, change: PmemChange): Eventually<void>;
  /** Changes the running machine's balloon; raises ERR_ESTALO_STATE where there is none. */
  updateBalloon(change: BalloonChange): Eventually<void>;
  /** What memory the running machine can be given; raises ERR_ESTALO_STATE where there is none. */
  memoryHotplug(): RunningMemoryHotplug;
  /** The running machine's balloon; raises ERR_ESTALO_STATE where there is none. */
  balloon(): RunningBalloon;
  readonly diagnostics?: Diagnostics;
  /** Most bytes of the metadata service's data. */
  readonly metadataLimitBytes: number;
  /** The metadata service of the machine that was started; `undefined`: it has none. */
  readonly metadata: Pick<MetadataStore, "get" | "put" | "patch"> | undefined;
}
