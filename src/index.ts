/**
 * Estalo: microVMs for Node.js. This is the package's only public door.
 */
export type { FileCallOptions } from "./actors/agent/channel.js";
export type { CopyInOptions, CopySummary } from "./actors/agent/copy-in.js";
export type { CopyOutOptions } from "./actors/agent/copy-out.js";
export type { GuestFiles, ReadOptions, WriteOptions } from "./actors/agent/files.js";
export type { GuestAgent, HealthOptions } from "./actors/agent/guest-agent.js";
export type { ExecOptions, ExecResult, GuestProcess } from "./actors/agent/process.js";
export type { FileInfo, FileKind, GuestHealth } from "./actors/agent/protocol.js";

export type { BalloonAmounts, BalloonReport } from "./actors/balloon-family.js";
export type { DriveRequest } from "./actors/block-middleware.js";
export type {
  CacheType,
  CpuTemplateConfig,
  DriveChange,
  DriveConfig,
  EntropyConfig,
  IoEngine,
  MicroVmConfig,
  SerialConfig,
  StoredConfig,
} from "./actors/config.js";
export type { BalloonConfig } from "./actors/config-balloon.js";
export {
  defineMmioDevice,
  definePortDevice,
  defineVirtioDevice,
  type UserBusDevice,
  type UserDevice,
  type UserVirtioDevice,
} from "./actors/config-devices.js";
export type { MemoryHotplugConfig } from "./actors/config-memory-hotplug.js";
export type { MmdsConfig } from "./actors/config-mmds.js";
export type { NetworkInterfaceChange, NetworkInterfaceConfig } from "./actors/config-net.js";
export type { PmemChange, PmemConfig } from "./actors/config-pmem.js";
export type { VsockConfig } from "./actors/config-vsock.js";
export type { SerialBytes } from "./actors/console.js";
export { type DefaultGuest, defaultGuest } from "./actors/default-guest.js";
export type { BalloonChange, DeviceChanges } from "./actors/device-changes.js";
export type { EventJournal, FleetListener } from "./actors/event-journal.js";
export {
  EXIT_KINDS,
  type ExitBatch,
  type ExitColumns,
  type ExitInfo,
  type ExitKind,
} from "./actors/exit-batch.js";
export {
  EXIT_FIELDS,
  type ExitCounts,
  type ExitField,
  type ExitGroup,
} from "./actors/exit-counts.js";
export type { ExitFilter, ExitWatchOptions } from "./actors/exit-filter.js";
export type { ExitCountOptions } from "./actors/exit-stream.js";
export { Fleet, type FleetOptions } from "./actors/fleet.js";
export type { FleetStopOptions } from "./actors/fleet-member.js";
export type {
  FleetChange,
  FleetCounters,
  FleetCreation,
  FleetEvent,
  FleetPage,
  FleetQuery,
  FleetRecord,
  FleetSpec,
  FleetState,
  RestartPolicy,
} from "./actors/fleet-messages.js";
export type { MemoryHotplugReport } from "./actors/memory-hotplug.js";
export {
  type BalloonMember,
  type BalloonStep,
  balloonsOf,
  type MemoryPolicyOptions,
  memoryPolicy,
} from "./actors/memory-policy.js";
export {
  type MemoryPressure,
  type PressureOptions,
  pressure$,
} from "./actors/memory-pressure.js";
export type { ExitReason, MicroVmEvent, MicroVmExit, MicroVmState } from "./actors/messages.js";
export type { Metadata } from "./actors/metadata-store.js";
export type { Middleware, MiddlewareMetrics, Next } from "./actors/middleware.js";
export type { Direction, NetFrame, NetMiddlewareOptions } from "./actors/net-middleware.js";
export type { DeviceRateLimitEvent, RateLimitEvent } from "./actors/rate-limits.js";
export type { Timings } from "./actors/timings.js";
export type { VsockConnect } from "./actors/vsock-family.js";
export type { VsockStream } from "./actors/vsock-stream.js";
export type { BusDevice, BusDeviceDefinition, BusDeviceMetrics } from "./devices/mailbox-back.js";
export type { RateLimiterConfig, TokenBucketConfig } from "./devices/rate-limiter.js";
export type {
  ChainDeviceMetrics,
  VirtioDevice,
  VirtioDeviceDefinition,
} from "./devices/virtio/chain-device.js";
export type { DeviceChain } from "./devices/virtio/device-chain.js";
export {
  type ErrorCode,
  type ErrorFamily,
  type ErrorRecord,
  EstaloError,
  isEstaloError,
} from "./errors.js";
export { type CallOptions, MicroVm, type StopOptions } from "./microvm.js";
export type { ExitRecord, TraceReader } from "./native/trace-ring.js";
