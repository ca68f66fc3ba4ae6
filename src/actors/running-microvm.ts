/**
 * A microVM that runs, as its fleet and the doors see it: a supervisor of this process, or one of a jailed
 * process (isolation/remote-microvm.ts), which answers some calls later.
 */
import type { Observable } from "rxjs";
import type { GuestAgent } from "./agent/guest-agent.js";
import type { BalloonFamily, BalloonReport } from "./balloon-family.js";
import type { DriveChange } from "./config.js";
import type { NetworkInterfaceChange } from "./config-net.js";
import type { Console } from "./console.js";
import type { ExitStream } from "./exit-stream.js";
import type { MemoryHotplugFamily } from "./memory-hotplug.js";
import type { MicroVmEvent, MicroVmExit, MicroVmState } from "./messages.js";
import type { MetadataStore } from "./metadata-store.js";
import type { MicrovmSupervisor } from "./microvm-supervisor.js";
import type { PmemSet } from "./pmem-set.js";

/** Now, or when another process has answered. */
export type Eventually<T> = T | Promise<T>;

type Metrics = MicrovmSupervisor["metrics"];

/** Counters of a microVM; of one in another process, those that are told of. */
export type RunningMetrics = Pick<
  Metrics,
  "vcpus" | "drives" | "networkInterfaces" | "entropy" | "serial"
> &
  Partial<Metrics>;

/** Its balloon. */
export interface RunningBalloon {
  /** As they were last heard of. */
  readonly amounts: BalloonFamily["amounts"];
  setTarget(amountMib: number): Eventually<void>;
  setStatsInterval(seconds: number): Eventually<void>;
  report(): Eventually<BalloonReport>;
  startHinting(acknowledgesStop?: boolean): Eventually<void>;
  stopHinting(): Eventually<void>;
  readonly hinting: Eventually<BalloonFamily["hinting"]>;
}

/** Those of its devices that somebody outside speaks to. */
export interface RunningDevices {
  readonly interfaces: { update(id: string, change: NetworkInterfaceChange): Eventually<void> };
  readonly metadata: { readonly data: Pick<MetadataStore, "get" | "put" | "patch"> } | undefined;
  readonly vsock?: { readonly agent: Pick<GuestAgent, "openStream"> } | undefined;
  readonly balloon?: RunningBalloon | undefined;
  readonly pmem: Pick<PmemSet, "limit">;
  /** Raises ERR_ESTALO_STATE for a microVM without one. */
  requireBalloon(): RunningBalloon;
  /** Raises ERR_ESTALO_STATE for a microVM without it. */
  requireMemoryHotplug(): MemoryHotplugFamily;
}

/** See the file's header. */
export interface RunningMicrovm {
  readonly state: MicroVmState;
  readonly events: { readonly stream: Observable<MicroVmEvent> };
  readonly console: Console;
  readonly exits: Pick<ExitStream, "devices" | "batches" | "counts">;
  /** Fulfilled, never rejected, when it has ended and nothing of it is left. */
  readonly exited: Promise<MicroVmExit>;
  /** Counters, as they were last heard of. */
  readonly metrics: RunningMetrics;
  /** Where `metrics` come from elsewhere: has them be those of now. Never rejects. */
  refreshMetrics?(): Promise<void>;
  /** Folder in /proc of each vCPU's thread; empty: it has none now. */
  readonly vcpuThreads: readonly string[];
  readonly devices: RunningDevices;
  start(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Fulfilled when nothing of it is left. */
  kill(): Promise<void>;
  /** False: the guest has not read the last ones. */
  sendCtrlAltDelete(): Eventually<boolean>;
  updateDrive(id: string, change: DriveChange): Promise<void>;
}
