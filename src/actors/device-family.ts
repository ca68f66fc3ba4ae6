/**
 * A family is all virtio devices of one kind in a microVM: its drives, its network interfaces, … It opens what
 * is behind them before anything else is made, so that a wrong path fails at once; it gets guest memory when
 * there is some, and frees what it owns.
 */
import type { NativeGuestMapping, NativeVm } from "../native/binding.js";
import type { GuestMemory } from "../native/guest-memory.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceHost } from "./device-host.js";

/** What the backends of a family are made with. */
export interface DeviceSurroundings {
  readonly vm: NativeVm;
  readonly mapping: NativeGuestMapping;
  readonly memory: GuestMemory;
  readonly host: DeviceHost;
  /** Something failed that no request can be blamed for: the microVM cannot go on. */
  readonly onError: (error: unknown) => void;
}

/** Devices of one kind. Thread: the device host's. */
export interface DeviceFamily {
  /** One for each device, in the order of their windows. */
  readonly requests: readonly VirtioDeviceRequest[];
  /** Makes what needs guest memory; called once, before any device is created. */
  connect(surroundings: DeviceSurroundings): void;
  /** Frees everything; the devices are quiet. Counters stay. Idempotent. */
  close(): void;
}
