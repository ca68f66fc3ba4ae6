/**
 * Everything that crosses a thread boundary of a microVM, and every event it tells the world.
 *
 * Commands to a vCPU thread are Comlink calls (`VcpuThread`), sent by the supervisor only. What a vCPU
 * tells the devices goes through its exit ring, not through messages.
 */
import type { FrontKind } from "../devices/device.js";
import type { ErrorRecord } from "../errors.js";
import type { VcpuBlock } from "./shared-block.js";

/** One window of a device on a bus, as a vCPU thread needs it to build its fronts. */
export interface DeviceWindow {
  readonly kind: FrontKind;
  readonly space: "pio" | "mmio";
  readonly start: number;
  readonly sizeBytes: number;
  /** Index in the microVM's device table: what exit-ring entries carry. */
  readonly device: number;
  /** Byte offset and count of the device's shared words. */
  readonly stateOffset: number;
  readonly stateWords: number;
  /** The irqfd's eventfd, or -1 for a device whose front raises no interrupt. */
  readonly irqFd: number;
}

/**
 * `attach`: a vCPU thread takes a vCPU. Sender: supervisor; legal while the thread holds none; answered
 * when the thread can run it, or by an ErrorRecord (ERR_ESTALO_HOST).
 */
export interface VcpuSetup {
  /** Index of the vCPU, also in its thread's name. */
  readonly vcpu: number;
  readonly vcpuFd: number;
  readonly mmapBytes: number;
  readonly shared: SharedArrayBuffer;
  readonly block: VcpuBlock;
  /** Signalled when an exit ring has news and the device host sleeps. */
  readonly hostFd: number;
  readonly devices: readonly DeviceWindow[];
}

/**
 * How `run` ended. `kicked`: asked to by `pending` (pause, stop). `shutdown`: triple fault. `failed`: the
 * vCPU cannot go on; the record says why.
 */
export type VcpuOutcome =
  | { readonly kind: "kicked" }
  | { readonly kind: "shutdown" }
  | { readonly kind: "failed"; readonly error: ErrorRecord };

/** In a vCPU's `pending`: it has to leave the guest (pause, stop); its process ends, and nobody drains its ring. */
export const LEAVE = 1;
export const GO_HOME = 2;

/** What a vCPU thread answers to; every call is made by the supervisor. */
export interface VcpuThread {
  attach(setup: VcpuSetup): ErrorRecord | undefined;
  /** Runs the guest; the thread answers nothing else until it returns. */
  run(): VcpuOutcome;
  /** Lets go of the vCPU, so that the thread can take another and the supervisor may close it. */
  detach(): void;
}

/** Why a microVM ended. Each has a documented exit code (docs/exit-codes.md). */
export type ExitReason = "poweroff" | "reboot" | "panic" | "triple-fault" | "killed" | "failed";

/** The end of a microVM. */
export interface MicroVmExit {
  readonly reason: ExitReason;
  /** 0 to 255: what the guest's command reported, when it did. */
  readonly guestStatus: number | undefined;
  /** Present when `reason` is "failed". */
  readonly error: ErrorRecord | undefined;
  /** The exit code of a command that ran this microVM. */
  readonly exitCode: number;
}

/** Where a microVM is in its life. */
export type MicroVmState =
  | "created"
  | "starting"
  | "running"
  | "paused"
  | "stopping"
  | "stopped"
  | "failed";

/** What a microVM tells of itself, in order. `atMs` is milliseconds on `performance.now()`'s clock. */
export type MicroVmEvent =
  | { readonly type: "state"; readonly state: MicroVmState; readonly atMs: number }
  | { readonly type: "booted"; readonly atMs: number }
  | { readonly type: "command-exited"; readonly status: number; readonly atMs: number }
  | { readonly type: "panicked"; readonly atMs: number }
  | {
      readonly type: "drive-changed";
      readonly drive: string;
      readonly sizeBytes: number;
      readonly atMs: number;
    }
  | {
      readonly type: "device-failed";
      readonly device: string;
      readonly error: ErrorRecord;
      readonly atMs: number;
    }
  | {
      readonly type: "device-needs-reset";
      readonly device: string;
      readonly reason: string;
      readonly atMs: number;
    }
  | { readonly type: "exited"; readonly exit: MicroVmExit; readonly atMs: number };
