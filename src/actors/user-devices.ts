/**
 * The devices of a user's own in one microVM: their backs, and when their definitions hear of a beginning and
 * an end.
 */
import { ChainDevice, type ChainDeviceMetrics } from "../devices/virtio/chain-device.js";
import { EstaloError, toEstaloError } from "../errors.js";
import type { UserDevice } from "./config-devices.js";
import type { VirtioDeviceRequest } from "./device-board.js";
import type { DeviceFamily } from "./device-family.js";

/** See the file's header. Thread: the device host's. */
export class UserDevices implements DeviceFamily {
  /** One for each virtio device, in the order of the configuration. */
  readonly requests: readonly VirtioDeviceRequest[];
  readonly #devices = new Map<string, ChainDevice>();
  readonly #attached: ChainDevice[] = [];

  constructor(devices: readonly UserDevice[]) {
    this.requests = devices.map((definition) => ({
      name: `device ${definition.id}`,
      create: (host) => {
        const device = new ChainDevice(host, definition);
        this.#devices.set(definition.id, device);
        return device;
      },
    }));
  }

  connect(): void {}

  /** Tells the definitions that their microVM is made; raises ERR_ESTALO_DEVICE_FAILED with what one throws. */
  attach(): void {
    for (const [id, device] of this.#devices) {
      try {
        this.#attached.push(device);
        device.attached();
      } catch (error) {
        throw failed(id, error);
      }
    }
  }

  /** Counters of each device, by id. */
  get metrics(): Readonly<Record<string, ChainDeviceMetrics>> {
    return Object.fromEntries([...this.#devices].map(([id, { metrics }]) => [id, metrics]));
  }

  /** Tells the definitions that their microVM has ended, each whatever the others throw. Idempotent. */
  close(): void {
    let failure: EstaloError | undefined;
    for (const device of this.#devices.values()) {
      try {
        device.close(this.#attached.includes(device));
      } catch (error) {
        failure ??= failed(device.handle.id, error);
      }
    }
    if (failure !== undefined) throw failure;
  }
}

function failed(id: string, error: unknown): EstaloError {
  const cause = toEstaloError(error);
  return new EstaloError("ERR_ESTALO_DEVICE_FAILED", `device ${id}: ${cause.message}`, {
    cause,
    data: { device: `device ${id}` },
  });
}
