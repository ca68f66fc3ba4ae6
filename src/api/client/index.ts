/**
 * `estalo/client`: the client of `estalo serve`, without anything native.
 */

export {
  EXIT_KINDS,
  type ExitBatch,
  type ExitInfo,
  type ExitKind,
} from "../../actors/exit-batch.js";
export {
  type ErrorCode,
  type ErrorFamily,
  type ErrorRecord,
  EstaloError,
  isEstaloError,
} from "../../errors.js";
export { decodeExitFrame } from "../exit-frames.js";
export { type ClientOptions, EstaloClient } from "./client.js";
export type {
  Balloon,
  BalloonHintingStatus,
  BalloonStats,
  BalloonStatsUpdate,
  BalloonUpdate,
  BootSource,
  CpuConfig,
  Drive,
  DriveUpdate,
  Entropy,
  FullConfig,
  InstanceAction,
  MachineConfig,
  MachineConfigUpdate,
  MemoryHotplug,
  MemoryHotplugStatus,
  MemoryHotplugUpdate,
  MicrovmConfiguration,
  MmdsConfig,
  NetworkInterface,
  NetworkInterfaceUpdate,
  Pmem,
  PmemUpdate,
  Serial,
  Vsock,
} from "./configuration.js";
export type { CallOptions } from "./connection.js";
export type { ConsoleOptions, ConsoleStream } from "./console-stream.js";
export type { EventsOptions } from "./event-stream.js";
export type { ExitsMessage, ExitsOptions } from "./exit-stream.js";
export type { CreateOptions, ListOptions, Microvms, StopCallOptions } from "./microvms.js";
export type { ClientTls, Pem, ServerOptions } from "./server-address.js";
export type {
  DeviceChanges,
  ExitMessage,
  ExitsBatchMessage,
  ExitsCountsMessage,
  ExitsHelloMessage,
  FleetEvent,
  FleetEventType,
  Health,
  Microvm,
  MicrovmExit,
  MicrovmMetrics,
  MicrovmPage,
  MicrovmSpec,
  MicrovmState,
  MicrovmUpdate,
  RateLimitMessage,
  RestartPolicy,
  ServerInfo,
} from "./types.js";
