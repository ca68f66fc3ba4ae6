/**
 * A microVM that runs, as its fleet and the doors see it: a supervisor of this process, or one of a jailed
 * process (isolation/remote-microvm.ts), which answers some calls later.
 */
import type { Observable } from "rxjs";
import type { RateLimiterConfig, TokenBucketConfig } from "../devices/rate-limiter.js";
import type { GuestAgent } from "./agent/guest-agent.js";
import type { BalloonFamily, BalloonReport } from "./balloon-family.js";
import type { DriveChange } from "./config.js";
import type { NetworkInterfaceChange } from "./config-net.js";
import type { Console } from "./console.js";
import type { ExitStream } from "./exit-stream.js";
import type { MemoryHotplugReport } from "./memory-hotplug.js";
import type { MicroVmEvent, MicroVmExit, MicroVmState } from "./messages.js";
import type { MetadataStore } from "./metadata-store.js";
import type { MicrovmSupervisor } from "./microvm-supervisor.js";
import type { DeviceRateLimitEvent } from "./rate-limits.js";

/** Now, or when another process has answered. */
export type Eventually<T> = T | Promise<T>;

type Metrics = MicrovmSupervisor["metrics"];

/** Counters of a microVM that the doors tell of. */
export type RunningMetrics = Pick<
  Metrics,
  "vcpus" | "drives" | "networkInterfaces" | "pmem" | "serial"
> &
  Partial<Pick<Metrics, "entropy" | "vsock" | "balloon" | "memoryHotplug" | "mmds">>;

/** Of one of which nothing was heard. */
export const NO_METRICS: RunningMetrics = {
  vcpus: [],
  drives: {},
  networkInterfaces: {},
  pmem: {},
  serial: { transmittedBytes: 0, receivedBytes: 0, droppedBytes: 0 },
};

/** Those of all that a microVM counts. */
export function runningMetricsOf(metrics: RunningMetrics): RunningMetrics {
  const { vcpus, drives, networkInterfaces, pmem, serial } = metrics;
  const { entropy, vsock, balloon, memoryHotplug, mmds } = metrics;
  return {
    ...{ vcpus, drives, networkInterfaces, pmem, serial },
    ...{ entropy, vsock, balloon, memoryHotplug, mmds },
  };
}

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

/** Memory that it is given while it runs. */
export interface RunningMemoryHotplug {
  setRequestedSize(requestedSizeMib: number): Eventually<void>;
  report(): Eventually<MemoryHotplugReport>;
}

/** Those of its devices that somebody outside speaks to. */
export interface RunningDevices {
  readonly interfaces: { update(id: string, change: NetworkInterfaceChange): Eventually<void> };
  readonly metadata: { readonly data: Pick<MetadataStore, "get" | "put" | "patch"> } | undefined;
  readonly vsock?: { readonly agent: Pick<GuestAgent, "openStream"> } | undefined;
  readonly balloon?: RunningBalloon | undefined;
  readonly pmem: { limit(id: string, change: RateLimiterConfig): Eventually<void> };
  /** Raises ERR_ESTALO_STATE for a microVM without an entropy device. */
  limitEntropy(change: RateLimiterConfig): Eventually<void>;
  /** Of the serial port's output. */
  limitSerial(bucket: TokenBucketConfig): Eventually<void>;
  /** What the rate limiters do, from the subscription on; completes when the microVM has ended. */
  readonly rateLimits$: Observable<DeviceRateLimitEvent>;
  /** Raises ERR_ESTALO_STATE for a microVM without one. */
  requireBalloon(): RunningBalloon;
  /** Raises ERR_ESTALO_STATE for a microVM without it. */
  requireMemoryHotplug(): RunningMemoryHotplug;
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
