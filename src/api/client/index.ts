/**
 * `estalo/client`: the client of `estalo serve`, without anything native.
 */
export {
  type ErrorCode,
  type ErrorFamily,
  type ErrorRecord,
  EstaloError,
  isEstaloError,
} from "../../errors.js";
export { type ClientOptions, EstaloClient } from "./client.js";
export type {
  BootSource,
  CpuConfig,
  Drive,
  DriveUpdate,
  Entropy,
  FullConfig,
  InstanceAction,
  MachineConfig,
  MachineConfigUpdate,
  MicrovmConfiguration,
} from "./configuration.js";
export type { CallOptions } from "./connection.js";
export type { ConsoleOptions, ConsoleStream } from "./console-stream.js";
export type { EventsOptions } from "./event-stream.js";
export type { ExitsMessage, ExitsOptions } from "./exit-stream.js";
export type { CreateOptions, ListOptions, Microvms, StopCallOptions } from "./microvms.js";
export type { ClientTls, Pem, ServerOptions } from "./server-address.js";
export type {
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
  RestartPolicy,
  ServerInfo,
} from "./types.js";
