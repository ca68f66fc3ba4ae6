/**
 * The devices of a user's own in one microVM: their backs, and when their definitions hear of a beginning and
 * an end.
 */
import { type BusDeviceMetrics, MailboxBack } from "../devices/mailbox-back.js";
import { ChainDevice, type ChainDeviceMetrics } from "../devices/virtio/chain-device.js";
import { EstaloError, toEstaloError } from "../errors.js";
import type { UserBusDevice, UserDevice, UserVirtioDevice } from "./config-devices.js";
import type { BusDeviceRequest, VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily } from "./device-family.js";

/** See the file's header. Thread: the device host's. */
export class UserDevices implements DeviceFamily {
  /** One for each virtio device, in the order of the configuration. */
  readonly requests: readonly VirtioDeviceRequest[];
  /** One for each device on a bus. */
  readonly busRequests: readonly BusDeviceRequest[];
  readonly #devices = new Map<string, ChainDevice | MailboxBack>();
  readonly #attached = new Set<ChainDevice | MailboxBack>();

  constructor(devices: readonly UserDevice[]) {
    this.requests = devices
      .filter((device): device is UserVirtioDevice => device.kind === "virtio")
      .map((definition) => ({
        name: `device ${definition.id}`,
        create: (host) => this.#keep(definition.id, new ChainDevice(host, definition)),
      }));
    this.busRequests = devices
      .filter((device): device is UserBusDevice => device.kind !== "virtio")
      .map((definition) => ({
        name: `device ${definition.id}`,
        space: definition.kind === "port" ? "pio" : "mmio",
        start: definition.base,
        sizeBytes: definition.sizeBytes,
        hasIrq: definition.irq ?? false,
        createMailbox: (state, wiring) =>
          this.#keep(definition.id, new MailboxBack(state, definition, wiring)),
      }));
  }

  connect(): void {}

  /** Tells the definitions that their microVM is made; raises ERR_ESTALO_DEVICE_FAILED with what one throws. */
  attach(): void {
    for (const [id, device] of this.#devices) {
      try {
        this.#attached.add(device);
        device.attached();
      } catch (error) {
        throw failed(id, error);
      }
    }
  }

  /** Counters of each device, by id. */
  get metrics(): Readonly<Record<string, ChainDeviceMetrics | BusDeviceMetrics>> {
    return Object.fromEntries([...this.#devices].map(([id, { metrics }]) => [id, metrics]));
  }

  /** Tells the definitions that their microVM has ended, each whatever the others throw. Idempotent. */
  close(): void {
    let failure: EstaloError | undefined;
    for (const [id, device] of this.#devices) {
      try {
        device.close(this.#attached.has(device));
      } catch (error) {
        failure ??= failed(id, error);
      }
    }
    if (failure !== undefined) throw failure;
  }

  #keep<T extends ChainDevice | MailboxBack>(id: string, device: T): T {
    this.#devices.set(id, device);
    return device;
  }
}

function failed(id: string, error: unknown): EstaloError {
  const cause = toEstaloError(error);
  return new EstaloError("ERR_ESTALO_DEVICE_FAILED", `device ${id}: ${cause.message}`, {
    cause,
    data: { device: `device ${id}` },
  });
}
